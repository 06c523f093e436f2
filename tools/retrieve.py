"""Find pictures of a folder by text: build an index once, answer queries with a page of hits.

python tools/retrieve.py photos/ --checkpoint pretrained/InternVL-14B-224px --query 'a red panda' '雪山'
python tools/retrieve.py --checkpoint pretrained/InternVL-14B-224px --query 'a boat at night'
"""

from __future__ import annotations

import argparse
import sys


def main(argv: list[str] | None = None) -> int:
    """Parse the arguments, build or read the index, answer; 0 on success, 2 after a mistake in what was given."""
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument(
        'images', nargs='*', metavar='IMAGE', help='files or folders to index (default: the index as it is)'
    )
    parser.add_argument('--query', nargs='+', default=[], metavar='TEXT', help='what to look for')
    parser.add_argument(
        '--index', default='pictures.safetensors', help='file of the index (default: %(default)s)'
    )
    parser.add_argument(
        '--config', default='zero_shot/flickr30k', help='config of the model (default: %(default)s)'
    )
    parser.add_argument(
        '--checkpoint', help='a published folder or a checkpoint (default: what the config loads)'
    )
    parser.add_argument('--out', default='hits.html', help='the page (default: %(default)s)')
    parser.add_argument('--top', type=int, default=12, help='pictures per query (default: %(default)s)')
    parser.add_argument(
        '--cfg-options', nargs='+', default=[], metavar='KEY=VALUE', help='replace settings: a.b.c=1'
    )
    args = parser.parse_args(argv)
    if args.top < 1:
        parser.error(f'--top={args.top}: at least one picture is needed')
    if not args.images and not args.query:
        parser.error('nothing to do: give images to index, or --query with what to look for')

    from internvl_mm.utils.door import run_door

    return run_door(lambda: retrieve(args))


def retrieve(args: argparse.Namespace) -> None:
    """Write the index and the page.

    Raises:
        UserError: A mistake in the config, the checkpoint, the images, the index or a query.
    """
    from internvl_mm.engine.config import check_config, load_config, set_checkpoint
    from internvl_mm.serving.images import find_images
    from internvl_mm.serving.retrieve import Retriever, write_hits
    from internvl_mm.utils.console import console

    if args.images:
        find_images(args.images)  # a wrong path is told before the model is built
    cfg = load_config(args.config, args.cfg_options)
    set_checkpoint(cfg, args.checkpoint)
    check_config(cfg, purpose='read')
    retriever = Retriever(cfg)
    index = retriever.index(args.index, args.images)
    if args.query:
        page = write_hits(retriever.answer(index, args.query, args.top), args.out, searched=len(index.paths))
        console.print(f'{len(args.query)} queries answered in {page}')


if __name__ == '__main__':
    sys.exit(main())
