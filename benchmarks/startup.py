"""How long ``iimt-search --help`` takes, against a bare Python that imports click."""

import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.timing import interleaved


def _process(arguments: Sequence[str]) -> Callable[[], object]:
    return lambda: subprocess.run([sys.executable, *arguments], check=True, capture_output=True)


def measure_startup(rounds: int) -> dict[str, Any]:
    """Return medians in milliseconds, and each as a ratio to the bare one."""
    verbs = ("--help", "run --help", "best --help", "status --help", "validators")
    work = {"bare": _process(["-c", "import click"])}
    work |= {verb: _process(["-m", "iimt_search", *verb.split()]) for verb in verbs}
    seconds = interleaved(work, rounds)
    return {
        name: {"milliseconds": 1000 * value, "of_bare": value / seconds["bare"]}
        for name, value in seconds.items()
    }
