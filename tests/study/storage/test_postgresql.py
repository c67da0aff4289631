"""A study in PostgreSQL: watched while it runs, guarded across machines, and over an outage."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from optuna.trial import TrialState
from sqlalchemy import text

from benchmarks.postgresql import PASSWORD, PostgreSQL
from iimt_search.cli.main import cli
from iimt_search.data.registry import DOMAINS
from iimt_search.errors import StudyError, StudyInterruptedError, StudyLockedError
from iimt_search.records import Choice
from iimt_search.space import KnownNames, Space, load_space
from iimt_search.study.executors.inline import InlineExecutor
from iimt_search.study.folder import StudyFolder
from iimt_search.study.open import open_study
from iimt_search.study.progress import Silent, Snapshot
from iimt_search.study.run import RunOptions, run_study
from iimt_search.study.storage import guard as guarded_writes
from iimt_search.study.storage.database import PASSWORD_VARIABLE, open_storage, opened_storage
from iimt_search.validators.registry import VALIDATORS

pytestmark = pytest.mark.long  # each starts a server

BACKENDS = ["local", pytest.param("ray", marks=pytest.mark.ray)]


def load(path: Path, **changes: Any) -> Space:
    space = load_space(path, KnownNames(DOMAINS, VALIDATORS))
    return Space.model_validate({**space.canonical(), "tasks": ["digits->digits-m"], **changes})


def run(space: Space, root: Path, url: str, listener: Silent | None = None) -> list[Choice]:
    options, stop = RunOptions(url, "cpu"), threading.Event()
    return run_study(
        space, StudyFolder(root / space.study), options, InlineExecutor, listener or Silent(), stop
    )


def invoke(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, [str(a) for a in arguments])


class AtSnapshot(Silent):
    """Does something once, at the nth snapshot, and keeps all lines."""

    def __init__(self, count: int, do: Any) -> None:
        self.left, self.do = count, do
        self.lines: list[str] = []

    def line(self, text: str) -> None:
        self.lines.append(text)

    def snapshot(self, snapshot: Snapshot) -> None:
        self.left -= 1
        if self.left == 0:
            self.do()


@contextmanager
def started(*arguments: str | Path) -> Iterator[subprocess.Popen[str]]:
    """Run a verb in a process of its own; it is ended afterwards."""
    command = [sys.executable, "-m", "iimt_search", *map(str, arguments)]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen(command, **pipes) as process:
        try:
            yield process
        finally:
            process.kill()


def fetch(url: str, until: float) -> Any:
    """Read JSON of a server that may not be there yet."""
    while True:
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return json.load(answer)
        except OSError:
            assert time.monotonic() < until, url
            threading.Event().wait(0.2)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_the_dashboard_reads_a_study_while_it_is_written(
    server: PostgreSQL, tiny_space: Path, tmp_path: Path, backend: str
) -> None:
    port, until = free_port(), time.monotonic() + 240
    # More trials than any machine ends before the dashboard looks; the run is stopped once it has seen them.
    tiny_space.write_text(tiny_space.read_text().replace("trials: 3", "trials: 1000"))
    where = ["--storage", server.url, "--studies-dir"]
    arguments: list[str | Path] = ["run", "--space", tiny_space, "--workers", "2", *where, tmp_path / "here"]
    arguments += [] if backend == "local" else ["--backend", backend]
    with started(*arguments) as driver:
        while invoke("status", "--study", "tiny", *where, tmp_path / "there").exit_code:
            assert time.monotonic() < until and driver.poll() is None
            threading.Event().wait(0.2)
        watching = ["dashboard", "--study", "tiny", *where, tmp_path / "there", "--port", str(port)]
        with started(*watching) as dashboard:
            (study,) = fetch(f"http://127.0.0.1:{port}/api/studies", until)["study_summaries"]
            url = f"http://127.0.0.1:{port}/api/studies/{study['study_id']}?after=0"
            seen: set[str] = set()
            while not {"Running", "Complete"} <= seen:  # read while it is written
                assert time.monotonic() < until and driver.poll() is None, seen
                seen |= {trial["state"] for trial in fetch(url, until)["trials"]}
                threading.Event().wait(0.1)
            driver.send_signal(signal.SIGINT)
            said = driver.communicate()[0]
            assert driver.returncode == 130, said
            count = sum(state.is_finished() for state, _ in states(tmp_path / "here")) + 3
            with started(*arguments, "--trials", str(count)) as driver:
                said += driver.communicate()[0]
            assert driver.returncode == 0, said
            found: list[dict[str, Any]] = []
            while [t["state"] in ("Complete", "Pruned") for t in found] != [True] * count:
                assert time.monotonic() < until, found
                threading.Event().wait(0.1)  # the dashboard reads again every few seconds
                found = fetch(url, until)["trials"]
            dashboard.kill()
    shown = [{v["step"]: v["value"] for v in trial["intermediate_values"]} for trial in found]
    assert shown == [curve for _, curve in states(tmp_path / "here")] and all(shown)
    assert PASSWORD not in said and PASSWORD not in str(found)


@pytest.fixture
def finished(server: PostgreSQL, tiny_space: Path, tmp_path: Path) -> list[Choice]:
    """A finished study ``tiny`` in the server, run in the folder ``here``."""
    return run(load(tiny_space), tmp_path / "here", server.url)


def test_a_study_is_watched_without_its_folder_and_may_not_be_changed(
    server: PostgreSQL, finished: list[Choice], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened_storage(server.url) as storage, storage.engine.begin() as connection:
        connection.execute(text("DROP ROLE IF EXISTS watcher"))
        connection.execute(text("CREATE ROLE watcher LOGIN PASSWORD 'eyes'"))
        connection.execute(text("GRANT USAGE ON SCHEMA public TO watcher"))
        connection.execute(text("GRANT SELECT ON ALL TABLES IN SCHEMA public TO watcher"))
    monkeypatch.setenv(PASSWORD_VARIABLE, "eyes")
    url = server.url.replace("owner@", "watcher@")
    there = ["--storage", url, "--studies-dir", tmp_path / "there"]
    for named in (["--study", "tiny"], []):
        content = json.loads(invoke("status", *named, *there, "--json").stdout)
        assert content["study"] == "tiny" and content["driver"] is None
        assert sum(content["parts"][0]["trials"].values()) == 3
        content = json.loads(invoke("best", *named, *there, "--json").stdout)
        assert content["score"] == finished[0].score
    assert f"study 'tiny' in {url}, not running" in invoke("status", *there).output
    for verb in (["best", "--export"], ["score"], ["audit"]):
        result = invoke(*verb, *there)
        assert result.exit_code == 1 and "in the folder of study 'tiny', which is not" in result.output
    result = invoke("status", "--study", "other", *there)
    assert result.exit_code == 1 and f"no study 'other': {url} holds tiny" in result.output
    assert not (tmp_path / "there").exists()
    with pytest.raises(StudyError, match="permission denied"), opened_storage(url) as storage:
        storage.set_study_user_attr(1, "a", 1)


def test_a_second_driver_on_another_machine_is_refused(
    server: PostgreSQL,
    tiny_space: Path,
    tmp_path: Path,
    other_driver: "OtherDriver",  # noqa: F821
) -> None:
    process = other_driver.hold(server.url, "tiny")
    with pytest.raises(StudyLockedError, match=f"'tiny' is being run by process {process.pid} on"):
        run(load(tiny_space), tmp_path / "here", server.url)
    run(load(tiny_space, study="other"), tmp_path / "here", server.url)
    process.kill()
    process.wait()
    run(load(tiny_space), tmp_path / "here", server.url)
    watched = open_study(tmp_path / "there", "tiny", server.url)
    other_driver.hold(server.url, "tiny")
    driver = watched.driver()
    assert driver is not None and driver.host == socket.gethostname()
    watched.storage.engine.dispose()
    result = invoke("status", "--study", "tiny", "--studies-dir", tmp_path / "here")
    assert f"run by process {driver.pid} on {driver.host} since 20" in result.output


def everything_stored(url: str) -> str:
    """Every text of every table."""
    with opened_storage(url) as storage, storage.engine.connect() as connection:
        names = connection.execute(text("SELECT tablename FROM pg_tables WHERE schemaname = 'public'"))
        return str([connection.execute(text(f"SELECT * FROM {name}")).all() for (name,) in names])


def test_the_password_is_written_nowhere(
    server: PostgreSQL, url_with_password: str, tiny_space: Path, tmp_path: Path
) -> None:
    lines = AtSnapshot(0, None)
    run(load(tiny_space, budget={"trials": 1}), tmp_path / "here", url_with_password, lines)
    assert f"process lists show the password in `storage`; ${PASSWORD_VARIABLE}" in lines.lines[0]
    quoted = url_with_password.split(":")[2].split("@")[0]
    where = ["--studies-dir", tmp_path / "here"]
    output = "\n".join(lines.lines)
    # By name alone the study is found again, with the password from the environment.
    for verb in (["status"], ["best"], ["best", "--json"], ["status", "--storage", url_with_password]):
        result = invoke(*verb, "--study", "tiny", *where)
        assert result.exit_code == 0, result.output
        output += result.output
    output += invoke("status", "--study", "none", "--storage", url_with_password, *where).output
    wrong = url_with_password.replace(quoted, quoted + "wrong")
    for debug in ([], ["--debug"]):
        result = invoke(*debug, "status", "--study", "none", "--storage", wrong, *where)
        assert result.exit_code == 1 and "password authentication failed" in result.output
        output += result.output
    output += everything_stored(server.url)
    for path in (tmp_path / "here").rglob("*"):
        output += path.read_text(errors="replace") if path.suffix in (".json", ".md", ".lock") else ""
    assert "postgresql+psycopg://owner@127.0.0.1" in output
    assert PASSWORD not in output and quoted not in output


def test_a_stopped_run_is_continued_by_a_command_without_the_password(
    url_with_password: str,
    server: PostgreSQL,
    tiny_space: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def stopped(*_: object) -> None:
        raise StudyInterruptedError("stopped")

    monkeypatch.setattr("iimt_search.study.run.run_study", stopped)
    given = ["--space", tiny_space, "--storage", url_with_password, "--studies-dir", tmp_path]
    result = invoke("run", *given)
    assert result.exit_code == 130 and f"--storage {server.url} " in result.output
    assert PASSWORD not in result.output and url_with_password not in result.output


def states(root: Path) -> list[tuple[TrialState, dict[int, float]]]:
    opened = open_study(root, "tiny")
    try:
        return [(t.state, t.intermediate_values) for t in opened.studies[0].trials]
    finally:
        opened.storage.engine.dispose()


@pytest.mark.parametrize("at", [2, 5, 9])
def test_a_restarted_server_costs_a_retry(
    server: PostgreSQL, tiny_space: Path, tmp_path: Path, at: int
) -> None:
    pruner = {"pruner": {"name": "none"}}
    listener = AtSnapshot(at, server.restart)
    (choice,) = run(load(tiny_space, **pruner), tmp_path / "cut", server.url, listener)
    assert "the database answers again" in listener.lines
    assert any(line.startswith("the database does not answer") for line in listener.lines)
    assert [state for state, _ in states(tmp_path / "cut")] == [TrialState.COMPLETE] * 3
    assert all(list(curve) == [2, 4] for _, curve in states(tmp_path / "cut"))
    whole = run(load(tiny_space, **pruner, study="whole"), tmp_path / "whole", server.url)
    assert whole[0].scores == choice.scores


def test_a_long_outage_ends_the_run_and_loses_nothing(
    server: PostgreSQL, tiny_space: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guarded_writes, "PAUSES", (0.1, 0.1))
    space = load(tiny_space, pruner={"name": "none"})
    try:
        with pytest.raises(StudyError, match="has not answered for 0 s.* run again to continue"):
            run(space, tmp_path, server.url, AtSnapshot(5, server.stop))
    finally:
        server.start()
    before = states(tmp_path)
    assert before and any(state is not TrialState.COMPLETE for state, _ in before)
    (choice,) = run(space, tmp_path, server.url)
    after = states(tmp_path)
    assert [state for state, _ in after] == [TrialState.COMPLETE] * 3
    for (_, curve), (_, whole) in zip(before, after, strict=False):
        assert curve.items() <= whole.items()
    expected = run(load(tiny_space, pruner={"name": "none"}, study="whole"), tmp_path, server.url)
    assert expected[0].scores == choice.scores


def test_who_loses_the_study_in_an_outage_writes_nothing_more(
    server: PostgreSQL, tiny_space: Path, tmp_path: Path
) -> None:
    def outage() -> None:
        server.restart()
        # Another driver is quicker, runs a while, and is gone again when this one comes back.
        run(load(tiny_space, budget={"trials": 1}), tmp_path / "there", server.url)

    with pytest.raises(StudyLockedError, match=f"process {os.getpid()} on .* has gone on with the study"):
        run(load(tiny_space, budget={"trials": 3}), tmp_path / "here", server.url, AtSnapshot(4, outage))


def test_postgresql_without_a_driver_name(server: PostgreSQL) -> None:
    storage = open_storage(server.url.replace("+psycopg", ""))
    assert storage.engine.driver == "psycopg"
    storage.engine.dispose()
