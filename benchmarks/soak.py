"""Many short trials in one run: what each adds to memory, open handles, and the study on disk."""

import os
import sqlite3
import time
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event
from typing import Any

import numpy as np

from iimt_search.space import Space
from iimt_search.study.executors.inline import InlineExecutor
from iimt_search.study.executors.local import LocalExecutor
from iimt_search.study.folder import StudyFolder
from iimt_search.study.progress import Silent, Snapshot
from iimt_search.study.run import RunOptions, run_study
from iimt_search.study.search.sampling import quiet_optuna

# The first share of a run fills caches and pools: growth is measured after it.
_WARM_UP = 0.25


def soak_space(trials: int) -> Space:
    """Return a space of so many trials, each as short as a trial can be."""
    content: dict[str, Any] = {
        "schema": 1,
        "study": "soak",
        "tasks": ["digits->digits-m"],
        "train": {"steps": 2, "batch_size": 8, "image_size": 8, "width": 4, "evaluations": 2},
        "objective": "entropy",
        "validators": ["entropy"],
        "sampler": {"name": "random"},
        "budget": {"trials": trials},
        "keep": {"megabytes": 5},
        "confirm": {"top": 1, "seeds": 1},
        "retrain": {"steps": 2, "seeds": 1},
    }
    return Space.model_validate(content)


def _memory(pid: int) -> int:
    """Return the bytes of memory that a process holds."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _handles(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def _database(path: Path) -> int:
    """Return the bytes of a database, with what its log holds of it."""
    with closing(sqlite3.connect(path)) as database:
        pages = [database.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size")]
    return int(pages[0] * pages[1])


@dataclass
class Watch(Silent):
    """Measures at every trial's end.

    Attributes:
        folder: the study's.
        pids: the processes that are measured; the driver's is 0.
        rows: trials ended, seconds, database bytes, then memory and handles of each process.
    """

    folder: Path
    pids: list[int] = field(default_factory=lambda: [os.getpid()])
    rows: list[list[float]] = field(default_factory=list)

    def snapshot(self, snapshot: Snapshot) -> None:
        """Measure where a trial has ended since."""
        ended = sum(snapshot.states.values())
        if snapshot.phase != "search" or (self.rows and self.rows[-1][0] == ended):
            return
        sizes = [value for pid in self.pids for value in (_memory(pid), _handles(pid))]
        self.rows.append([ended, time.monotonic(), _database(self.folder / "study.db"), *sizes])


def measure_soak(trials: int, worker: bool = True) -> dict[str, float]:
    """Run so many trials.

    Args:
        trials: at least 8.
        worker: in a worker process, which is measured too; else within this one.

    Returns:
        ``trials``, ``seconds`` for each, and after the first quarter, by a straight line through what was
        measured at each trial's end: bytes of ``database``, of memory (``driver``, ``worker``) that a trial
        adds, and how many handles (``driver_handles``, ``worker_handles``) all of them together add.
    """
    quiet_optuna()
    with TemporaryDirectory() as root:
        folder = StudyFolder(Path(root) / "soak")
        watch = Watch(folder.path)

        def start() -> Any:
            if not worker:
                return InlineExecutor()
            executor = LocalExecutor(1, 1)
            watch.pids.append(executor._workers[0].process.pid or 0)
            return executor

        options = RunOptions(folder.choose_storage(None), "cpu")
        run_study(soak_space(trials), folder, options, partial(start), watch, Event())
    rows = np.array(watch.rows)
    late = rows[rows[:, 0] >= _WARM_UP * trials]
    slope = [float(np.polyfit(late[:, 0], column, 1)[0]) for column in late.T[2:]]
    names = ["database", "driver", "driver_handles", *(("worker", "worker_handles") if worker else ())]
    found = dict(zip(names, slope, strict=True))
    found |= {name: value * trials for name, value in found.items() if name.endswith("handles")}
    seconds = (late[-1, 1] - late[0, 1]) / (late[-1, 0] - late[0, 0])
    return {"trials": float(rows[-1, 0]), "seconds": float(seconds), **found}
