"""Stands in for tools/train.py: a run folder with results that depend on the options, in milliseconds."""

import json
import sys
from pathlib import Path

config, _, folder, *rest = sys.argv[1:]
options = dict(pair.split('=') for pair in rest if '=' in pair)
lr = float(options.get('optim_wrapper.optimizer.lr', 1))
if lr > 100:
    sys.exit('the loss is infinite')
(Path(folder) / 'tries').open('a').write('x')
if lr == 7 and len((Path(folder) / 'tries').read_text()) < 2:
    sys.exit('bad luck')
run = Path(folder, '20260101_000000')
run.mkdir(parents=True, exist_ok=True)
value = 10 * lr + int(options.get('randomness.seed', 0))
rows = [dict(benchmark='digits', metric='top1', value=value, n=100)]
(run / 'results.json').write_text(json.dumps(rows))
