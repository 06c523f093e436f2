"""Questions of a JSONL file, answered one by one into another, which an interrupted run goes on with."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from internvl_mm.utils.console import track
from internvl_mm.utils.errors import DataError, UserError

from .chat_inputs import ChatInputs
from .chat_session import ChatSession

_KEYS = ('id', 'question', 'image', 'video')


def answer_file(session: ChatSession, inputs: ChatInputs, source: Path, target: Path) -> tuple[int, int]:
    """Answer every line of ``source`` that ``target`` has no answer to yet.

    A line is ``{"question": …, "image": path or paths, "video": path or paths, "id": …}``; paths are relative to the
    file. What cannot be read is written as ``{"error": …}`` and tried again by the next run.

    Args:
        session: Used for every line anew.
        inputs: Reads pictures and videos.
        source: Questions.
        target: Answers, in the order of the questions; lines are added as they are made.

    Returns:
        Lines answered and lines with an error, in this run.

    Raises:
        DataError: A line is no question.
    """
    lines = list(_read(source))
    done = _answered(target)
    good = bad = 0
    kept = [
        line
        for line in (target.read_text('utf-8').splitlines() if target.exists() else ())
        if _has_answer(line)
    ]
    # Without errors, which get another try, and without a line that an interruption cut off.
    target.write_text(''.join(f'{line}\n' for line in kept), 'utf-8')
    todo = [(number, line) for number, line in enumerate(lines) if number not in done]
    with target.open('a', encoding='utf-8') as file:
        for number, line in track(todo, 'answering', total=len(todo)):
            result: dict[str, Any] = dict(line=number, **({'id': line['id']} if 'id' in line else {}))
            session.reset()
            try:
                images, videos = (
                    [source.parent / path for path in _paths(line.get(kind))] for kind in ('image', 'video')
                )
                question, tiles = inputs.gather(line['question'], images, videos)
                result |= dict(question=line['question'], answer=session.ask(question, tiles))
                good += 1
            except UserError as error:
                result |= dict(question=line['question'], error=str(error))
                bad += 1
            file.write(json.dumps(result, ensure_ascii=False) + '\n')
            file.flush()  # what was answered survives an interruption
    return good, bad


def _read(source: Path) -> Iterator[dict[str, Any]]:
    try:
        text = source.read_text('utf-8')
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f'{source} cannot be read: {error}') from error
    for number, raw in enumerate(text.splitlines(), 1):
        if not raw.strip():
            continue
        try:
            line = json.loads(raw)
        except ValueError as error:
            raise DataError(f'{source}, line {number}: not JSON ({error})') from error
        if not isinstance(line, dict) or not isinstance(line.get('question'), str):
            raise DataError(f'{source}, line {number}: an object with a "question" is needed')
        if unknown := sorted(set(line) - set(_KEYS)):
            raise DataError(
                f'{source}, line {number}: unknown key {unknown[0]!r}; known are {", ".join(_KEYS)}'
            )
        yield line


def _paths(value: Any) -> list[str]:
    return [] if value is None else [value] if isinstance(value, str) else list(value)


def _has_answer(raw: str) -> bool:
    try:
        return 'answer' in json.loads(raw)
    except ValueError:
        return False  # cut off by an interruption


def _answered(target: Path) -> set[int]:
    if not target.exists():
        return set()
    return {json.loads(raw)['line'] for raw in target.read_text('utf-8').splitlines() if _has_answer(raw)}
