"""Seeds derived from names, so that no part of a run shares a random stream with another."""

import hashlib


def derive_seed(seed: int, *names: str | int) -> int:
    """Return a seed in [0, 2**31) that depends on ``seed`` and every name, and on nothing else.

    The same arguments give the same seed on every machine and in every process (unlike ``hash``).
    """
    text = "\x1f".join([str(seed), *map(str, names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1
