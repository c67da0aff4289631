"""Shows a run's progress: a live display on a terminal, plain lines otherwise."""

import math
import time
from collections.abc import Sequence
from itertools import islice
from types import TracebackType
from typing import Self

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn

from iimt_search.cli.options import by_options
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
        if not math.isfinite(value):
            return "?"
        share = 0.5 if high == low else (value - low) / (high - low)
        return _BARS[min(int(share * len(_BARS)), len(_BARS) - 1)]

    return "".join(map(bar, values))


_PLAIN_EVERY = 15.0
_MOST_BARS = 12


def duration(seconds: float) -> str:
    """Return seconds as ``1 h 02 min``, ``3 min 05 s`` or ``12 s``."""
    whole = round(seconds)
    if whole >= 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 60} min {whole % 60:02d} s" if whole >= 60 else f"{whole} s"


class _TimeLeft:
    """Estimates the time left from the share of the work done since this run began."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._first: float | None = None

    def text(self, done: float) -> str:
        if self._first is None:
            self._first = done
        gained = done - self._first
        if gained < 0.01:
            return ""
        seconds = (time.monotonic() - self._began) * (1 - done) / gained
        return f"about {duration(seconds)} left"


def _states(snapshot: Snapshot) -> str:
    return ", ".join(f"{count} {state}" for state, count in snapshot.states.items())


class PlainProgress:
    """A listener that prints lines, for logs and pipes."""

    def __init__(self, to_stderr: bool = False) -> None:
        self._to_stderr = to_stderr
        self._left = _TimeLeft()
        self._said = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def line(self, text: str) -> None:
        """Print the line."""
        click.echo(by_options(text), err=self._to_stderr)

    def snapshot(self, snapshot: Snapshot) -> None:
        """Print where the run stands, at most every 15 seconds."""
        left = self._left.text(snapshot.done)
        if time.monotonic() - self._said < _PLAIN_EVERY:
            return
        self._said = time.monotonic()
        best = f"best: {snapshot.best}" if snapshot.best else ""
        done = f"[{snapshot.done:4.0%}] {snapshot.phase}"
        self.line("  ".join(filter(None, [done, _states(snapshot), best, left])))


class RichProgress:
    """A listener with a live bar for the run and one for each job under way."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._left = _TimeLeft()
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

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def line(self, text: str) -> None:
        """Print the line above the bars."""
        self._console.print(by_options(text), highlight=False, markup=False)

    def snapshot(self, snapshot: Snapshot) -> None:
        """Move the bars."""
        best = f"best: {snapshot.best}" if snapshot.best else ""
        note = ", ".join(filter(None, [_states(snapshot), best, self._left.text(snapshot.done)]))
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
