"""Faults of the machine while a study runs: nothing is lost without a word, and the run says how to go on."""

import errno
import os
import shlex
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from optuna.trial import TrialState
from sqlalchemy import create_engine, event, text
from sqlalchemy.engine import Engine

from iimt_search.cli.main import cli
from iimt_search.cli.run import _stopped_by_signals
from iimt_search.data.registry import DOMAINS
from iimt_search.errors import MachineError, StudyError, StudyInterruptedError, StudyMismatchError
from iimt_search.records import Choice, Finished, Job, Report
from iimt_search.settings import TrainSettings
from iimt_search.space import KnownNames, Space, load_space
from iimt_search.space.task_spec import TaskSpec
from iimt_search.study.executors.inline import InlineExecutor
from iimt_search.study.executors.local import LocalExecutor
from iimt_search.study.folder import StudyFolder
from iimt_search.study.open import open_study
from iimt_search.study.progress import Silent, Snapshot
from iimt_search.study.run import RunOptions, run_study
from iimt_search.study.storage import driver, guard
from iimt_search.study.storage.database import sqlite_url
from iimt_search.study.storage.guard import GuardedWrites
from iimt_search.study.storage.lock import DriverSession
from iimt_search.validators.registry import VALIDATORS

SPACES = [shutil.which("unshare"), "-rm"] if shutil.which("unshare") else []
CHANGES: dict[str, Any] = {"tasks": ["digits->digits-m"], "objective": "entropy", "validators": []}


def load(path: Path, **changes: Any) -> Space:
    space = load_space(path, KnownNames(DOMAINS, VALIDATORS))
    return Space.model_validate({**space.canonical(), **CHANGES, **changes})


def run(space: Space, root: Path, listener: Silent | None = None) -> Choice:
    folder = StudyFolder(root / space.study)
    options = RunOptions(sqlite_url(folder.database), "cpu")
    (choice,) = run_study(space, folder, options, InlineExecutor, listener or Silent(), threading.Event())
    return choice


class Once(Silent):
    """Does something to a study's database at its nth snapshot."""

    def __init__(self, at: int, do: Any) -> None:
        self.left, self.do = at, do

    def snapshot(self, snapshot: Snapshot) -> None:
        self.left -= 1
        if self.left == 0:
            self.do()


# The database.


def test_a_database_that_is_locked_for_a_while_is_waited_for(tiny_space: Path, tmp_path: Path) -> None:
    path, held = tmp_path / "tiny" / "study.db", threading.Event()

    def hold() -> None:
        database = sqlite3.connect(path)
        database.execute("BEGIN IMMEDIATE")
        held.set()
        time.sleep(0.5)
        database.rollback()
        database.close()

    holder = threading.Thread(target=hold)

    def lock() -> None:
        holder.start()
        held.wait()

    run(load(tiny_space), tmp_path, Once(3, lock))
    holder.join()
    assert len(open_study(tmp_path, "tiny").studies[0].trials) == 3


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    made = create_engine(sqlite_url(tmp_path / "a.db"), connect_args={"timeout": 0.01})
    with made.begin() as connection:
        connection.execute(text("CREATE TABLE t (x TEXT)"))
    yield made
    made.dispose()


def write(engine: Engine, lines: list[str], rows: int = 1) -> None:
    writes = GuardedWrites(DriverSession(engine, "a"), lines.append, lambda _: False)
    writes.run(
        lambda c, _: [c.execute(text("INSERT INTO t VALUES (:x)"), {"x": "y" * 9000}) for _ in range(rows)]
    )


def test_a_database_that_stays_locked_ends_the_run_with_what_to_do(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "PAUSES", (0.0, 0.0))
    other = sqlite3.connect(tmp_path / "a.db")
    other.execute("BEGIN EXCLUSIVE")
    lines: list[str] = []
    with pytest.raises(
        StudyError, match=r"database is locked; what is finished is in it.*run again to continue"
    ):
        write(engine, lines)
    assert lines == ["the database does not answer, trying again: database is locked"]
    other.close()
    write(engine, lines)


def test_a_full_disk_ends_the_run_with_what_to_do(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "PAUSES", (0.0, 0.0))
    listen = lambda connection, _: connection.execute("PRAGMA max_page_count=4")  # noqa: E731
    event.listen(engine, "connect", listen)
    engine.dispose()
    with pytest.raises(StudyError, match=r"database or disk is full; what is finished is in it"):
        write(engine, [], rows=20)
    event.remove(engine, "connect", listen)
    engine.dispose()
    write(engine, [], rows=20)


@pytest.mark.parametrize("replaced", [False, True])
def test_a_database_that_is_removed_or_replaced_is_told_at_once(
    tiny_space: Path, tmp_path: Path, replaced: bool
) -> None:
    folder, aside = tmp_path / "tiny", tmp_path / "aside"
    aside.mkdir()

    def remove() -> None:
        for path in folder.glob("study.db*"):
            path.rename(aside / path.name)
        if replaced:
            (folder / "study.db").write_bytes((aside / "study.db").read_bytes())

    with pytest.raises(StudyError, match="was removed or replaced while the study ran"):
        run(load(tiny_space), tmp_path, Once(4, remove))
    for path in folder.glob("study.db*"):
        path.unlink()
    for path in aside.iterdir():
        path.rename(folder / path.name)
    run(load(tiny_space), tmp_path)
    assert all(
        trial.state is not TrialState.RUNNING for trial in open_study(tmp_path, "tiny").studies[0].trials
    )


def test_a_database_that_is_damaged_while_the_study_runs_is_told(tiny_space: Path, tmp_path: Path) -> None:
    def damage() -> None:
        with sqlite3.connect(tmp_path / "tiny" / "study.db") as database:
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        with (tmp_path / "tiny" / "study.db").open("r+b") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(0)
            file.write(os.urandom(size))

    with pytest.raises(StudyError, match=r"refuses to be written to: .*(malformed|not a database)"):
        run(load(tiny_space), tmp_path, Once(4, damage))


@pytest.mark.parametrize("at", [0, 20, 100, 4096, 30_000])
def test_a_damaged_database_is_told_as_one(tiny_space: Path, tmp_path: Path, at: int) -> None:
    from benchmarks.scale import make_study

    make_study(tmp_path, 5)
    path = tmp_path / "scale" / "study.db"
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    whole = bytearray(path.read_bytes())
    whole[at : at + 4096] = os.urandom(4096)
    for each in path.parent.glob("study.db*"):
        each.unlink()
    path.write_bytes(whole)
    for words in (["status"], ["best"], ["run", "--space", str(tiny_space), "--workers", "0"]):
        study = ["--study", "scale", "--studies-dir", str(tmp_path)]
        result = CliRunner().invoke(cli, [*words, *study, *(["--steps", "1"] if words[0] == "run" else [])])
        assert result.exit_code in (0, 1), result.output
        assert isinstance(result.exception, SystemExit | None), result.exception
        assert "--debug shows where" not in result.output, result.output


# Workers.


@pytest.mark.slow
def test_a_worker_that_hangs_is_killed_and_its_job_goes_on(tmp_path: Path) -> None:
    settings = TrainSettings(steps=4, batch_size=8, image_size=8, width=4, evaluations=2)
    tasks = (TaskSpec.model_validate("digits->digits-m"),)
    job = Job("job-1", tasks, settings, 1, ("entropy",), str(tmp_path / "job-1"))
    executor = LocalExecutor(1, 1, patience=0.5)
    try:
        executor.submit(job)
        (report,) = executor.wait(60)
        assert isinstance(report, Report)
        time.sleep(0.6)
        assert executor.wait(0) == []  # it waits for its answer: that is no hanging
        executor._slowest = 0.01
        pid = executor._workers[0].process.pid
        assert pid
        os.kill(pid, signal.SIGSTOP)
        executor.answer("job-1", True)
        ended = []
        while not ended:
            ended = [e for e in executor.wait(0.2) if isinstance(e, Finished)]
        assert ended == [Finished("job-1", "lost", "its process did not answer any more, and was killed")]
        executor._slowest = 60.0
        executor.submit(job)
        (again,) = executor.wait(60)
        assert again == report  # from its checkpoint
    finally:
        executor.close()


# The clock.


def test_a_clock_that_goes_back_changes_nothing(
    tiny_space: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Backwards(datetime):
        now_is = datetime.now()

        @classmethod
        def now(cls, tz: Any = None) -> Any:
            cls.now_is -= timedelta(minutes=7)
            return cls.now_is

    expected = run(load(tiny_space, study="straight"), tmp_path)
    monkeypatch.setattr(driver, "datetime", Backwards)
    choice = run(load(tiny_space), tmp_path)
    assert choice.digest == expected.digest
    monkeypatch.undo()
    for verb in ("status", "best", "report"):
        result = CliRunner().invoke(cli, [verb, "--study", "tiny", "--studies-dir", str(tmp_path)])
        assert result.exit_code == 0, result.output


# Two drivers.


def test_a_second_driver_is_refused_and_says_who_runs_the_study(tiny_space: Path, tmp_path: Path) -> None:
    given = ["run", "--space", str(tiny_space), "--workers", "0", "--studies-dir", str(tmp_path)]
    refused = []

    def again() -> None:
        refused.append(CliRunner().invoke(cli, given))

    run(load(tiny_space), tmp_path, Once(2, again))
    (result,) = refused
    assert result.exit_code == 1
    assert f"error: study 'tiny' is being run by process {os.getpid()} on " in result.output


# Signals.

EXIT_CODES = {"SIGINT": 130, "SIGTERM": 0, "SIGHUP": 0}


@pytest.fixture(params=["SIGINT", "SIGTERM", "SIGHUP"])
def signal_name(request: pytest.FixtureRequest) -> Iterator[str]:
    """A signal that ends this process and those it starts, whatever the one that began the tests ignores."""
    number = getattr(signal, request.param)
    before = signal.signal(number, signal.default_int_handler)
    yield request.param
    signal.signal(number, before)


def test_a_signal_stops_a_run_and_the_handlers_are_put_back(signal_name: str) -> None:
    number, lines, came = getattr(signal, signal_name), list[str](), list[str]()
    before = signal.getsignal(number)
    with _stopped_by_signals(lines.append, came) as stop:
        os.kill(os.getpid(), number)
        assert stop.wait(1) and came == [signal_name] and lines == ["stopping…"]
    assert signal.getsignal(number) is before


def test_what_nohup_ignores_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with _stopped_by_signals(print, []) as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stop.wait(0.05)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_how_a_stopped_run_ends(
    signal_name: str, tiny_space: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from iimt_search.study import run as module

    def stopped(*arguments: Any) -> None:
        os.kill(os.getpid(), getattr(signal, signal_name))
        raise StudyInterruptedError("study 'tiny' is stopped; nothing is lost")

    monkeypatch.setattr(module, "run_study", stopped)
    given = ["--space", str(tiny_space), "--workers", "0", "--studies-dir", str(tmp_path)]
    result = CliRunner().invoke(cli, ["run", *given])
    assert result.exit_code == EXIT_CODES[signal_name]
    assert "nothing is lost. Continue with: iimt-search run --space" in result.output


@pytest.mark.slow
def test_a_run_that_is_asked_to_end_saves_and_goes_on(
    signal_name: str, tiny_space: Path, tmp_path: Path
) -> None:
    text_ = (
        tiny_space.read_text().replace("steps: 4", "steps: 300").replace("evaluations: 2", "evaluations: 30")
    )
    tiny_space.write_text(text_)
    command = [sys.executable, "-m", "iimt_search", "run", "--space", str(tiny_space), "--workers", "1"]
    command += ["--studies-dir", str(tmp_path / "s")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    checkpoints = tmp_path / "s" / "tiny" / "jobs"
    deadline = time.monotonic() + 120
    while not list(checkpoints.glob("*/checkpoint.pt")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(getattr(signal, signal_name))
    output, _ = process.communicate(timeout=60)
    assert process.returncode == EXIT_CODES[signal_name], output
    assert "Continue with: iimt-search run" in output.splitlines()[-1]
    assert list(checkpoints.glob("*/checkpoint.pt"))


# What changed.


def test_what_changed_in_a_space_is_told_with_both_values(tiny_space: Path, tmp_path: Path) -> None:
    run(load(tiny_space, budget={"trials": 1}), tmp_path)
    content = load(tiny_space).canonical()
    changes = {"seed": 9, "train": {**content["train"], "batch_size": 16}}
    with pytest.raises(StudyMismatchError) as told:
        run(load(tiny_space, **changes), tmp_path)
    assert "(train.batch_size: 8, now 16; seed: 0, now 9)" in str(told.value)


# Files.


def test_a_disk_that_is_full_for_the_drivers_own_files_says_how_to_go_on(
    tiny_space: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors import SafetensorError

    from iimt_search.study.search import reference

    def full(*_: Any, **__: Any) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(reference, "save_file", full)
    space = load(tiny_space, objective="consensus", reference={"trials": 1})
    with pytest.raises(MachineError, match=r"No space left .*; what is finished is kept; run again"):
        run(space, tmp_path)
    monkeypatch.undo()
    run(space, tmp_path)


def test_what_cannot_be_written_is_named_in_one_line(
    tiny_space: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    below = ["--workers", "0", "--studies-dir", str(tmp_path / "file" / "s")]
    result = CliRunner().invoke(cli, ["run", "--space", str(tiny_space), *below])
    assert result.exit_code == 1 and len(result.output.strip().splitlines()) <= 2
    assert "error: " in result.output and "Not a directory" in result.output

    run(load(tiny_space), tmp_path)
    replace = os.replace

    def full(source: Any, target: Any) -> None:
        if str(target).endswith(".html"):
            raise OSError(errno.ENOSPC, "No space left on device", str(target))
        replace(source, target)

    monkeypatch.setattr(os, "replace", full)
    result = CliRunner().invoke(cli, ["report", "--study", "tiny", "--studies-dir", str(tmp_path)])
    assert result.exit_code == 1
    assert result.output.strip().endswith("report.html: No space left on device  (--debug shows where)")
    assert not list((tmp_path / "tiny").glob("*.tmp"))


@pytest.mark.slow
def test_a_disk_that_is_full_ends_the_run_and_with_room_it_goes_on(tiny_space: Path, tmp_path: Path) -> None:
    """On a file system of its own, which a namespace of its own may mount."""
    if not SPACES or subprocess.run([*SPACES, "true"], capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    disk = tmp_path / "disk"
    disk.mkdir()
    command = [sys.executable, "-m", "iimt_search", "run", "--space", tiny_space, "--workers", "0"]
    command += ["--studies-dir", disk]
    run_it = shlex.join(map(str, command))
    script = f"""
    mount -t tmpfs -o size=400k tmpfs {disk}
    {run_it} > {tmp_path}/full 2>&1; echo $? >> {tmp_path}/full
    mount -o remount,size=100m {disk}
    {run_it} > {tmp_path}/room 2>&1; echo $? >> {tmp_path}/room
    """
    subprocess.run([*SPACES, "sh", "-c", script], check=True, timeout=300)
    full, room = ((tmp_path / name).read_text() for name in ("full", "room"))
    assert full.splitlines()[-1] == "1" and "Traceback" not in full, full
    assert "error: " in full.splitlines()[-2] and ("is full" in full or "No space left" in full), full
    assert room.splitlines()[-1] == "0", room
