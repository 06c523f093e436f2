"""Prompt templates as data: the exact text around system messages, questions and answers of every published model.

One class renders all of them. What published code calls separator styles (MPT, TWO, INTERNVL_ZH, …) is nothing but
other text before and after the messages, so a template is a row of strings and a new one needs no code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from internvl_mm.utils.errors import ConfigError, did_you_mean

# One exchange: question, and the answer or None where the model is to give it.
Turn = tuple[str, str | None]


@dataclass(frozen=True)
class Piece:
    """A part of a prompt.

    Attributes:
        text: What it adds to the prompt.
        kind: ``'frame'`` for text of the template, ``'system'``, ``'user'`` or ``'answer'`` for text of the
            conversation; ``'lead'`` and ``'stop'`` for the frame around an answer that the model says itself: the space
            that a prompt with an open answer leaves out, and the end.
    """

    text: str
    kind: str


@dataclass(frozen=True)
class ChatTemplate:
    """The text around the messages of a conversation.

    Args:
        name: Key in ``CHAT_TEMPLATES`` and value of ``template`` in published configs.
        system_message: Said first unless the model's config or the caller has another one.
        system: Text before and after the system message.
        user: Text before and after a question.
        assistant: Text before and after an answer.
        sep: What the published API calls ``conv_template.sep``; answers are cut there.
        assistant_open: Text before an answer that is still to come, where that differs (published templates with a
            colon end a prompt without the space).
        first_user: Text before the first question, where that differs.
        strip_messages: Training removes white space around every message, as the published code does for InternLM2.
        extra_stops: Tokens that releases of the time ended answers at besides ``stop``; not used unless asked for.
    """

    name: str
    system_message: str
    system: tuple[str, str]
    user: tuple[str, str]
    assistant: tuple[str, str]
    sep: str
    assistant_open: str | None = None
    first_user: str | None = None
    strip_messages: bool = False
    extra_stops: tuple[str, ...] = ()

    @property
    def stop(self) -> str:
        """The token that ends an answer."""
        return self.assistant[1].strip()

    @property
    def roles(self) -> tuple[str, str]:
        """Text before questions and before answers, as ``conv_template.roles`` of the published API."""
        return self.user[0], self.assistant[0]

    def render(self, turns: Sequence[Turn], system_message: str | None = None) -> str:
        """Return the prompt.

        Args:
            turns: Question and answer of every exchange; the answer of the last may be ``None``: the prompt then ends
                where the model goes on.
            system_message: Replaces the template's own; ``''`` leaves it empty.

        Raises:
            ConfigError: There is no turn, or an answer other than the last is missing.
        """
        return ''.join(piece.text for piece in self.pieces(turns, system_message))

    def pieces(self, turns: Sequence[Turn], system_message: str | None = None) -> list[Piece]:
        """Return the prompt in parts, see :meth:`render`; joined they are the prompt."""
        if not turns:
            raise ConfigError('the conversation is empty: give at least one (question, answer or None) turn')
        message = self.system_message if system_message is None else system_message
        opening = self.assistant[0] if self.assistant_open is None else self.assistant_open
        pieces = [Piece(self.system[0], 'frame'), Piece(message, 'system'), Piece(self.system[1], 'frame')]
        for number, (question, answer) in enumerate(turns):
            before = self.first_user if number == 0 and self.first_user is not None else self.user[0]
            # An empty message leaves its role open, also in the middle: a model that once said nothing was continued
            # from such prompts.
            if question:
                pieces += [Piece(before, 'frame'), Piece(question, 'user'), Piece(self.user[1], 'frame')]
            else:
                pieces.append(Piece(before if self.assistant_open is None else before.rstrip(), 'frame'))
            if answer is None and number < len(turns) - 1:
                raise ConfigError(
                    f'turn {number + 1} of {len(turns)} has no answer: only the last one may wait for one'
                )
            pieces.append(Piece(opening, 'frame'))
            if answer:
                lead = self.assistant[0].removeprefix(opening)
                pieces += [Piece(lead, 'lead'), Piece(answer, 'answer'), Piece(self.assistant[1], 'stop')]
        return [piece for piece in pieces if piece.text]


# The comma and space after InternVL are ASCII in all checkpoints trained with it.
INTERNVL2_SYSTEM = (
    '你是由上海人工智能实验室联合商汤科技开发的书生多模态大模型，'
    '英文名叫InternVL, 是一个有用无害的人工智能助手。'
)
INTERNVL2_5_SYSTEM = (
    '你是书生·万象，英文名是InternVL，'
    '是由上海人工智能实验室、清华大学及多家合作单位联合开发的多模态大语言模型。'
)
VICUNA_SYSTEM = (
    'A chat between a curious user and an artificial intelligence assistant. '
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)
LLAVA_SYSTEM = (
    'A chat between a curious human and an artificial intelligence assistant. '
    "The assistant gives helpful, detailed, and polite answers to the human's questions."
)
LLAVA_LLAMA_2_SYSTEM = (
    'You are a helpful language and vision assistant. You are able to understand the visual content that the user '
    'provides, and assist the user with a variety of tasks using natural language.'
)
MPT_SYSTEM = (
    'A conversation between a user and an LLM-based AI assistant. '
    'The assistant gives helpful and honest answers.'
)
# What checkpoints were trained with before the templates above got their present text. Their configs carry it as
# ``system_message``; it is here for those that do not.
RELEASE_SYSTEM_MESSAGES = {
    'InternVL-Chat-V1-1': '',
    # Hermes-2's of February 2024.
    'InternVL-Chat-V1-2': 'Answer the questions.',
    'InternVL-Chat-V1-2-Plus': 'Answer the questions.',
    # internlm2-chat's of April to July 2024, whose language model had this name.
    'InternVL-Chat-V1-5': 'You are an AI assistant whose name is InternLM (书生·浦语).',
    'Mini-InternVL-Chat-2B-V1-5': 'You are an AI assistant whose name is InternLM (书生·浦语).',
    # phi3-chat's of May 2024.
    'Mini-InternVL-Chat-4B-V1-5': 'You are an AI assistant whose name is Phi-3.',
}


def _chat_ml(
    name: str, system_message: str, *, end: str = '<|im_end|>', extra_stops: tuple[str, ...] = ()
) -> ChatTemplate:
    return ChatTemplate(
        name=name,
        system_message=system_message,
        system=('<|im_start|>system\n', end),
        user=('<|im_start|>user\n', end),
        assistant=('<|im_start|>assistant\n', end),
        sep=end,
        extra_stops=extra_stops,
    )


def _colon(name: str, system_message: str, roles: tuple[str, str], *, sep: str = ' ') -> ChatTemplate:
    """``System USER: question ASSISTANT: answer</s>``, Vicuna's form."""
    return ChatTemplate(
        name=name,
        system_message=system_message,
        system=('', ' '),
        user=(f'{roles[0]}: ', ' '),
        assistant=(f'{roles[1]}: ', '</s>'),
        assistant_open=f'{roles[1]}:',
        sep=sep,
    )


_TEMPLATES = (
    # No line break after <|im_end|>, unlike ChatML elsewhere, except in internvl2_5.
    # V1-2, V1-2-Plus, InternVL2-1B and InternVL2-40B.
    _chat_ml('Hermes-2', INTERNVL2_SYSTEM, extra_stops=('<|endoftext|>',)),
    # V1-5, Mini-2B-V1-5 and InternVL2-2B, -8B, -26B, -76B (the 76B too, whose model is a Llama 3).
    replace(
        _chat_ml('internlm2-chat', INTERNVL2_SYSTEM, extra_stops=('</s>', '<|im_start|>')),
        strip_messages=True,
    ),
    # InternVL2.5 and 3 of all sizes.
    _chat_ml('internvl2_5', INTERNVL2_5_SYSTEM, end='<|im_end|>\n'),
    _chat_ml('mpt', MPT_SYSTEM),
    ChatTemplate(
        # Mini-4B-V1-5 and InternVL2-4B.
        name='phi3-chat',
        system_message=INTERNVL2_SYSTEM,
        system=('<|system|>\n', '<|end|>'),
        user=('<|user|>\n', '<|end|>'),
        assistant=('<|assistant|>\n', '<|end|>'),
        sep='<|end|>',
        extra_stops=('</s>', '<|endoftext|>'),
    ),
    # Its prompt begins with the space that follows an empty system message. Since July 2024 the published sep is
    # '</s>', before it was the space.
    _colon('internvl_zh', '', ('<human>', '<bot>'), sep='</s>'),
    _colon('vicuna_v1', VICUNA_SYSTEM, ('USER', 'ASSISTANT')),
    _colon('v1', VICUNA_SYSTEM, ('USER', 'ASSISTANT')),
    _colon('llava_v1', LLAVA_SYSTEM, ('USER', 'ASSISTANT')),
    # Projector pre-training of LLaVA: picture, line break, caption.
    ChatTemplate('plain', '', ('', ''), ('', '\n'), ('', '\n'), sep='\n'),
    ChatTemplate(
        name='llava_llama_2',
        system_message=LLAVA_LLAMA_2_SYSTEM,
        system=('[INST] <<SYS>>\n', '\n<</SYS>>\n\n'),
        user=('<s>[INST] ', ' [/INST]'),
        first_user='',
        assistant=(' ', ' </s>'),
        assistant_open='',
        sep='<s>',
    ),
    ChatTemplate(
        name='Llama-3',
        system_message=INTERNVL2_SYSTEM,
        system=('<|start_header_id|>system<|end_header_id|>\n\n', '<|eot_id|>'),
        user=('<|start_header_id|>user<|end_header_id|>\n\n', '<|eot_id|>'),
        assistant=('<|start_header_id|>assistant<|end_header_id|>\n\n', '<|eot_id|>'),
        sep='<|eot_id|>',
        extra_stops=('<|end_of_text|>',),
    ),
)
CHAT_TEMPLATES: dict[str, ChatTemplate] = {template.name: template for template in _TEMPLATES}


def chat_template(name: str) -> ChatTemplate:
    """Return the template of a name.

    Raises:
        ConfigError: There is none.
    """
    if name not in CHAT_TEMPLATES:
        hint = did_you_mean(str(name), CHAT_TEMPLATES)
        raise ConfigError(
            f'template={name!r} is unknown; there are {", ".join(CHAT_TEMPLATES)}.{hint} '
            'A new one is a ChatTemplate in CHAT_TEMPLATES of internvl_mm.preprocess.conversation'
        )
    return CHAT_TEMPLATES[name]
