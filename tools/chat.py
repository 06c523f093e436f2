"""Talk to a chat model: in the terminal, one question, or a JSONL file of questions.

python tools/chat.py pretrained/InternVL2-2B --image photo.jpg
python tools/chat.py pretrained/InternVL2-2B --batch questions.jsonl --out answers.jsonl
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def main(argv: list[str] | None = None) -> int:
    """Parse the arguments, load the model, talk; 0 at the end, 1 when lines of a file failed, 2 after a mistake."""
    parser = argparse.ArgumentParser(
        prog='chat', description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('model', help='folder of a published chat model, or its name on the hub')
    parser.add_argument(
        '--image', nargs='+', default=[], metavar='PATH', help='pictures of the first question'
    )
    parser.add_argument('--video', nargs='+', default=[], metavar='PATH', help='videos of the first question')
    parser.add_argument('--question', help='ask this alone, print the answer and end')
    parser.add_argument('--batch', type=Path, metavar='JSONL', help='answer the questions of this file')
    parser.add_argument(
        '--out', type=Path, metavar='JSONL', help='where to; a file with answers is gone on with'
    )
    parser.add_argument('--max-new-tokens', type=int, default=512, help='of an answer (default: %(default)s)')
    parser.add_argument('--dtype', help='of the weights, such as bfloat16 (default: as stored)')
    args = parser.parse_args(argv)
    if (args.batch is None) != (args.out is None):
        parser.error('--batch and --out belong together')

    from internvl_mm.utils.door import run_door

    return run_door(lambda: chat(args))


def chat(args: argparse.Namespace) -> int:
    """Do what the arguments say.

    Raises:
        UserError: A model, picture or file that cannot be used.
    """
    import torch

    from internvl_mm.models.generation_settings import check_generation
    from internvl_mm.serving.chat_batch import answer_file
    from internvl_mm.serving.chat_inputs import open_chat
    from internvl_mm.serving.chat_session import ChatSession
    from internvl_mm.serving.chat_terminal import ChatTerminal
    from internvl_mm.utils.console import console

    settings = dict(max_new_tokens=args.max_new_tokens, do_sample=False)
    check_generation(settings)  # before a model is read for minutes
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    model, tokenizer, inputs = open_chat(args.model, dtype=args.dtype, device=device)
    session = ChatSession(model, tokenizer, settings=settings)
    if args.batch is not None:
        answered, failed = answer_file(session, inputs, args.batch, args.out)
        console.print(f'{answered} answered, {failed} failed: {args.out}')
        return 1 if failed else 0
    terminal = ChatTerminal(session, inputs)
    terminal.images, terminal.videos = args.image, args.video
    if args.question is not None:
        terminal.answer(args.question)
    else:
        terminal.run()
    return 0


if __name__ == '__main__':
    sys.exit(main())
