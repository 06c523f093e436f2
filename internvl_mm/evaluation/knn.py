"""k-nearest-neighbour classification on frozen features."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def knn_scores(
    queries: Tensor, bank: Tensor, labels: Tensor, *, num_classes: int, k: int = 20, temperature: float = 0.07
) -> Tensor:
    """Vote of the k nearest bank features under cosine similarity, each weighted by exp(similarity / temperature).

    Args:
        queries: Features to classify, ``[Q, C]``.
        bank: Features of known images, ``[M, C]``.
        labels: Classes of the bank, ``LongTensor[M]``.
        num_classes: Number of classes K.
        k: Neighbours that vote; at most M.
        temperature: Softness of the weights; 0.07 as in the source.

    Returns:
        Scores ``[Q, K]``, each row sums to 1. Uses O(Q·M) memory: pass queries in chunks.

    Raises:
        ValueError: ``k`` is not in 1..M.

    Source: Wu et al. 2018 (arXiv 1805.01978), as used by DINO.
    """
    if not 1 <= k <= len(bank):
        raise ValueError(f'k={k}: the bank has {len(bank)} features, so k can be 1 to {len(bank)}')
    # [Q, M]; of it only [Q, k] goes on.
    similarity = F.normalize(queries.float(), dim=1) @ F.normalize(bank.float(), dim=1).T
    nearest, index = similarity.topk(k, dim=1)
    # A softmax over the k nearest: the same votes as exp(s / t), without overflow.
    votes = (nearest / temperature).softmax(dim=1)  # [Q, k]
    scores = torch.zeros(len(queries), num_classes, device=queries.device)  # [Q, K]
    # Added, not set: several of the k neighbours may have one class.
    return scores.scatter_add_(1, labels[index], votes)
