"""Random numbers as a function of a key: the same for any number of workers, and after a resume."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.random.mtrand import get_bit_generator, set_bit_generator


@contextmanager
def seeded(*key: int) -> Iterator[None]:
    """Run a block with the global generators of Python, NumPy and torch (CPU) seeded from ``key``, then put them back.

    Costs about 50 µs, so it can surround every sample. Global generators are shared by threads: use it in processes.

    Args:
        key: Non-negative integers, for example (seed, epoch, index).
    """
    # Three words of 32 bits; SeedSequence mixes the key, so neighbouring keys share nothing.
    numpy_seed, torch_seed, python_seed = np.random.SeedSequence(key).generate_state(3).tolist()
    python_state, torch_state = random.getstate(), torch.get_rng_state()
    numpy_generator = get_bit_generator()
    random.seed(python_seed)
    torch.default_generator.manual_seed(
        torch_seed
    )  # torch.manual_seed asks every accelerator: 50 times slower
    set_bit_generator(np.random.PCG64(numpy_seed))  # swapping generators is cheaper than copying states
    try:
        yield
    finally:
        random.setstate(python_state)
        torch.set_rng_state(torch_state)
        set_bit_generator(numpy_generator)
