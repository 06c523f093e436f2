"""Questions of a JSONL file, answered one by one into another, which an interrupted run goes on with."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from internvl_mm.data.chat_records import check_text
from internvl_mm.utils.console import track
from internvl_mm.utils.disk import check_writable
from internvl_mm.utils.errors import DataError, UserError

from .chat_inputs import ChatInputs
from .chat_session import ChatSession

_KEYS = ('id', 'question', 'image', 'video')


def answer_file(session: ChatSession, inputs: ChatInputs, source: Path, target: Path) -> tuple[int, int]:
    """Answer every line of ``source`` that ``target`` has no answer to yet.

    A line is ``{"question": …, "image": path or paths, "video": path or paths, "id": …}``; paths are relative to the
    file. What cannot be read is written as ``{"error": …}`` and tried again by the next run, as is a line that has
    changed since. Lines may have moved.

    Args:
        session: Used for every line anew.
        inputs: Reads pictures and videos.
        source: Questions.
        target: Answers, each with its line and the number of that from 0; added as they are made, at the end in order.

    Returns:
        Lines answered and lines with an error, in this run.

    Raises:
        DataError: A line is no question, or ``target`` holds something else than answers.
    """
    lines = _read(source)
    # Before the first answer is computed, not after it.
    check_writable(target.parent, setting='folder of the answers', way_out='choose another file')
    results = _answered(target, lines)
    # Without errors, which get another try, and without a line that an interruption cut off.
    _write(target, results)
    todo = [(number, line) for number, line in enumerate(lines) if number not in results]
    good = 0
    with target.open('a', encoding='utf-8') as file:
        for number, line in track(todo, 'answering', total=len(todo)):
            result: dict[str, Any] = dict(line=number, **line)
            # No line sees the pictures or answers of another.
            session.reset()
            try:
                images, videos = (
                    [source.parent / path for path in _paths(line.get(kind))] for kind in ('image', 'video')
                )
                question, tiles = inputs.gather(line['question'], images, videos)
                result |= dict(answer=session.ask(question, tiles))
                good += 1
            # Written down, not raised: one bad line leaves the others their answers.
            except UserError as error:
                result |= dict(error=str(error))
            results[number] = json.dumps(result, ensure_ascii=False)
            file.write(results[number] + '\n')
            file.flush()  # what was answered survives an interruption
    _write(target, results)
    return good, len(todo) - good


def _read(source: Path) -> list[dict[str, Any]]:
    try:
        text = source.read_text('utf-8')
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f'{source} cannot be read: {error}') from error
    # Not splitlines: a question may hold U+2028, at which it would be cut.
    return [_question(raw, f'{source}, line {n}') for n, raw in enumerate(text.split('\n'), 1) if raw.strip()]


def _question(raw: str, where: str) -> dict[str, Any]:
    try:
        line = json.loads(raw)
    except ValueError as error:
        raise DataError(f'{where}: not JSON ({error})') from error
    if not isinstance(line, dict) or not isinstance(line.get('question'), str):
        raise DataError(f'{where}: an object with a "question" is needed')
    if unknown := sorted(set(line) - set(_KEYS)):
        raise DataError(f'{where}: unknown key {unknown[0]!r}; known are {", ".join(_KEYS)}')
    # The whole line: its id and question are written beside the answer.
    check_text(json.dumps(line, ensure_ascii=False), where)
    for kind in ('image', 'video'):
        if not all(isinstance(path, str) for path in _paths(line.get(kind))):
            raise DataError(f'{where}: {kind} is {line[kind]!r:.80} instead of a path or a list of paths')
    return line


def _paths(value: Any) -> Iterable[Any]:
    return () if value is None else value if isinstance(value, list) else [value]


def _answered(target: Path, lines: list[dict[str, Any]]) -> dict[int, str]:
    """Answers of an earlier run to lines that are still there, as JSON by number of the line."""
    if not target.exists():
        return {}
    raws = [raw for raw in target.read_text('utf-8').split('\n') if raw.strip()]
    found: dict[str, list[dict[str, Any]]] = {}
    for place, raw in enumerate(raws, 1):
        try:
            result = json.loads(raw)
        except ValueError:
            result = None
        if not isinstance(result, dict) or not isinstance(result.get('line'), int):
            if place == len(raws) and result is None:
                break  # cut off by an interruption
            # It would be lost: this file is written anew.
            raise DataError(f'{target} exists, and its line {place} is no answer: name another file')
        if 'answer' in result:
            found.setdefault(_content(result), []).append(result)
    kept = {}
    for number, line in enumerate(lines):
        if answers := found.get(_content(line)):
            kept[number] = json.dumps(answers.pop(0) | dict(line=number), ensure_ascii=False)
    return kept


def _content(line: dict[str, Any]) -> str:
    """All that an answer depends on and is known by: of a question, or of its answer."""
    return json.dumps([line.get(key) for key in _KEYS])


def _write(target: Path, results: dict[int, str]) -> None:
    """All answers in order; whole or not at all."""
    scratch = target.with_name(f'{target.name}.{os.getpid()}.tmp')
    scratch.write_text(''.join(f'{results[number]}\n' for number in sorted(results)), 'utf-8')
    os.replace(scratch, target)
