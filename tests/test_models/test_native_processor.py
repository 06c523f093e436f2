"""A converted folder by transformers alone: its processor asks what our chat asks, its model answers the same."""

from __future__ import annotations

from pathlib import Path

import jinja2
import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoProcessor, InternVLForConditionalGeneration

import internvl_mm
from internvl_mm.models.convert.chat_report import convert_chat
from internvl_mm.models.convert.native_processor import jinja_template
from internvl_mm.preprocess.conversation import CHAT_TEMPLATES
from internvl_mm.preprocess.tiling import DynamicTiling, normalise
from tests.test_models.tiny_chat import GREEDY, tokenizer_of, write_folder


@pytest.mark.parametrize('architecture', ['Qwen2ForCausalLM', 'Phi3ForCausalLM', 'InternLM2ForCausalLM'])
def test_processor_and_model_of_transformers_answer_as_ours(architecture: str, tmp_path: Path) -> None:
    settings = dict(
        system_message="It's\nkind.", dynamic_image_size=True, use_thumbnail=True, max_dynamic_patch=4
    )
    folder, _ = write_folder(tmp_path / 'published', architecture, **settings)
    assert convert_chat(folder, tmp_path / 'native', 'chat-native').exact
    processor = AutoProcessor.from_pretrained(tmp_path / 'native')
    native = InternVLForConditionalGeneration.from_pretrained(tmp_path / 'native').eval()
    ours, tokenizer = internvl_mm.load_model(folder), tokenizer_of(architecture)
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (60, 120, 3), np.uint8))
    content = [dict(type='image', image=picture), dict(type='text', text='What is it?')]
    inputs = processor.apply_chat_template(
        [dict(role='user', content=content)],
        add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors='pt',
    )  # fmt: skip
    tiles = normalise(DynamicTiling(4, size=56, thumbnail=True)(picture))
    # torchvision's resizing against Pillow's: one step of a pixel's 256 in a few places
    torch.testing.assert_close(inputs['pixel_values'], tiles, atol=1.5 / 255 / 0.224, rtol=0)
    encoder = ours.text_encoder(tokenizer, ours.system_message)
    prompt = encoder.prompt([('<image>\nWhat is it?', None)], [ours.num_image_token * len(tiles)])
    assert inputs['input_ids'][0].tolist() == prompt.tolist()
    inputs.pop('token_type_ids', None)
    stop = dict(eos_token_id=ours._stop_id(tokenizer), pad_token_id=0)
    output = native.generate(**inputs, **GREEDY, **stop)[0, inputs['input_ids'].shape[1] :]
    expected = ours.chat(tokenizer, inputs['pixel_values'], 'What is it?', GREEDY)
    decoded = tokenizer.decode(output, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    assert ''.join(decoded.split()) == ''.join(expected.split())


def test_frames_of_a_video_are_tiles_with_the_lines_of_model_cards(tmp_path: Path) -> None:
    folder, model = write_folder(tmp_path / 'published')
    convert_chat(folder, tmp_path / 'native', 'chat-native')
    processor = AutoProcessor.from_pretrained(tmp_path / 'native')
    frames = np.random.default_rng(0).integers(0, 255, (2, 60, 60, 3), np.uint8)
    asked = [dict(role='user', content=[dict(type='video', video=frames), dict(type='text', text='What?')])]
    text = processor.apply_chat_template(asked, add_generation_prompt=True, tokenize=False)
    inputs = processor(text=text, videos=[frames], return_tensors='pt')
    image = '<img>' + '<IMG_CONTEXT>' * model.num_image_token + '</img>'
    assert f'Frame1: {image}\nFrame2: {image}\nWhat?' in processor.decode(inputs['input_ids'][0])
    assert inputs['pixel_values'].shape == (2, 3, 56, 56)


@pytest.mark.parametrize('name', CHAT_TEMPLATES)
def test_every_template_renders_as_its_jinja(name: str) -> None:
    template, turns = CHAT_TEMPLATES[name], [("Q\\1 'a'", 'A1'), ('Q2', None)]
    message = template.system_message or 'Say "it\'s".'
    rendered = jinja2.Environment().from_string(jinja_template(template, message))
    talk = [
        dict(role=role, content=text) for pair in turns for role, text in zip(('user', 'assistant'), pair)
    ]
    assert rendered.render(messages=talk[:-1], add_generation_prompt=True) == template.render(turns, message)
    closed = [turns[0], ('Q2', 'A2')]
    talk[-1]['content'] = 'A2'
    other = [dict(role='system', content='Other.'), *talk]
    assert rendered.render(messages=other) == template.render(closed, 'Other.')
