"""The door that checks chat data."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from internvl_mm.preprocess.chat_folder import encoder_of
from internvl_mm.preprocess.tiling import PadTiling, SquashTiling
from internvl_mm.utils.errors import ConfigError
from tests.chat_cases import TOKENIZERS, talk, write_jsonl
from tools.check_data import main


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model folder as far as data is concerned."""
    folder = tmp_path / 'model'
    folder.mkdir()
    for file in (TOKENIZERS / 'tokenizer_qwen2').iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    config = dict(
        model_type='internvl_chat',
        template='Hermes-2',
        system_message='Be brief.',
        force_image_size=56,
        dynamic_image_size=True,
        use_thumbnail=True,
        max_dynamic_patch=4,
        vision_config=dict(patch_size=14, image_size=448),
    )
    (folder / 'config.json').write_text(json.dumps(config))
    return folder


def run(tmp_path: Path, lines: list[dict], *words: str) -> int:
    annotation = write_jsonl(tmp_path / 'a.jsonl', lines)
    (tmp_path / 'meta.json').write_text(json.dumps(dict(toy=dict(annotation=annotation))))
    return main([str(tmp_path / 'meta.json'), '--out', str(tmp_path / 'out'), '--workers', '0', *words])


def test_clean_data(tmp_path: Path, model: Path, capsys) -> None:
    assert run(tmp_path, [dict(conversations=talk('Q', 'A'))], '--model', str(model)) == 0
    assert '1 samples, 0 cannot be used' in capsys.readouterr().out.replace('\n', ' ')
    line = json.loads((tmp_path / 'out' / 'samples.jsonl').read_text())
    assert (line['labels'], line['tiles'], line['findings']) == (2, 0, [])
    assert (tmp_path / 'out' / 'report.html').is_file()


def test_bad_data_and_mistakes(tmp_path: Path, capsys) -> None:
    assert run(tmp_path, [dict(conversations=[])]) == 1
    assert 'format' in capsys.readouterr().out
    assert main([str(tmp_path / 'gone.json')]) == 2
    assert 'cannot be read as JSON' in capsys.readouterr().err
    assert run(tmp_path, [dict(conversations=[])], '--model', str(tmp_path)) == 2
    with pytest.raises(SystemExit):
        run(tmp_path, [], '--workers', '-1')


def test_the_encoder_of_a_model_folder(model: Path) -> None:
    encoder = encoder_of(model)
    assert (encoder.tokens_per_tile, encoder.text.template.system_message) == (4, 'Be brief.')
    assert repr(encoder.tiling) == 'DynamicTiling(4, min_num=1, size=56, thumbnail=True)'
    config = json.loads((model / 'config.json').read_text())
    for change, kind in ((dict(pad2square=True), PadTiling), ({}, SquashTiling)):
        (model / 'config.json').write_text(json.dumps({**config, 'dynamic_image_size': False, **change}))
        assert type(encoder_of(model).tiling) is kind
    (model / 'config.json').write_text('{}')
    with pytest.raises(ConfigError, match="has no 'template'; name one: Hermes-2"):
        encoder_of(model)
    assert encoder_of(model, template='internvl2_5').tokens_per_tile == 256
    with pytest.raises(ConfigError, match='no folder of a chat model'):
        encoder_of(model / 'gone')
