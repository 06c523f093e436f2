"""A tiny published InternVL-14B with a vocabulary, and made-up benchmarks in their published layouts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from sentencepiece import SentencePieceTrainer

from internvl_mm.evaluation.prompts import read_prompts
from tests.zero_shot_cases import write_picture

GOLDEN = Path(__file__).parents[1] / 'data' / 'golden' / 'internvl_14b_tiny'
EMOTIONS = ('angry', 'disgust', 'fear', 'happy', 'neutral', 'sad', 'surprise')


def write_model(folder: Path) -> str:
    """The golden InternVL-14B of 56 pixels as a published folder has it, with a vocabulary of its size."""
    folder.mkdir(parents=True)
    for name in ('config.json', 'model.safetensors'):
        shutil.copy(GOLDEN / name, folder / name)
    templates = read_prompts('templates', 'en')
    lines = [template.replace('{c}', 'face') for each in templates.values() for template in each]
    SentencePieceTrainer.train(
        sentence_iterator=iter([*lines, 'summarize: English caption:', *EMOTIONS]),
        model_prefix=str(folder / 'tokenizer'),
        vocab_size=256,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    (folder / 'tokenizer.vocab').unlink()
    return str(folder)


def write_fer2013(data: Path, per_class: int = 2) -> None:
    """Emotions in one folder each, as ``configs/zero_shot/fer2013.py`` reads them."""
    for label, name in enumerate(EMOTIONS):
        for number in range(per_class):
            write_picture(data / 'fer2013' / 'test' / name / f'{number}.png', 10 * label + number)


def write_flickr30k(data: Path, images: int = 4, captions: int = 2) -> None:
    """Pictures with captions, English and Chinese, as ``configs/zero_shot/flickr30k*.py`` read them."""
    for name, text in (('test_karpathy', 'A photo of face {}, {}.'), ('cn_test', '照片 {} {}')):
        lines = ['image,caption']
        for image in range(images):
            write_picture(data / 'flickr30k' / 'Images' / f'{100 + image}.jpg', image)
            lines += [f'{100 + image}.jpg,{text.format(image, number)}' for number in range(captions)]
        (data / 'flickr30k' / f'flickr30k_{name}.txt').write_text('\n'.join(lines), 'utf-8')


def results(work_dir: Path) -> dict[str, dict]:
    """Rows of the latest run by ``benchmark/metric``."""
    file = max(work_dir.glob('*/results.json'), key=lambda path: path.stat().st_mtime)
    return {f'{row["benchmark"]}/{row["metric"]}': row for row in json.loads(file.read_text('utf-8'))}
