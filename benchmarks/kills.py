"""Kills: of the driver, of its worker, or of both, at writes and at random moments; then the run goes on.

What comes out must be what an uninterrupted run comes to. Every run is a fork of this process, so that none
has to import torch again; that works on POSIX systems alone.
"""

import json
import os
import random
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event
from typing import Any

import optuna
from optuna.trial import TrialState
from safetensors import safe_open

from iimt_search import api
from iimt_search.data.assemble import load_task
from iimt_search.errors import StudyError
from iimt_search.records import Choice
from iimt_search.report import write
from iimt_search.space import Space
from iimt_search.study.executors.inline import InlineExecutor
from iimt_search.study.executors.local import LocalExecutor
from iimt_search.study.folder import StudyFolder
from iimt_search.study.open import open_study
from iimt_search.study.progress import Silent
from iimt_search.study.run import RunOptions, run_study
from iimt_search.study.search.sampling import quiet_optuna
from iimt_search.study.storage.guard import GuardedWrites

TRIALS = 5
SPACE = {
    "schema": 1,
    "study": "killed",
    "tasks": ["digits->digits-m"],
    "train": {
        "steps": 6,
        "batch_size": 8,
        "image_size": 8,
        "width": 4,
        "evaluations": 3,
        "precision": "float32",
    },
    "budget": {"trials": TRIALS},
    "reference": {"trials": 2},
    "sampler": {"name": "tpe", "startup_trials": 1},
    "pruner": {"name": "median", "startup_trials": 1, "warmup": 0.3},
    "confirm": {"top": 1, "seeds": 2},
    "retrain": {"steps": 6, "seeds": 2},
}


def run_once(root: Path, worker: bool = False, report: bool = True) -> None:
    """Carry the study in ``root`` on to its report."""
    quiet_optuna()
    space, folder = Space.model_validate(SPACE), StudyFolder(root / "killed")
    options = RunOptions(folder.choose_storage(None))
    executor = partial(LocalExecutor, 1, 1) if worker else InlineExecutor
    run_study(space, folder, options, executor, Silent(), Event())
    if report:
        opened = open_study(root, "killed")
        write.write_report(opened, write.gather(opened), folder.path / "report.html")
        opened.storage.engine.dispose()


def forked(work: Callable[[], object], *, killed_after: float | None = None, who: str = "driver") -> str:
    """Do some work in a fork of this process.

    Args:
        work: what to do.
        killed_after: seconds after which ``who`` is killed.
        who: the fork, which is the ``driver``; its ``worker``; or ``both``.

    Returns:
        ``done``; ``killed``; or ``failed``, where it raised.
    """
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        os.setpgid(0, 0)
        try:
            work()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    ends = None if killed_after is None else time.monotonic() + killed_after
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return "killed" if os.WIFSIGNALED(status) else "failed" if os.WEXITSTATUS(status) else "done"
        if ends is not None and time.monotonic() >= ends:
            ends = None
            victims = children(pid) if who != "driver" else []
            for victim in victims if who == "worker" else [pid, *victims]:
                os.kill(victim, signal.SIGKILL)
        time.sleep(0.002)


def children(pid: int) -> list[int]:
    """Return a process's worker processes."""
    path = Path(f"/proc/{pid}/task/{pid}/children")
    found = [int(child) for child in path.read_text().split()] if path.exists() else []
    return [child for child in found if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]


@dataclass
class Outcome:
    """What a study has come to.

    Attributes:
        trials: number, state, parameters, values and curve of each.
        choice: as JSON, without the place of its models, and what they cost.
        models: every exported file and its bytes.
    """

    trials: list[Any] = field(default_factory=list)
    choice: dict[str, Any] = field(default_factory=dict)
    models: dict[str, bytes] = field(default_factory=dict)


def outcome(root: Path) -> Outcome:
    """Read what a finished study has come to, and check that all of it is whole.

    Raises:
        AssertionError: something is not; says what.
    """
    opened = open_study(root, "killed")
    (study,) = opened.studies
    trials = study.get_trials(deepcopy=False)
    opened.storage.engine.dispose()
    assert len(trials) == TRIALS, f"{len(trials)} trials of {TRIALS}"
    assert [trial.number for trial in trials] == list(range(TRIALS)), "numbers"
    ended = (TrialState.COMPLETE, TrialState.PRUNED)
    assert all(trial.state in ended for trial in trials), f"{[trial.state.name for trial in trials]}"
    folder = root / "killed"
    half = (path.relative_to(folder) for path in folder.rglob("*.tmp"))
    left = [str(path) for path in half if not path.name.startswith("report.html.")]  # anybody may write one
    assert not left, f"half files are left: {left}"
    assert not any((folder / "jobs").iterdir()), "checkpoints are left"
    for path in folder.rglob("*.json"):
        json.loads(path.read_text())
    for path in folder.rglob("*.safetensors"):
        with safe_open(path, framework="pt") as content:
            assert content.keys(), path
    assert "</html>" in (folder / "report.html").read_text()[-200:], "the report is cut short"
    (choice,) = api.best("killed", studies_dir=root)
    return Outcome([_trial(trial) for trial in trials], _choice(choice), _models(folder))


def _trial(trial: optuna.trial.FrozenTrial) -> list[Any]:
    scores = trial.user_attrs.get("scores")
    return [trial.number, trial.state.name, trial.params, trial.values, trial.intermediate_values, scores]


def _choice(choice: Choice) -> dict[str, Any]:
    content = choice.to_json()
    del content["models"]
    for candidate in content["candidates"]:
        del candidate["cost"]  # seconds
    return content


def _models(folder: Path) -> dict[str, bytes]:
    models = folder / "models"
    return {str(path.relative_to(models)): path.read_bytes() for path in models.rglob("*") if path.is_file()}


def differences(one: Outcome, other: Outcome) -> list[str]:
    """Return what of two outcomes differs, in words."""
    found = [
        f"trial {a[0]}: {a[1:]} and {b[1:]}" for a, b in zip(one.trials, other.trials, strict=True) if a != b
    ]
    found += [f"choice: {name}" for name in one.choice if one.choice[name] != other.choice[name]]
    names = sorted({*one.models, *other.models})
    return [*found, *(f"model {name}" for name in names if one.models.get(name) != other.models.get(name))]


def _still_read(root: Path) -> None:
    """Read a study that was killed, as a user does who wonders where it stands."""
    if (root / "killed" / "study.json").exists() and (root / "killed" / "study.db").stat().st_size:
        try:
            api.status("killed", studies_dir=root)
        except StudyError as error:
            if "no such study" not in str(error):  # killed at its birth
                raise


@dataclass
class Kills:
    """What kills have come to.

    Attributes:
        points: writes at which a run was killed.
        moments: random moments at which one was.
        studies: studies that were killed.
        wrong: what was not as it should be.
        by: who was killed → how often.
        seconds: that all of it took.
    """

    points: int = 0
    moments: int = 0
    studies: int = 0
    wrong: list[str] = field(default_factory=list)
    by: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0


def _counting(at: int | None, before: bool, log: Path | None = None) -> None:
    """Count the writes of this process: files that are renamed and transactions; die at one of them.

    Args:
        at: at which, counted from 0; None for none.
        before: before it is written, not after.
        log: takes the name of each.
    """
    count = 0
    replace, run = os.replace, GuardedWrites.run

    def counted(name: str, do: Callable[[], Any]) -> Any:
        nonlocal count
        here, count = count, count + 1
        if log is not None:
            with log.open("a") as file:
                file.write(f"{name}\n")
        if here == at and before:
            os.kill(os.getpid(), signal.SIGKILL)
        result = do()
        if here == at:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    def counted_run(self: GuardedWrites, work: Callable[..., Any]) -> Any:
        return counted("transaction", lambda: run(self, work))

    os.replace = lambda a, b, **more: counted(Path(b).name, lambda: replace(a, b, **more))
    GuardedWrites.run = counted_run  # type: ignore[method-assign]


def _finish(root: Path, whole: Outcome, kills: Kills, what: str, worker: bool = False) -> None:
    """Carry a killed study to its end, and compare it with the uninterrupted one."""
    ended = forked(partial(run_once, root, worker))
    try:
        if ended != "done":
            raise AssertionError(f"the run that went on has {ended}")
        wrong = differences(outcome(root), whole)
    except Exception as error:
        wrong = [f"{type(error).__name__}: {error}"]
    kills.wrong += [f"{what}: {each}" for each in wrong]
    kills.studies += 1


def measure_kills(points: int, moments: int, worker_moments: int, seed: int) -> Kills:
    """Kill runs at ``points`` evenly spaced writes, and at random moments, and let each go on.

    Args:
        points: before and after each of them; as many as there are where it is larger.
        moments: at which a driver that trains within its process is killed.
        worker_moments: at which a driver with a worker process, its worker, or both are killed.
        seed: of the moments.
    """
    began, rng, kills = time.monotonic(), random.Random(seed), Kills()
    with TemporaryDirectory() as folder:
        os.environ["IIMT_CACHE"] = f"{folder}/prepared"
        space = Space.model_validate(SPACE)
        load_task(space.tasks[0], 8, 1.0)
        names = Path(folder, "names")

        def noted(root: Path) -> None:
            _counting(None, True, names)
            run_once(root)

        # With an executor of the same kind: a fork and a worker may add up in another order.
        assert forked(partial(noted, Path(folder, "whole"))) == "done"
        whole = outcome(Path(folder, "whole"))
        first = time.monotonic()
        assert forked(partial(run_once, Path(folder, "again"))) == "done"
        lasts = time.monotonic() - first
        kills.wrong += [
            f"uninterrupted: {each}" for each in differences(outcome(Path(folder, "again")), whole)
        ]
        writes = names.read_text().splitlines()
        chosen = sorted({round(i * (len(writes) - 1) / max(1, points - 1)) for i in range(points)})

        def dying(root: Path, at: int, before: bool) -> None:
            _counting(at, before)
            run_once(root)

        for at in chosen:
            for before in (True, False):
                root = Path(folder, f"at-{at}-{before}")
                what = f"killed {'before' if before else 'after'} write {at}, {writes[at]}"
                if forked(partial(dying, root, at, before)) != "killed":
                    kills.wrong.append(f"{what}: was not killed")
                _still_read(root)
                _finish(root, whole, kills, what)
                kills.points += 1
                shutil.rmtree(root)
        _random_kills(Path(folder), whole, kills, rng, lasts, moments)
        if worker_moments:
            _worker_kills(Path(folder), kills, rng, worker_moments)
    kills.seconds = time.monotonic() - began
    return kills


def _random_kills(
    folder: Path, whole: Outcome, kills: Kills, rng: random.Random, lasts: float, moments: int
) -> None:
    """Kill drivers again and again until the study is finished or was killed five times; then compare."""
    while kills.moments < moments:
        root, times = folder / f"random-{kills.moments}", 0
        while times < 5 and kills.moments < moments:
            ended = forked(partial(run_once, root), killed_after=rng.uniform(0, 0.7 * lasts))
            if ended != "killed":
                break
            times += 1
            kills.moments += 1
            kills.by["driver"] = kills.by.get("driver", 0) + 1
            _still_read(root)
        _finish(root, whole, kills, f"killed {times} times at random")
        shutil.rmtree(root)


def _worker_kills(folder: Path, kills: Kills, rng: random.Random, moments: int) -> None:
    """Kill workers, drivers that have one, or both at once."""
    root = folder / "worker"
    first = time.monotonic()
    assert forked(partial(run_once, root, True)) == "done"
    lasts, whole, done = time.monotonic() - first, outcome(root), 0
    while done < moments:
        root, who = folder / f"worker-{done}", ("worker", "driver", "both")[done % 3]
        for _ in range(2):
            moment = rng.uniform(0.3, 0.9) * lasts
            ended = forked(partial(run_once, root, True), killed_after=moment, who=who)
            done += 1
            kills.moments += 1
            kills.by[who] = kills.by.get(who, 0) + 1
            if ended == "failed":
                kills.wrong.append(f"a killed {who} has taken the run along")
            _still_read(root)
        _finish(root, whole, kills, f"{who} killed", worker=True)
        shutil.rmtree(root)


def line(kills: Kills) -> str:
    """Return what kills have come to as text."""
    by = ", ".join(f"{who} {times}" for who, times in kills.by.items())
    return (
        f"{kills.points} kills at writes, {kills.moments} at random moments ({by}), {kills.studies} studies, "
        f"{kills.seconds:.0f} s: {len(kills.wrong)} wrong"
    )
