"""Does this machine compute, talk between processes and write as the toolkit expects?"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch import distributed

from internvl_mm.utils.precision import resolve_precision

from .installation import Note

PROCESS_TIMEOUT = 120  # s, for two processes to start and meet
# Only torch: a process that imports the whole toolkit takes many times longer to start.
_MEET = """
import sys, torch
from torch import distributed
distributed.init_process_group('gloo', init_method=sys.argv[1], rank=int(sys.argv[2]), world_size=2)
total = torch.tensor(int(sys.argv[2]) + 1)
distributed.all_reduce(total)
distributed.destroy_process_group()
assert total.item() == 3, f'1 + 2 = {total.item()} between two processes'
"""
ENOUGH_SPACE = 20 * 2**30  # bytes; a training state of a 300M model takes 5 GB


def devices(folder: Path) -> str:
    """What there is to compute on, and whether torch sees it."""
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
        # A kernel of its own, because a wrong driver shows only when one runs.
        torch.ones(8, device='cuda').sum().item()
        return ', '.join(f'{device.name} {device.total_memory / 2**30:.0f} GiB' for device in names)
    if shutil.which('nvidia-smi'):
        raise Note(
            f'nvidia-smi is there but torch {torch.__version__} sees no GPU: install the torch build of your CUDA '
            '(docs/get_started.md)'
        )
    return f'no GPU; {os.cpu_count()} CPU cores'


def precision(folder: Path) -> str:
    """What precision='auto' means here."""
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    choices = {width: resolve_precision('auto', device=device, width=width) for width in (96, 1024, 3200)}
    # Widths of the tiny model, InternViT-300M and InternViT-6B.
    names = ', '.join(f'width {width}: {choice.name}' for width, choice in choices.items())
    return f"'auto' on this {device} is {names} ({choices[3200].reason})"


@torch.no_grad()
def parity(folder: Path) -> str:
    """A small InternViT with random weights gives what transformers' own InternVL vision model gives."""
    from transformers import InternVLVisionConfig, InternVLVisionModel

    from internvl_mm.models.backbones import InternViT
    from internvl_mm.models.convert import from_hf

    torch.manual_seed(0)
    sizes: dict[str, Any] = dict(
        hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=128
    )
    norms: dict[str, Any] = dict(norm_type='layer_norm')
    ours = InternViT(**sizes, **norms, image_size=56, qk_normalization=False, qkv_bias=True)
    ours.init_weights()
    config = InternVLVisionConfig(
        **sizes, **norms, image_size=[56, 56], patch_size=[14, 14], attention_bias=True, use_mean_pooling=True
    )
    theirs = InternVLVisionModel(config)
    theirs.load_state_dict(from_hf(ours.state_dict(), 'native'))
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    pixels = torch.randn(2, 3, 56, 56, device=device)
    tokens = [ours.to(device).eval()(pixels).tokens, theirs.to(device).eval()(pixels).last_hidden_state]
    error = (tokens[0] - tokens[1]).abs().max().item()
    # 1e-6 on CPUs; on GPUs torch computes convolutions (the patch embedding) in TF32, with 10 bits.
    assert error < 1e-3, f'outputs differ by {error:.1e} on {device}: look at torch and its kernels'
    return f'largest difference {error:.1e} on {device}'


def two_processes(folder: Path) -> str:
    """Two processes meet and add numbers."""
    with tempfile.TemporaryDirectory() as meeting:
        # They meet in a file: a port might be another run's.
        command = [sys.executable, '-c', _MEET, f'file://{meeting}/meet']
        started = [
            subprocess.Popen([*command, str(rank)], stderr=subprocess.PIPE, text=True) for rank in (0, 1)
        ]
        try:
            # One after the other is enough: both end together, or neither does.
            errors = [process.communicate(timeout=PROCESS_TIMEOUT)[1] for process in started]
        except subprocess.TimeoutExpired as error:
            raise RuntimeError(
                f'two processes did not meet within {PROCESS_TIMEOUT} s: look at the firewall and GLOO_SOCKET_IFNAME'
            ) from error
        finally:
            for process in started:
                # Nothing to one that has ended.
                process.kill()
    if any(process.returncode for process in started):
        last = ''.join(errors).strip().splitlines()[-1]
        raise RuntimeError(f'two processes could not add numbers: {last}')
    return 'gloo connects two processes' + (', nccl is there' if distributed.is_nccl_available() else '')


def disk(folder: Path) -> str:
    """The folder of runs can be written, synced and renamed in, and has room."""
    from internvl_mm.utils.disk import check_writable

    check_writable(folder, setting='--work-dir', way_out='name another with --work-dir')
    # Bytes; random, since some file systems compress, and large enough that a sync is no rounding error.
    size = 32 * 2**20
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        started = time.perf_counter()
        with open(Path(scratch, 'a'), 'wb') as file:
            file.write(os.urandom(size))
            file.flush()
            os.fsync(file.fileno())
        os.replace(Path(scratch, 'a'), Path(scratch, 'b'))
        speed = size / (time.perf_counter() - started) / 2**20
    free = shutil.disk_usage(folder).free
    facts = f'{free / 2**30:.0f} GiB free, synced at {speed:.0f} MiB/s'
    if free < ENOUGH_SPACE:
        raise Note(f'{facts}: a training state of a 300M model takes 5 GB, keep few of them (keep_last)')
    return facts
