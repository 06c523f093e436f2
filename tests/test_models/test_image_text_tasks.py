"""Contrastive pretraining, the generative stage and retrieval fine-tuning as tasks."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from internvl_mm.engine.hooks import ResolutionSchedule
from internvl_mm.models.losses import SigmoidLoss
from internvl_mm.models.tasks import ContrastivePretraining, GenerativePretraining, RetrievalFinetuning
from internvl_mm.models.tasks.contrastive import keep_patches
from internvl_mm.models.tasks.generative_alignment import matching_loss
from internvl_mm.structures import ImageSample
from internvl_mm.utils.errors import ConfigError, DataError
from tests import cases


def batch(count: int = 4, **more) -> tuple[torch.Tensor, list[ImageSample]]:
    draws = torch.Generator().manual_seed(0)
    samples = []
    for index in range(count):
        meta = dict(
            dataset='toy', index=index, path=f'{index}.png', image_id=index, caption=f'A red {index}.'
        )
        samples.append(ImageSample(metainfo=dict(meta, negative=f'A blue {index + 1}.') | more))
    return torch.randn(count, 3, 28, 28, generator=draws), samples


def contrastive(**changes) -> ContrastivePretraining:
    torch.manual_seed(0)
    task = ContrastivePretraining(**{**cases.TASK_CASES[ContrastivePretraining], **changes})
    task.init_weights()
    return task


def alignment(kind: type = GenerativePretraining, *, trainable=None, **changes):
    torch.manual_seed(0)
    model = dict(cases.ALIGNMENT['model'], trainable=trainable)
    return kind(**{**cases.ALIGNMENT, 'model': model, **changes})


def test_masking_keeps_the_class_token_and_a_share_of_the_patches() -> None:
    tokens = torch.arange(2 * 17).view(2, 17, 1).float()
    kept = keep_patches(tokens, 0.5)
    assert kept.shape == (2, 9, 1) and torch.equal(kept[:, 0], tokens[:, 0])
    for row, source in zip(kept[..., 0].tolist(), tokens[..., 0].tolist(), strict=True):
        assert len(set(row)) == 9 and set(row) <= set(source)
    assert keep_patches(tokens, 0.99).shape == (2, 2, 1)


def test_contrastive_training_learns_pairs() -> None:
    task, (pixels, samples) = contrastive(), batch()
    optimizer = torch.optim.AdamW(task.parameters(), lr=3e-3)
    for step in range(40):
        losses = task(pixels, samples, mode='loss')
        if step == 0:
            first = losses['loss'].item()
        optimizer.zero_grad()
        losses['loss'].backward()
        optimizer.step()
    assert losses['loss'].item() < 0.2 * first
    assert losses['captions_cut'] == 0 and losses['scale'] > 1
    predicted = task.eval()(pixels, samples, mode='predict')
    images, texts = (
        torch.stack([sample.get(f'pred_{side}') for sample in predicted]) for side in ('image', 'text')
    )
    assert (images @ texts.T).argmax(dim=1).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize('changes', [dict(mask=0.5), dict(loss=dict(type=SigmoidLoss))])
def test_options_of_the_contrastive_stage(changes: dict) -> None:
    task, (pixels, samples) = contrastive(**changes), batch()
    task.training_size = 14
    loss = task(pixels, samples, mode='loss')['loss']
    loss.backward()
    assert loss.isfinite() and task.backbone.embeddings.position_embedding.grad is not None
    # Of 14 pixels there is one patch of 14, and it is never masked; of 28 there are four.
    assert task.training_grid((28, 28)) == (1, 1)
    task.training_size = None
    assert task.training_grid((28, 28)) == ((1, 2) if task.mask else (2, 2))


def test_both_towers_end_in_one_space() -> None:
    text = dict(cases.TASK_CASES[ContrastivePretraining]['text_encoder'], out_dim=5)
    with pytest.raises(ConfigError, match='text_encoder.out_dim=5 but the neck gives 8'):
        contrastive(text_encoder=text)
    with pytest.raises(ConfigError, match='must be ClassPrompts'):
        contrastive(class_prompts=dict(toy='cat'))


def test_equal_sentences_are_computed_once_and_each_gets_its_row(monkeypatch: pytest.MonkeyPatch) -> None:
    task, seen = contrastive().eval(), []
    encode = task.encode_ids
    device = torch.device('cpu')
    with torch.no_grad():
        apart = torch.cat([task.encode_texts([text], device) for text in ('a 3.', 'a 1.', 'a 3.')])
        monkeypatch.setattr(task, 'encode_ids', lambda ids: seen.append(len(ids)) or encode(ids))
        torch.testing.assert_close(task.encode_texts(['a 3.', 'a 1.', 'a 3.'], device), apart)
    assert seen == [2]


def test_a_classifier_is_the_mean_of_unit_vectors_and_forgotten_when_weights_may_change() -> None:
    task = contrastive().eval()
    with torch.no_grad():
        found = task.classifier('toy', torch.device('cpu'))
        rows = F.normalize(task.encode_texts(['a 1.', 'a 2.', 'a 3.'], torch.device('cpu')), dim=1)
        torch.testing.assert_close(found, rows)
        task.text_encoder.text_projection.neg_()
        assert task.classifier('toy', torch.device('cpu')) is found
        assert not torch.allclose(task.eval().classifier('toy', torch.device('cpu')), found)


def test_zero_shot_scores_are_full_precision_in_a_run_of_half() -> None:
    task, (pixels, samples) = contrastive().eval(), batch()
    task.set_precision(torch.bfloat16)
    with torch.no_grad():
        [*found] = task(pixels, [sample.new() for sample in samples], mode='predict')
        classes = task.classifier('toy', torch.device('cpu'))
    for sample in found:
        # Scores of 100 cosines in bf16 would be up to a quarter off, and many classes tied.
        torch.testing.assert_close(sample.pred_logits, 100 * classes @ sample.pred_image)


def test_samples_without_caption_are_told() -> None:
    pixels, samples = batch(2, caption=None)
    with pytest.raises(DataError, match='0.png has no caption'):
        contrastive()(pixels, samples, mode='loss')


@pytest.mark.parametrize('negatives', ['random', 'hard'])
@pytest.mark.parametrize('kind', [GenerativePretraining, RetrievalFinetuning])
def test_stages_with_a_qllama_give_their_losses(kind: type, negatives: str) -> None:
    task, (pixels, samples) = alignment(kind, negatives=negatives), batch()
    losses = task(pixels, samples, mode='loss')
    third = 'loss_itg' if kind is GenerativePretraining else 'loss_itc_backbone'
    if kind is GenerativePretraining:
        assert losses.pop('texts_cut') == 0
    assert set(losses) == {'loss_itm', 'loss_itc', third}
    assert all(loss.isfinite() for loss in losses.values())
    sum(losses.values()).backward()
    unused = {name.split('.')[1] for name, p in task.named_parameters() if p.grad is None or not p.grad.any()}
    allowed = {'clip_projector'} if kind is GenerativePretraining else {'qllama'}  # image pool; language head
    assert unused <= allowed


def test_hard_negatives_are_the_most_similar_texts_of_other_images() -> None:
    task, (pixels, samples) = alignment(negatives='hard').eval(), batch()
    with torch.no_grad():
        task.model.logit_scale.fill_(20.0)  # leaves no chance to any but the most similar
    samples[3].set_metainfo(dict(image_id=0))
    chosen = task._hard(pixels, samples)
    with torch.no_grad():
        images = F.normalize(task.model.encode_image(pixels, 'InternVL-C'), dim=1)
        texts = F.normalize(task.encode_texts([sample.caption for sample in samples], pixels.device), dim=1)
    scores = images @ texts.T
    scores[torch.eye(4, dtype=torch.bool)] = scores[0, 3] = scores[3, 0] = -2
    assert chosen == scores.argmax(dim=1).tolist()
    with pytest.raises(DataError, match='needs two images in every batch'):
        task._hard(pixels, batch(image_id=1)[1])


def test_captions_of_a_task_are_text() -> None:
    captions = alignment().eval().caption(batch(2)[0], max_new_tokens=4)
    assert len(captions) == 2 and all(isinstance(text, str) for text in captions)


def test_samples_with_references_are_described_in_their_language() -> None:
    prompts = dict(zh='Chinese caption:')
    task = alignment(
        tokenizer=dict(cases.ALIGNMENT['tokenizer'], prompts=prompts), generation=dict(max_new_tokens=3)
    ).eval()
    pixels, samples = batch(3, references=['A red 3.'])
    for sample, language in zip(samples, ('zh', 'en', 'zh'), strict=True):
        sample.set_metainfo(dict(language=language))
    found = [sample.pred_caption for sample in task(pixels, samples, mode='predict')]
    assert 'pred_image' not in samples[0]
    # Each as alone, so that prompts of two lengths do not touch one another.
    for number, language in enumerate(('zh', 'en', 'zh')):
        alone = task.caption(pixels[number : number + 1], language, max_new_tokens=3)
        assert found[number] == alone[0]
    assert alignment().generation == dict(num_beams=5, do_sample=False, min_new_tokens=8, max_new_tokens=30)
    with pytest.raises(DataError, match='1 of 2 samples of a batch have references'):
        task(pixels[:2], [samples[0], batch(1)[1][0]], mode='predict')


def test_a_video_is_the_mean_of_its_frames() -> None:
    task, (pixels, samples) = contrastive().eval(), batch(6)
    videos = pixels.view(2, 3, 3, 28, 28)
    with torch.no_grad():
        found = task(videos, mode='tensor')
        expected = task.encode_images(pixels).view(2, 3, -1).mean(dim=1)
        predicted = task(videos, samples[:2], mode='predict')
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(predicted[1].pred_image, F.normalize(expected[1], dim=0))


def test_cut_texts_are_counted() -> None:
    pixels, samples = batch(2, caption='A red 3. ' * 60)
    losses = alignment()(pixels, samples, mode='loss')
    # Of two captions each as matching, contrast and generation; the negatives are short.
    assert losses['texts_cut'] == 6
    assert contrastive()(pixels, samples, mode='loss')['captions_cut'] == 2


def test_matching_leaves_out_rows_that_do_not_count() -> None:
    logits, right = torch.randn(3, 2), torch.tensor([False, True, True])
    counts = torch.tensor([True, False, True])
    expected = F.cross_entropy(logits[[0, 2]], torch.tensor([0, 1]))
    torch.testing.assert_close(matching_loss(logits, right, counts), expected)
    assert matching_loss(logits, right, torch.zeros(3, dtype=torch.bool)) == 0


def test_batches_the_stages_cannot_use_are_told() -> None:
    task, (pixels, samples) = alignment(), batch(1)
    with pytest.raises(DataError, match='batch of 1 image'):
        task(pixels, samples, mode='loss')
    bare = [ImageSample(metainfo=dict(dataset='toy', index=0, path=None, caption='x')) for _ in range(2)]
    with pytest.raises(DataError, match="with_negative=True of the data set, or negatives='hard'"):
        task(torch.randn(2, 3, 28, 28), bare, mode='loss')
    for sample in bare:
        sample.set_metainfo(dict(negative='y'))
    with pytest.raises(DataError, match='have no image_id'):
        alignment(RetrievalFinetuning)(torch.randn(2, 3, 28, 28), bare, mode='loss')


def test_settings_that_cannot_be_are_told() -> None:
    with pytest.raises(ConfigError, match="image_mode='C'"):
        alignment(image_mode='C')
    small = dict(cases.ALIGNMENT['model'], qllama=dict(cases.LLAMA, vocab_size=100))
    with pytest.raises(ConfigError, match='512 ids but the model vocab_size=100'):
        GenerativePretraining(**{**cases.ALIGNMENT, 'model': small})


def test_the_resolution_schedule_follows_the_iteration() -> None:
    hook = ResolutionSchedule([(0, 14, 0.5), (10, 28, 0.0)])
    task = contrastive()

    class Runner:
        model, iter = task, 0

    hook.before_train(Runner)
    seen = []
    for Runner.iter in (0, 9, 10, 99):
        hook.before_train_iter(Runner, 0)
        seen.append((task.training_size, task.mask))
    assert seen == [(14, 0.5), (14, 0.5), (28, 0.0), (28, 0.0)]
    for stages in ([], [(5, 14, 0.0)], [(0, 14, 0.0), (0, 28, 0.0)]):
        with pytest.raises(ConfigError, match='begin at 0 and follow one another'):
            ResolutionSchedule(stages)
    with pytest.raises(ConfigError, match='size=15 is no multiple of patch_size=14'):
        ResolutionSchedule([(0, 15, 0.0)]).before_train(Runner)
    Runner.model = torch.nn.Identity()
    with pytest.raises(ConfigError, match='task with training_size'):
        hook.before_train(Runner)
