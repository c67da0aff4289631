"""Shows a run's progress: a live display on a terminal, plain lines otherwise."""

import math
import time
from collections.abc import Sequence
from contextlib import suppress
from itertools import islice
from typing import Self

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn

from iimt_search.cli.options import by_options
from iimt_search.cli.printing import PLAIN_EVERY
from iimt_search.plain_text import without_passwords
from iimt_search.study.progress import Snapshot

_BARS = "▁▂▃▄▅▆▇█"


def sparkline(values: Sequence[float]) -> str:
    """Return one character for each value, its height between the least and the greatest of them.

    A value that is not finite is ``?``; values that are all the same are drawn half-way up.
    """
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return "?" * len(values)
    low, high = min(finite), max(finite)

    def bar(value: float) -> str:
        height = 0.5 if high == low else (value - low) / (high - low)
        return _BARS[min(int(height * len(_BARS)), len(_BARS) - 1)]

    return "".join(bar(value) if math.isfinite(value) else "?" for value in values)


_MOST_BARS = 12


def duration(seconds: float) -> str:
    """Return seconds as ``1 h 02 min``, ``3 min 05 s`` or ``12 s``."""
    whole = round(seconds)
    if whole >= 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 60} min {whole % 60:02d} s" if whole >= 60 else f"{whole} s"


def _notes(snapshot: Snapshot) -> list[str]:
    """Return texts of a snapshot: trials by state, the best one, and the time left."""
    states = ", ".join(f"{count} {state}" for state, count in snapshot.states.items())
    left = "" if snapshot.left is None else f"about {duration(snapshot.left)} left"
    return list(filter(None, [states, f"best: {snapshot.best}" if snapshot.best else "", left]))


class PlainProgress:
    """A listener that prints lines, for logs and pipes."""

    def __init__(self, to_stderr: bool = False) -> None:
        self._to_stderr = to_stderr
        self._printed = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def line(self, text: str) -> None:
        """Print the line; a pipe that is closed or a full disk behind it ends no run."""
        with suppress(OSError):
            click.echo(without_passwords(by_options(text)), err=self._to_stderr)

    def snapshot(self, snapshot: Snapshot) -> None:
        """Print where the run stands, at most every 15 seconds."""
        if time.monotonic() - self._printed >= PLAIN_EVERY:
            self._printed = time.monotonic()
            self.line("  ".join([f"[{snapshot.done:4.0%}] {snapshot.phase}", *_notes(snapshot)]))


class RichProgress:
    """A listener with a live bar for the run and one for each job under way."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}", style="dim"),
            console=console,
            transient=True,
        )
        self._all = self._progress.add_task("search", total=1.0, note="")
        self._jobs: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def line(self, text: str) -> None:
        """Print the line above the bars."""
        self._console.print(without_passwords(by_options(text)), highlight=False, markup=False)

    def snapshot(self, snapshot: Snapshot) -> None:
        """Move the bars."""
        note = ", ".join(_notes(snapshot))
        self._progress.update(self._all, completed=snapshot.done, description=snapshot.phase, note=note)
        shown = dict(islice(snapshot.running.items(), _MOST_BARS))
        for key in set(self._jobs) - set(shown):
            self._progress.remove_task(self._jobs.pop(key))
        for key, share in shown.items():
            if key not in self._jobs:
                self._jobs[key] = self._progress.add_task(f"  {key}", total=1.0, note="")
            curve = snapshot.curves.get(key, ())
            note = f"{sparkline(curve)} {curve[-1]:.4f}" if curve else ""
            self._progress.update(self._jobs[key], completed=share, note=note)


def make_progress() -> PlainProgress | RichProgress:
    """Return the display that fits where standard output goes."""
    console = Console()
    return RichProgress(console) if console.is_terminal else PlainProgress()
