"""Conversations that remember what they computed give the answers of conversations that do not."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from internvl_mm.models.hf_internvl_chat import InternVLChatModel
from internvl_mm.serving.chat_inputs import open_chat
from internvl_mm.serving.chat_session import ChatSession
from internvl_mm.serving.chat_terminal import ChatTerminal
from internvl_mm.utils.errors import ConfigError, DataError
from tests.test_models.tiny_chat import FAMILY_CASES, GREEDY, pixels, tiny_model, tokenizer_of, write_folder
from tools.chat import main

QUESTIONS = ['What is it?', 'And then?', 'Where, exactly, and how many of them?']


def fresh(model: InternVLChatModel, tokenizer, session: ChatSession, images: list, question: str) -> str:
    """The same turn by ``model.chat``, which reads everything again."""
    tiles = torch.cat(images) if images else None
    counts = [len(image) for image in images]
    return model.chat(
        tokenizer, tiles, question, GREEDY, history=session.history[:-1], num_patches_list=counts
    )


@pytest.mark.parametrize('architecture', FAMILY_CASES)
def test_every_turn_is_that_of_chat_and_reads_only_what_is_new(architecture: str) -> None:
    model, tokenizer = tiny_model(architecture), tokenizer_of(architecture)
    session, images = ChatSession(model, tokenizer, settings=GREEDY), [pixels(2)]
    for number, question in enumerate(QUESTIONS):
        before = session.reused
        answer = session.ask(question, images[:1] if number == 0 else ())
        asked = session.history[-1][0]
        assert answer == fresh(model, tokenizer, session, images, asked)
        assert session.reused > before or number == 0
    assert session.history[0][0] == '<image>\nWhat is it?'


def test_images_may_come_in_any_turn_and_each_is_encoded_once(monkeypatch) -> None:
    model, tokenizer = tiny_model(), tokenizer_of()
    encoded = []
    features = model.extract_feature
    session = ChatSession(model, tokenizer, settings=GREEDY)
    first, second, third = pixels(1), pixels(3)[1:], pixels(2) * 0.5
    monkeypatch.setattr(model, 'extract_feature', lambda tiles: encoded.append(len(tiles)) or features(tiles))
    assert session.ask('Hello')
    answer = session.ask('Which?', [first, second])
    session.ask('And this?', [third])
    assert encoded == [1, 2, 2]
    assert [question for question, _ in session.history] == [
        'Hello', 'Image-1: <image>\nImage-2: <image>\nWhich?', 'Image-3: <image>\nAnd this?',
    ]  # fmt: skip
    monkeypatch.undo()
    tiles = torch.cat([first, second])
    alone = model.chat(
        tokenizer, tiles, session.history[1][0], GREEDY, history=session.history[:1], num_patches_list=[1, 2]
    )
    assert answer == alone and session.num_images == 3
    session.reset()
    assert session.history == [] and session.num_images == 0 and session.ask('Hello')


def test_positions_that_move_with_the_length_are_computed_again() -> None:
    rope = dict(rope_scaling=dict(type='dynamic', factor=2.0), max_position_embeddings=210)
    model, tokenizer = tiny_model('InternLM2ForCausalLM', llm=rope), tokenizer_of('InternLM2ForCausalLM')
    session = ChatSession(model, tokenizer, settings=GREEDY)
    reused = []
    for question in QUESTIONS * 3:
        answer = session.ask(question)
        assert answer == fresh(model, tokenizer, session, [], question)
        reused.append(session.reused)
    assert reused[1] > 0 and reused[-1] == 0


def test_penalties_for_repetition_are_those_of_chat_and_one_token_is_read_per_step(monkeypatch) -> None:
    model, tokenizer = tiny_model(), tokenizer_of()
    settings = dict(GREEDY, repetition_penalty=1.5, no_repeat_ngram_size=2)
    session, lengths = ChatSession(model, tokenizer, settings=settings), []
    layer = model.language_model.model.layers[0]
    hook = layer.register_forward_pre_hook(lambda _, given: lengths.append(given[0].shape[1]))
    answer = session.ask(QUESTIONS[0], [pixels(2)])
    hook.remove()
    assert lengths[1:] == [1] * (len(lengths) - 1) and len(lengths) > 1
    assert answer == model.chat(tokenizer, pixels(2), QUESTIONS[0], settings)
    assert answer != ChatSession(model, tokenizer, settings=GREEDY).ask(QUESTIONS[0], [pixels(2)])


def test_a_stream_is_the_answer_and_a_failure_is_raised_where_it_is_read() -> None:
    model, tokenizer = tiny_model(), tokenizer_of()
    session, other = (ChatSession(model, tokenizer, settings=GREEDY) for _ in range(2))
    text = ''.join(session.stream('What?', [pixels(1)]))
    assert tokenizer.clean_up_tokenization(text).strip() == other.ask('What?', [pixels(1)])
    assert session.history == other.history
    with pytest.raises(DataError, match='the questions have 3 <image> for 1 images'):
        list(other.stream('<image> and <image>?'))
    with pytest.raises(DataError, match='num_beams above 1 needs a cache per beam'):
        other.ask('Beams?', num_beams=3)
    with pytest.raises(DataError, match='num_return_sequences=2: a conversation goes on with one answer'):
        other.ask('Several?', do_sample=True, num_return_sequences=2)
    with pytest.raises(ConfigError, match="'num_beam' is unknown.* Did you mean 'num_beams'"):
        list(other.stream('Beams?', num_beam=3))
    with pytest.raises(ConfigError, match='generation setting max_new_tokens=0 is not possible'):
        ChatSession(model, tokenizer, settings=dict(max_new_tokens=0))
    assert len(other.history) == 1, 'a failed turn leaves the conversation as it was'
    assert other.ask('And then?') == session.ask('And then?')


def test_settings_of_a_turn_are_checked_with_those_of_the_conversation_before_anything_is_read() -> None:
    model, tokenizer = tiny_model(), tokenizer_of()
    model.language_model.model.register_forward_pre_hook(lambda *_: pytest.fail('the model read'))
    with pytest.raises(ConfigError, match='generation setting temperature=0.0 is not possible'):
        ChatSession(model, tokenizer, settings=dict(do_sample=True)).ask('How?', temperature=0.0)
    with pytest.raises(DataError, match='num_beams above 1'):
        ChatSession(model, tokenizer, settings=dict(num_beams=2)).ask('How?')


def test_settings_may_leave_the_length_to_the_model() -> None:
    model, tokenizer = tiny_model(), tokenizer_of()
    session = ChatSession(model, tokenizer, settings=dict(GREEDY, max_new_tokens=None))
    assert session.ask('How?') == model.chat(tokenizer, None, 'How?', dict(do_sample=False))


def test_who_stops_reading_ends_the_answer_and_the_conversation_goes_on() -> None:
    model, tokenizer = tiny_model(), tokenizer_of()
    long = dict(GREEDY, max_new_tokens=400, min_new_tokens=400)
    session = ChatSession(model, tokenizer, settings=long)
    pieces = session.stream('What?')
    next(pieces)
    pieces.close()
    [(_, answer)] = session.history
    assert 0 < len(tokenizer(answer).input_ids) < 300, 'ended early, and kept'
    session.settings = GREEDY
    assert session.ask('And?') == model.chat(tokenizer, None, 'And?', GREEDY, history=session.history[:1])

    def broken(*_: object) -> None:
        raise TypeError('whatever fails is raised where the stream is read, not waited for')

    with pytest.raises(TypeError, match='whatever fails'):
        list(session.stream('Q', logits_processor=[broken]))


def test_an_interruption_leaves_the_conversation_usable(monkeypatch: pytest.MonkeyPatch) -> None:
    model, tokenizer = tiny_model(), tokenizer_of()
    session = ChatSession(model, tokenizer, settings=GREEDY)
    session.ask(QUESTIONS[0], [pixels(2)])
    expected = fresh(model, tokenizer, ChatSession(model, tokenizer), [], 'Hello')
    with monkeypatch.context() as patch:
        # The first layer has written its keys, the second has not.
        patch.setattr(model.language_model.model.layers[1], 'forward', _interrupted)
        with pytest.raises(KeyboardInterrupt):
            session.ask(QUESTIONS[1])
    assert len(session.history) == 1
    answer = session.ask(QUESTIONS[2])
    assert answer == fresh(model, tokenizer, session, [pixels(2)], session.history[-1][0])
    session.reset()
    assert session.ask('Hello') == expected


def _interrupted(*args: object, **options: object) -> None:
    raise KeyboardInterrupt


def test_ctrl_c_ends_an_answer_and_not_the_program(folder: Path, capsys) -> None:
    model, tokenizer, inputs = open_chat(str(folder / 'model'))
    session = ChatSession(model, tokenizer, settings=dict(GREEDY, max_new_tokens=400, min_new_tokens=400))
    terminal, stream = ChatTerminal(session, inputs, read=lambda prompt: next(lines)), session.stream

    def interrupted(*args):
        pieces = stream(*args)
        yield next(pieces)
        raise KeyboardInterrupt

    lines, session.stream = iter(['What?', '/exit']), interrupted
    terminal.run()
    assert 'ended; what was said is kept' in capsys.readouterr().out
    assert len(session.history) == 1


def test_a_system_message_of_its_own() -> None:
    model, tokenizer = tiny_model(), tokenizer_of()
    session = ChatSession(model, tokenizer, system_message='Short answers.', settings=GREEDY)
    model.system_message, kept = 'Short answers.', model.system_message
    assert session.ask('What?') == model.chat(tokenizer, None, 'What?', GREEDY)
    model.system_message = kept


@pytest.fixture(scope='module')
def folder(tmp_path_factory) -> Path:
    """A model with tiling, and a picture, beside it."""
    root = tmp_path_factory.mktemp('chat')
    write_folder(root / 'model', dynamic_image_size=True, use_thumbnail=True, max_dynamic_patch=4)
    for number, shape in enumerate([(60, 120, 3), (90, 60, 3)]):
        shades = np.random.default_rng(number).integers(0, 255, shape, dtype=np.uint8)
        Image.fromarray(shades).save(root / f'{number}.png')
    (root / 'frames').mkdir()
    for number in range(10):
        Image.new('RGB', (64, 48), (number * 20, 0, 0)).save(root / 'frames' / f'{number:05d}.jpg')
    return root


def test_one_question_about_a_picture(folder: Path, capsys) -> None:
    arguments = [str(folder / 'model'), '--image', str(folder / '0.png'), '--max-new-tokens', '6']
    assert main([*arguments, '--question', 'What is it?']) == 0
    model, tokenizer, inputs = open_chat(str(folder / 'model'))
    tiles = inputs.image(folder / '0.png')
    assert tiles.shape == (3, 3, 56, 56), 'two tiles and a thumbnail'
    shown = capsys.readouterr().out
    answer = model.chat(tokenizer, tiles, 'What is it?', GREEDY)
    assert answer.split() and answer.split()[-1] in shown


def test_a_video_is_frames_with_their_lines(folder: Path) -> None:
    _, _, inputs = open_chat(str(folder / 'model'))
    question, tiles = inputs.gather('What?', [], [folder / 'frames'])
    assert question == ''.join(f'Frame{number}: <image>\n' for number in range(1, 9)) + 'What?'
    assert [tuple(frame.shape) for frame in tiles] == [(1, 3, 56, 56)] * 8
    question, tiles = inputs.gather('What?', [folder / '0.png'], [folder / 'frames'])
    assert question.startswith('Image-1: <image>\nFrame1: <image>\n') and len(tiles) == 9
    picture = inputs.image(folder / '0.png', num_images=1)
    assert torch.equal(tiles[0], picture)
    # A picture the question places stands after the frames, in the text and among the tiles.
    question, tiles = inputs.gather('Is <image> among them?', [folder / '0.png'], [folder / 'frames'])
    assert question.startswith('Frame1: <image>\n') and question.endswith('Is <image> among them?')
    assert torch.equal(tiles[-1], picture) and len(tiles) == 9


def test_a_conversation_in_the_terminal(folder: Path, capsys) -> None:
    model, tokenizer, inputs = open_chat(str(folder / 'model'))
    session = ChatSession(model, tokenizer, settings=GREEDY)
    picture, broken = folder / '0.png', folder / 'broken.png'
    broken.write_text('no picture')
    lines = iter(
        ['', '/help', f'/image {picture}', 'What?', 'And?', '/history', f'/image {picture} nowhere.png',
         f'/image {broken}', 'Which?', 'Still there?', "/image 'odd", '/reset', '/nonsense', '/exit', 'never read']
    )  # fmt: skip
    terminal = ChatTerminal(session, inputs, read=lambda prompt: next(lines))
    answers = []
    original = terminal.answer
    terminal.answer = lambda line: (original(line), answers.append(list(session.history)))
    terminal.run()
    shown = capsys.readouterr().out
    assert '/video PATH' in shown and '<image>\nWhat?' in shown and 'a new conversation' in shown
    assert 'nowhere.png does not exist; nothing was added' in shown and 'not an image of an allowed' in shown
    assert [len(history) for history in answers] == [1, 2, 3]
    assert session.history == [] and next(lines) == 'never read'
    ended = ChatTerminal(session, inputs, read=lambda prompt: (_ for _ in ()).throw(EOFError))
    ended.run()


def test_a_file_of_questions_is_answered_and_gone_on_with(folder: Path, tmp_path: Path, capsys) -> None:
    questions = [
        dict(id='a', question='What?', image='0.png'),
        dict(question='Both?', image=['0.png', '1.png']),
        dict(question='Text alone?'),
        dict(question='Missing?', image='none.png'),
        dict(question='Film?', video='frames'),
    ]
    source, target = folder / 'questions.jsonl', tmp_path / 'answers.jsonl'
    source.write_text('\n'.join(map(json.dumps, questions)) + '\n\n')
    arguments = [str(folder / 'model'), '--batch', str(source), '--out', str(target), '--max-new-tokens', '4']
    assert main(arguments) == 1
    assert '4 answered, 1 failed' in capsys.readouterr().out
    first = [json.loads(line) for line in target.read_text().splitlines()]
    assert [line['line'] for line in first] == [0, 1, 2, 3, 4] and first[0]['id'] == 'a'
    assert 'none.png' in first[3]['error'] and 'answer' not in first[3]
    # cut off in the middle of a line, and the missing picture found
    target.write_text('\n'.join(json.dumps(line) for line in first[:2]) + '\n' + json.dumps(first[2])[:-9])
    Image.open(folder / '0.png').save(folder / 'none.png')
    assert main(arguments) == 0
    assert '3 answered, 0 failed' in capsys.readouterr().out
    second = [json.loads(line) for line in target.read_text().splitlines()]
    assert [line['line'] for line in second] == [0, 1, 2, 3, 4]
    assert [line.get('answer') for line in second[:3]] == [line['answer'] for line in first[:3]]
    (folder / 'none.png').unlink()
    # Another question in the place of one that was answered: its answer is not the old one.
    questions[2]['question'] = 'Other\u2028text?'
    source.write_text('\n'.join(json.dumps(line, ensure_ascii=False) for line in questions), 'utf-8')
    assert main(arguments) == 0
    assert '1 answered, 0 failed' in capsys.readouterr().out
    third = [json.loads(line) for line in target.read_text('utf-8').rstrip('\n').split('\n')]
    assert [line['line'] for line in third] == [0, 1, 2, 3, 4], 'in order, whichever was made last'
    assert third[2]['question'] == 'Other\u2028text?' and third[0] == second[0]
    # A line put before the others moves their answers; the same question about another picture is another.
    questions = [
        dict(question='What?', image='1.png'),
        questions[0],
        dict(questions[1], image=['1.png', '0.png']),
    ]
    source.write_text('\n'.join(map(json.dumps, questions)))
    assert main(arguments) == 0
    assert '2 answered, 0 failed' in capsys.readouterr().out
    fourth = [json.loads(line) for line in target.read_text('utf-8').splitlines()]
    assert fourth[1] == third[0] | dict(line=1) and fourth[0]['image'] == '1.png'
    # The wrong file is not written over.
    before = source.read_bytes()
    assert main([*arguments[:4], str(source), *arguments[5:]]) == 2
    assert 'line 1 is no answer: name another file' in capsys.readouterr().err
    assert source.read_bytes() == before


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        ('{"question": "a"', r'line 1: not JSON'),
        ('{"image": "a"}', 'line 1: an object with a "question" is needed'),
        (
            '{"question": "a", "images": "b"}',
            "line 1: unknown key 'images'; known are id, question, image, video",
        ),
        (r'{"question": "a \ud83d"}', r"line 1 holds '\ud83d', half of a character"),
        ('{"question": "a", "image": 7}', 'line 1: image is 7 instead of a path or a list of paths'),
    ],
)
def test_a_file_that_is_no_list_of_questions_is_told(
    folder: Path, tmp_path: Path, capsys, content: str, message: str
) -> None:
    (tmp_path / 'q.jsonl').write_text(content)
    arguments = [
        str(folder / 'model'),
        '--batch',
        str(tmp_path / 'q.jsonl'),
        '--out',
        str(tmp_path / 'a.jsonl'),
    ]
    assert main(arguments) == 2
    assert message in capsys.readouterr().err
    assert main([*arguments[:2], str(tmp_path / 'none.jsonl'), *arguments[3:]]) == 2


def test_mistakes_exit_with_status_2(folder: Path, tmp_path: Path, capsys) -> None:
    assert main([str(tmp_path / 'nothing'), '--question', 'x']) == 2
    assert 'nothing' in capsys.readouterr().err
    # Before the folder is looked at, which may be large.
    assert main([str(tmp_path / 'nothing'), '--question', 'x', '--max-new-tokens', '0']) == 2
    assert 'max_new_tokens=0 is not possible' in capsys.readouterr().err
    assert main([str(folder / 'model'), '--image', 'nowhere.png', '--question', 'x']) == 2
    assert 'nowhere.png' in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([str(folder / 'model'), '--batch', 'q.jsonl'])
