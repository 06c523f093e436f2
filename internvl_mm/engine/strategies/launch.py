"""Process groups: who this process is, and the backend its device speaks."""

from __future__ import annotations

import atexit
import datetime
import os

import torch
import torch.distributed as dist

from internvl_mm.utils.errors import ConfigError

# Where each launcher says who a process is; torchrun already uses torch's names.
_NAMES = {
    'pytorch': {},
    'slurm': dict(RANK='SLURM_PROCID', WORLD_SIZE='SLURM_NTASKS', LOCAL_RANK='SLURM_LOCALID'),
    'mpi': dict(
        RANK='OMPI_COMM_WORLD_RANK',
        WORLD_SIZE='OMPI_COMM_WORLD_SIZE',
        LOCAL_RANK='OMPI_COMM_WORLD_LOCAL_RANK',
    ),
}
_NEEDED = ('RANK', 'WORLD_SIZE', 'LOCAL_RANK', 'MASTER_ADDR')


def choose_backend(backend: str) -> str:
    """``'auto'`` to nccl where CUDA is, gloo elsewhere.

    Raises:
        ConfigError: nccl without a CUDA device.
    """
    if backend == 'auto':
        return 'nccl' if torch.cuda.is_available() else 'gloo'
    if backend == 'nccl' and not torch.cuda.is_available():
        raise ConfigError(
            "env_cfg.dist_cfg.backend='nccl' needs CUDA and none is visible: use 'auto' or 'gloo'"
        )
    return backend


def join_group(launcher: str, *, backend: str = 'auto', timeout: float | None = None) -> None:
    """Join the processes a launcher started; with ``'none'``, found a group of one. Does nothing inside a group.

    Args:
        launcher: ``'pytorch'`` (torchrun), ``'slurm'``, ``'mpi'`` or ``'none'``.
        backend: ``'auto'``, ``'nccl'`` or ``'gloo'``.
        timeout: Seconds a collective may take; torch's default when left out.

    Raises:
        ConfigError: An unknown launcher, or its environment variables are missing.
    """
    # As in the second run of a process, such as a notebook.
    if dist.is_initialized():
        return
    options: dict = dict(backend=choose_backend(backend))
    if timeout is not None:
        options['timeout'] = datetime.timedelta(seconds=timeout)
    # In memory: no port to collide with another run on the machine.
    if launcher == 'none':
        dist.init_process_group(store=dist.HashStore(), rank=0, world_size=1, **options)
        _leave_at_exit()
        return
    if launcher not in _NAMES:
        raise ConfigError(f"launcher={launcher!r} is unknown: use 'none', 'pytorch', 'slurm' or 'mpi'")
    for name, theirs in _NAMES[launcher].items():
        # Where a launcher is silent, what the script that starts it has set stays.
        if theirs in os.environ:
            os.environ[name] = os.environ[theirs]
    os.environ.setdefault('MASTER_PORT', '29500')  # torch's default
    missing = [name for name in _NEEDED if name not in os.environ]
    if missing:
        raise ConfigError(
            f'launcher={launcher!r} but the environment lacks {", ".join(missing)}: start the run with one of the '
            "scripts in tools/launch, or set launcher='none' for a single process"
        )
    if options['backend'] == 'nccl':
        # Before the group exists: nccl binds a process to the device that is current then.
        torch.cuda.set_device(int(os.environ['LOCAL_RANK']))
    dist.init_process_group(**options)
    _leave_at_exit()


def _leave_at_exit() -> None:
    # Gloo's threads hold Python objects: one that lets go of its last while the interpreter is already ending takes a
    # finished run's exit status with it (SIGABRT, in about one exit of a hundred). NCCL is left to the end of the
    # process: its farewell waits for collectives that a process which failed never joins.
    if dist.get_backend() == 'gloo':
        atexit.register(_leave)


def _leave() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()
