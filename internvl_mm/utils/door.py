"""How commands end: a user's mistake is told in red, anything unexpected keeps its traceback."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from .console import error_console
from .disk import free_space, is_full
from .errors import UserError

MISTAKE = 2
RESUMABLE = 75  # EX_TEMPFAIL of sysexits.h: the same command, with --resume, may get through
INTERRUPTED = 130  # 128 + SIGINT, as shells count


def run_door(job: Callable[[], object]) -> int:
    """Run a command and return its exit status.

    Args:
        job: The command, its arguments bound; a number it returns is its exit status.

    Returns:
        The command's own status (0 without one) when it finished, 2 after a :class:`UserError` or on a full disk, 75
        when a data worker died, 130 after Ctrl-C.
    """
    try:
        status = job()
    except UserError as error:
        return _mistake(_own_words(error))
    except OSError as error:
        # Any file of a run may be the one that does not fit; other errors of the system are nobody's mistake.
        if not is_full(error):
            raise
        return _mistake(_full_disk(error))
    except RuntimeError as error:
        # torch has no class of its own for it.
        if not str(error).startswith('DataLoader '):
            raise
        error_console.print(_lost_worker(error), style='red', highlight=False, soft_wrap=True)
        return RESUMABLE
    except KeyboardInterrupt:
        error_console.print('interrupted', style='yellow')
        return INTERRUPTED
    return status if isinstance(status, int) else 0


def _mistake(text: str) -> int:
    error_console.print(text, style='red', highlight=False, soft_wrap=True)
    return MISTAKE


def _own_words(error: UserError) -> str:
    """The message alone: from a worker of a data loader, torch hands it on below the worker's whole traceback."""
    # torch builds the error anew in the main process, so that its class survives and its message does not.
    text = str(error)
    if not text.startswith('Caught '):
        return text
    kind = type(error)
    return text.rpartition(f'{kind.__module__}.{kind.__qualname__}: ')[2].rstrip()


def _full_disk(error: OSError) -> str:
    # A failed write() names no file; a failed open() or mkdir() does.
    what, room = 'a file was not written', ''
    if error.filename:
        what, room = f'{error.filename} was not written', f' ({free_space(Path(error.filename))})'
    return (
        f'{what}: the disk is full{room}. Free space, or write elsewhere (--work-dir); what was finished is kept, and '
        'a training goes on from its last checkpoint with --resume'
    )


def _lost_worker(error: RuntimeError) -> str:
    """What torch says, which name the process and its signal, and what to do."""
    return (
        f'{str(error).strip().rstrip(".")}: a process that reads data is gone, most often because the machine ran out '
        'of memory. Lower train_dataloader.num_workers, its prefetch_factor or the batch size (a full /dev/shm '
        'shows as a bus error); a training goes on from its last checkpoint with --resume'
    )
