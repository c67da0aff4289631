"""Why a process that ran a job is gone, in one line, from what Ray tells of it."""

# What Ray's text has in it → what to say; the first that fits.
_KNOWN = (
    ("running low on memory", "out of memory: Ray ended its process, its machine had almost no memory left"),
    ("outofmemoryerror", "out of memory: Ray ended its process, its machine had almost no memory left"),
    ("node died", "its node is gone"),
    ("node was terminated", "its node is gone"),
    ("node failure", "its node is gone"),
    ("unavailable", "its node or its process is gone"),
    ("sigkill", "its process was killed; the machine may be out of memory"),
    ("died unexpectedly", "its process was killed; the machine may be out of memory"),
)


def describe_death(text: str) -> str:
    """Return one line on why a process died.

    Args:
        text: Ray's account of it, many lines.
    """
    low = text.lower()
    for mark, found in _KNOWN:
        if mark in low:
            return found
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("Failure #")]
    return f"its process could not go on: {lines[-1]}" if lines else "its process is gone, nobody knows why"
