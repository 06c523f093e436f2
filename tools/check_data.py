"""Read all chat data of a meta file and report, sample by sample, what is wrong with it.

python tools/check_data.py data/chat/meta_train.json --model path/to/InternVL2-2B --workers 8
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def main(argv: list[str] | None = None) -> int:
    """Parse the arguments and check; 0 when every sample can be used, 1 when one cannot, 2 after a mistake."""
    parser = argparse.ArgumentParser(
        description=__doc__.partition('\n')[0],
        epilog='Exit status: 0 when every sample can be used, 1 when some cannot, 2 on a mistake.',
    )
    parser.add_argument('meta', type=Path, help='the meta file: a JSON object of data sets')
    parser.add_argument(
        '--model', help='chat model folder: its tokenizer, template and tiling are used (default: no tokens)'
    )
    parser.add_argument('--template', help="conversation template (default: the model's)")
    parser.add_argument('--max-length', type=int, default=8192, help='longest sample in tokens (%(default)s)')
    parser.add_argument('--workers', type=int, default=4, help='processes that read (%(default)s)')
    parser.add_argument('--headers', action='store_true', help='read headers of pictures only, no pixels')
    parser.add_argument(
        '--out',
        type=Path,
        default=Path('check_data'),
        help='folder for samples.jsonl and report.html (%(default)s)',
    )
    arguments = parser.parse_args(argv)
    if arguments.workers < 0:
        parser.error(f'--workers={arguments.workers}: 0 or more')
    from internvl_mm.utils.door import run_door

    return run_door(lambda: check_data(arguments))


def check_data(arguments: argparse.Namespace) -> int:
    """Check what the arguments say.

    Raises:
        UserError: The meta file, an annotation or the model cannot be read.
    """
    from internvl_mm.evaluation.chat_check import ChatChecker, check_all, count_findings
    from internvl_mm.evaluation.chat_check_html import write_check_page
    from internvl_mm.preprocess.chat_folder import encoder_of
    from internvl_mm.utils.console import console, print_table

    encoder = None
    if arguments.model is not None:
        encoder = encoder_of(arguments.model, template=arguments.template, max_length=arguments.max_length)
    checker = ChatChecker(arguments.meta, encoder, read_files=not arguments.headers)
    arguments.out.mkdir(parents=True, exist_ok=True)
    reports = check_all(checker, arguments.out / 'samples.jsonl', workers=arguments.workers)
    page = write_check_page(reports, arguments.out / 'report.html', title=f'Chat data of {arguments.meta}')
    counts = count_findings(reports)
    if counts:
        print_table('What was found', ('finding', 'samples'), counts.items())
    bad = sum(not report.usable for report in reports)
    console.print(f'{len(reports):,} samples, {bad:,} cannot be used; see {page}', highlight=False)
    return 1 if bad else 0


if __name__ == '__main__':
    sys.exit(main())
