"""Seeds derived from names, so that no part of a run shares a random stream with another."""

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np


def derive_seed(seed: int, *names: str | int) -> int:
    """Return a seed in [0, 2**31) that depends on ``seed`` and every name, and on nothing else.

    The same arguments give the same seed on every machine and in every process (unlike ``hash``).
    """
    text = "\x1f".join([str(seed), *map(str, names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1


@contextmanager
def seeded_globals(seed: int) -> Iterator[None]:
    """Let Python's and NumPy's global generators draw from ``seed`` within the block, and put them back.

    Only for others' code that draws from them and takes no generator.
    """
    python, numpy = random.getstate(), np.random.get_state()
    random.seed(seed)
    np.random.seed(seed)
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
