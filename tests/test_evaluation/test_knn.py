"""k-nearest-neighbour scores against scikit-learn and hand-made answers."""

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier

from internvl_mm.evaluation.knn import knn_scores


def test_equals_scikit_learn_with_the_same_weights():
    generator = np.random.default_rng(0)
    bank, queries = generator.normal(size=(60, 8)), generator.normal(size=(25, 8))
    labels = generator.integers(0, 4, size=60)

    def weights(distances):  # cosine distance d = 1 - similarity
        return np.exp((1 - distances) / 0.07)

    peer = KNeighborsClassifier(7, weights=weights, metric='cosine').fit(bank, labels)
    ours = knn_scores(
        torch.from_numpy(queries), torch.from_numpy(bank), torch.from_numpy(labels), num_classes=4, k=7
    )
    np.testing.assert_allclose(ours.numpy(), peer.predict_proba(queries), atol=1e-4)


def test_nearest_neighbour_of_a_bank_entry_is_itself():
    bank = torch.eye(5)
    scores = knn_scores(bank * 3, bank, torch.tensor([0, 1, 2, 1, 0]), num_classes=3, k=1)
    assert scores.argmax(1).tolist() == [0, 1, 2, 1, 0]
    torch.testing.assert_close(scores.sum(1), torch.ones(5))


@pytest.mark.parametrize('k', [0, 4])
def test_k_outside_the_bank_is_refused(k):
    with pytest.raises(ValueError, match=f'k={k}.*1 to 3'):
        knn_scores(torch.eye(3), torch.eye(3), torch.arange(3), num_classes=3, k=k)
