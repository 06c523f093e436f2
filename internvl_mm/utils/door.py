"""How commands end: a user's mistake is told in red, anything unexpected keeps its traceback."""

from __future__ import annotations

from collections.abc import Callable

from .console import error_console
from .errors import UserError

MISTAKE = 2
INTERRUPTED = 130  # 128 + SIGINT, as shells count


def run_door(job: Callable[[], object]) -> int:
    """Run a command and return its exit status.

    Args:
        job: The command, its arguments bound.

    Returns:
        0 when it finished, 2 after a :class:`UserError`, 130 after Ctrl-C.
    """
    try:
        job()
    except UserError as error:
        error_console.print(str(error), style='red', markup=False, highlight=False, soft_wrap=True)
        return MISTAKE
    except KeyboardInterrupt:
        error_console.print('interrupted', style='yellow')
        return INTERRUPTED
    return 0
