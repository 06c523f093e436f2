"""Golden cases of InternVL-14B: both image paths, text, captions and the losses of the generative stage."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from safetensors.torch import load_file

from internvl_mm.models.hf_internvl_14b import IMAGE_MODES
from internvl_mm.models.hub import load_model
from internvl_mm.models.tasks.generative_alignment import AlignmentTexts, generative_losses

from .comparison import Comparison

# Recorded name, beams, fewest new tokens; 8 are the most.
_CAPTIONS = (('generated', 1, 2), ('generated_beam3', 3, 4))


def check_internvl_14b(folder: Path) -> Iterator[Comparison]:
    """InternVL-14B: embeddings and similarities of both modes, query states, losses, greedy and beam captions."""
    model, golden = load_model(folder), load_file(folder / 'golden.safetensors')
    pixels, text = golden['pixel_values'], golden['text']
    for mode in IMAGE_MODES:
        letter = mode[-1]  # C or G
        yield f'image_{letter}', model.encode_image(pixels, mode), golden[f'image_{letter}']
        yield f'text_{letter}', model.encode_text(text), golden[f'text_{letter}']
        per_image, per_text = model(image=pixels, text=text, mode=mode)
        yield f'logits_per_image_{letter}', per_image, golden[f'logits_per_image_{letter}']  # [B, T]
        yield f'logits_per_text_{letter}', per_text, golden[f'logits_per_text_{letter}']  # [T, B]
    yield 'query_features', model.get_image_features(pixels)[1], golden['query_features']  # [B, Q, D]
    positive, negative, summary, caption = (
        golden[f'{kind}_input_ids'] for kind in ('positive', 'negative', 'summarize', 'caption')
    )
    texts = AlignmentTexts(positive, negative, summary, caption, golden['caption_labels'])
    losses = generative_losses(model, pixels, texts)
    for name, loss in losses.items():
        yield name, loss.view(1), golden[name]
    yield 'loss', sum(losses.values()).view(1), golden['loss']  # equal weights
    for name, beams, fewest in _CAPTIONS:
        options = dict(num_beams=beams, min_new_tokens=fewest, max_new_tokens=8, do_sample=False)
        new = model.generate(pixels[:1], golden['prompt'], **options)
        # The version of transformers that recorded these put the begin token before what it generated.
        yield name, new.tolist(), golden[name][:, 1:].tolist()
