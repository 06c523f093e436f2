"""DeepSpeed comes with its strategies alone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

REPO = Path(__file__).parents[2]


def python(code: str, *paths: Path) -> str:
    environment = {**os.environ, 'PYTHONPATH': os.pathsep.join(map(str, [*paths, REPO]))}
    result = subprocess.run(
        [sys.executable, '-c', code], capture_output=True, text=True, cwd=REPO, env=environment, timeout=300
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_only_its_strategies_import_deepspeed() -> None:
    code = (
        'import sys, internvl_mm.engine.runner\n'
        'from internvl_mm.engine.strategies import DDPStrategy, SingleDeviceStrategy\n'
        'before = "deepspeed" in sys.modules\n'
        'from internvl_mm.engine.strategies import DeepSpeedStrategy\n'
        'from transformers.integrations import is_deepspeed_available\n'
        'print(before, "deepspeed" in sys.modules, is_deepspeed_available())'
    )
    assert python(code) == 'False True True'


def test_a_deepspeed_that_cannot_be_imported_is_no_matter_of_other_runs(tmp_path: Path) -> None:
    # As 0.19.8 with mmengine: an error on import that mmengine does not expect.
    (tmp_path / 'deepspeed').mkdir()
    (tmp_path / 'deepspeed/__init__.py').write_text('raise RuntimeError("no such accelerator")')
    code = (
        'import internvl_mm.engine.runner\n'
        'from internvl_mm.engine.strategies import DDPStrategy\n'
        'try:\n'
        '    from internvl_mm.engine.strategies import DeepSpeedStrategy\n'
        'except RuntimeError as error:\n'
        '    print(error)'
    )
    assert python(code, tmp_path) == 'no such accelerator'
