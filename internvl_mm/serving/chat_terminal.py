"""A conversation in the terminal."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path

from internvl_mm.utils.console import console
from internvl_mm.utils.errors import DataError, UserError

from .chat_inputs import ChatInputs
from .chat_session import ChatSession

HELP = """/image PATH ...   show pictures with the next question
/video PATH       show a video with the next question
/reset            begin a new conversation
/history          show the conversation
/help             these lines
/exit             end (also Ctrl-D)
Ctrl-C            end an answer; what it was until then is kept"""


class ChatTerminal:
    """Reads lines, streams answers.

    Args:
        session: The conversation.
        inputs: Reads pictures and videos.
        read: Gives the next line; raises ``EOFError`` at the end.
    """

    def __init__(self, session: ChatSession, inputs: ChatInputs, read: Callable[[str], str] | None = None):
        self.session, self.inputs = session, inputs
        self._read = read or (lambda prompt: console.input(f'[bold]{prompt}[/bold]'))
        self.images: list[str] = []
        self.videos: list[str] = []

    def run(self) -> None:
        """Talk until the user ends it."""
        console.print('Ask a question; /help lists commands.', style='dim')
        while True:
            try:
                line = self._read('> ').strip()
            except EOFError:
                return
            if line in ('/exit', '/quit'):
                return
            try:
                if line.startswith('/'):
                    self.command(line)
                elif line:
                    self.answer(line)
            except UserError as error:
                console.print(str(error), style='red')
            except KeyboardInterrupt:  # during an answer; at the prompt it ends the program
                console.print('ended; what was said is kept', style='dim')

    def command(self, line: str) -> None:
        """Do what a line that begins with a slash says."""
        try:
            name, *words = shlex.split(line)
        except ValueError:  # a quote without its partner
            name, *words = line.split()
        if name == '/reset':
            self.session.reset()
            self.images, self.videos = [], []
            console.print('a new conversation', style='dim')
        elif name == '/history':
            for question, answer in self.session.history:
                console.print(f'> {question}\n{answer}')
        elif name in ('/image', '/video') and words:
            if missing := [word for word in words if not Path(word).exists()]:
                raise DataError(f'{missing[0]} does not exist; nothing was added')
            (self.images if name == '/image' else self.videos).extend(words)
            console.print(f'shown with the next question: {", ".join(words)}', style='dim')
        else:
            console.print(HELP)

    def answer(self, question: str) -> None:
        """Stream the answer to a question about what was shown since the last one."""
        # Taken first: a file that cannot be read is not tried again with the next question.
        images, videos, self.images, self.videos = self.images, self.videos, [], []
        text, tiles = self.inputs.gather(question, images, videos)
        pieces = self.session.stream(text, tiles)
        try:
            for piece in pieces:
                # As it is: rich would read [bold] in an answer as markup, and break lines of its own.
                console.print(piece, end='', highlight=False, soft_wrap=True)
        finally:
            # Also when interrupted between two pieces; waits until nothing is generated any more.
            pieces.close()
            console.print()
