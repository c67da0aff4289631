"""Folders that may only be read, outputs that are not UTF-8, ports that are taken."""

import encodings.idna  # noqa: F401  another user may not be able to import it later
import gc
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen
from wsgiref.simple_server import WSGIServer

import pytest
from click.testing import CliRunner

import iimt_search
from iimt_search import api
from iimt_search.cli.main import cli
from iimt_search.cli.progress import PlainProgress
from iimt_search.data.open import open_domain
from iimt_search.errors import DataError, StudyError, UsageError
from iimt_search.files import writable
from iimt_search.space.task_spec import DomainSpec
from iimt_search.study.folder import StudyFolder
from iimt_search.study.open import open_study
from iimt_search.study.storage import database

pytestmark = pytest.mark.slow

NOBODY = 65534


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory, tiny_space_text: str) -> Path:
    """A folder with two finished studies, first and second."""
    folder = tmp_path_factory.mktemp("surroundings")
    text = tiny_space_text.replace("trials: 3", "trials: 1").replace(", digits->syn-digits", "")
    (folder / "tiny.yaml").write_text(text)
    for name in ("first", "second"):
        space = iimt_search.load_space(folder / "tiny.yaml", study=name)
        iimt_search.run(space, studies_dir=folder / "s", workers=0, device="cpu")
    return folder / "s"


def _closed_to_others() -> str:
    """Return a folder of the interpreter or the package that another user may not enter, or ""."""
    used = (Path(sys.prefix), Path(iimt_search.__file__).parent, Path(tempfile.gettempdir()))
    every = {folder for path in used for folder in (path.resolve(), *path.resolve().parents)}
    return next((str(folder) for folder in sorted(every) if not folder.stat().st_mode & 0o001), "")


@pytest.fixture
def read_only(studies: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The studies, to be read and not written by this process."""
    folder = Path(tempfile.mkdtemp())
    shutil.copytree(studies / "first", folder / "s" / "first")
    for path in folder.rglob("*"):
        path.chmod(0o555 if path.is_dir() else 0o444)
    here = folder / "here"
    here.mkdir()
    here.chmod(0o777)
    for path in (folder, folder / "s"):
        path.chmod(0o555)
    monkeypatch.chdir(here)
    root = os.geteuid() == 0
    if root and (closed := _closed_to_others()):
        pytest.skip(f"root may write anywhere, and no other user may enter {closed}")
    if root:
        os.seteuid(NOBODY)
    yield folder / "s"
    if root:
        os.seteuid(0)
    for path in (folder, *(path for path in folder.rglob("*") if path.is_dir())):
        path.chmod(0o755)
    shutil.rmtree(folder)


def invoke(*arguments: str | Path) -> Any:
    return CliRunner().invoke(cli, [str(a) for a in arguments])


def test_a_study_that_may_not_be_written_is_read(read_only: Path) -> None:
    assert not writable(read_only / "first")
    where = ("--study", "first", "--studies-dir", read_only)
    assert "not running" in invoke("status", *where).output
    assert invoke("best", *where).output.startswith("best: ")
    result = invoke("report", *where)
    assert result.exit_code == 0, result.output
    assert Path("first-report.html").exists() and "cannot be written" in result.output
    result = invoke("best", *where, "--export", "out")
    assert result.exit_code == 0, result.output
    assert Path("out/digits_to_digits-m/model.json").exists()
    assert not list(Path(tempfile.gettempdir()).glob("iimt-search-*"))


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_the_dashboard_of_a_study_that_may_not_be_written(
    read_only: Path, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    answers: list[bytes] = []

    def one_request(server: WSGIServer) -> None:
        place = f"[{host}]" if ":" in host else host
        address = f"http://{place}:{server.server_port}/api/studies"
        client = threading.Thread(target=lambda: answers.append(urlopen(address).read()))
        client.start()
        server.handle_request()
        client.join()

    monkeypatch.setattr(WSGIServer, "serve_forever", one_request)
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as found:
        try:
            found.bind((host, 0))
        except OSError:
            pytest.skip(f"this machine has no {host}")
        port = found.getsockname()[1]
    result = invoke("dashboard", "--studies-dir", read_only, "--host", host, "--port", port)
    assert result.exit_code == 0, result.output
    assert b'"study_name": "first"' in answers[0] or b'"study_name":"first"' in answers[0]


def test_what_has_to_write_says_that_it_cannot(read_only: Path) -> None:
    with pytest.raises(StudyError, match=r"'first' cannot be written in .*/first/: Permission denied; "):
        iimt_search.audit("first", studies_dir=read_only)


def test_a_driver_that_runs_it_is_seen_and_what_it_has_written_is_read(
    studies: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What another user's driver writes, or has left when it was killed, is read without writing anything."""
    folder = tmp_path / "s" / "first"
    shutil.copytree(studies / "first", folder)
    monkeypatch.setattr("iimt_search.study.storage.database._writable", lambda _: False)
    with StudyFolder(folder).driver_lock():
        storage = database.open_storage(database.sqlite_url(folder / "study.db"))
        (summary,) = storage.get_all_studies()
        storage.set_study_user_attr(summary._study_id, "note", "in the log")
        assert (folder / "study.db-wal").stat().st_size > 0
        with open_study(tmp_path / "s", "first") as opened:
            assert opened.studies[0].user_attrs["note"] == "in the log"
            assert "mode=ro" in str(opened.storage.engine.url)

            def refused(*_: object, **__: object) -> None:
                raise PermissionError(13, "Permission denied")

            monkeypatch.setattr("iimt_search.study.storage.lock.FileLock", refused)
            assert opened.driver() is not None
        left = tmp_path / "left" / "first"
        left.mkdir(parents=True)
        for name in ("study.db", "study.db-wal", "study.json"):
            shutil.copy(folder / name, left)
        database.close_storage(storage)
    with open_study(tmp_path / "left", "first") as opened:
        assert opened.studies[0].user_attrs["note"] == "in the log" and opened.driver() is None
        assert "iimt-search-" in str(opened.storage.engine.url)
    assert {path.name for path in left.iterdir()} == {"study.db", "study.db-wal", "study.json"}


def test_what_is_opened_is_closed(studies: Path, tmp_path: Path) -> None:
    handles = Path("/proc/self/fd")
    if not handles.exists():
        pytest.skip("the system does not list open files")

    def look() -> None:
        api.status("first", studies_dir=studies)
        api.best("first", studies_dir=studies)
        api.compare("first", "second", studies_dir=studies)
        api.score("first", validators=["bnm"], studies_dir=studies)
        api.write_report("first", studies_dir=studies, output=tmp_path / "r.html")
        for wrong in ("third", "first:x"):
            with pytest.raises(StudyError):
                api.status(wrong, studies_dir=studies)

    def of_studies() -> list[str]:
        links = [os.readlink(handle) for handle in handles.iterdir() if os.path.lexists(handle)]
        return [link for link in links if link.startswith(str(studies))]

    gc.disable()  # what is left to it is not closed
    try:
        look()
        assert of_studies() == []
        with pytest.raises(StudyError, match="holds no such study"):
            (studies / "lost").mkdir()
            StudyFolder(studies / "lost").describe(database.sqlite_url(studies / "first" / "study.db"), {})
            api.status("lost", studies_dir=studies)
        assert of_studies() == []
    finally:
        gc.enable()
        shutil.rmtree(studies / "lost")


def test_an_audit_of_one_of_several_studies_asks_which(studies: Path) -> None:
    for call in (lambda: iimt_search.audit(studies_dir=studies), None):
        if call is None:
            result = invoke("audit", "--studies-dir", studies)
            assert result.exit_code == 2
            assert "an audit opens sealed labels: give --study NAME, one of first, second" in result.output
        else:
            with pytest.raises(UsageError, match="give `study=NAME`, one of first, second"):
                call()
    for name in ("first", "second"):
        assert not (studies / name / "audit.json").exists()


def test_who_reads_makes_no_study_the_newest(studies: Path) -> None:
    os.utime(studies / "first" / "study.json", (1e9, 1e9))
    os.utime(studies / "second" / "study.json", (2e9, 2e9))
    log = studies / "first" / "study.db-wal"
    log.touch()
    os.utime(log, (3e9, 3e9))
    os.utime(studies / "first" / "study.db", (3e9, 3e9))
    with open_study(studies, None) as opened:
        assert opened.folder.name == "second"
    log.unlink(missing_ok=True)


def test_a_cache_that_cannot_be_written_names_its_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    home.write_text("a file, so that nothing can be made in it")
    monkeypatch.delenv("IIMT_CACHE")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CACHE_HOME", str(home))
    with pytest.raises(DataError, match="prepared data cannot be written to .*; set IIMT_CACHE to a folder"):
        open_domain(DomainSpec(named="digits"), 8)


def test_a_taken_port_is_told_before_any_address(studies: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = invoke("dashboard", "--study", "first", "--studies-dir", studies, "--port", port)
    assert result.exit_code == 2 and "http" not in result.output
    assert result.output.startswith(
        f"error: cannot serve on 127.0.0.1:{port}: Address already in use; --port "
    )
    result = invoke("dashboard", "--study", "first", "--studies-dir", studies, "--host", "nowhere.invalid")
    assert result.exit_code == 2 and "cannot serve on nowhere.invalid:8080" in result.output


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_an_output_that_is_not_utf_8_loses_a_letter(studies: Path, encoding: str) -> None:
    space = studies.parent / "tiny.yaml"
    command = [sys.executable, "-m", "iimt_search", "data", "check", "--space", str(space)]
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    result = subprocess.run(command, capture_output=True, env=environment)
    assert result.returncode == 0, result.stderr
    text = "digits->digits-m: image of 3 × 8 × 8"  # click writes UTF-8 where ASCII is asked for
    assert result.stdout.startswith((text.encode(encoding, "replace"), text.encode()))


def test_progress_that_cannot_be_shown_ends_no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(*_: object, **__: object) -> None:
        raise BrokenPipeError

    monkeypatch.setattr("click.echo", closed)
    PlainProgress().line("search: 3×8×8")
    seen: list[str] = []

    def ascii_only(text: str) -> None:
        text.encode("ascii")
        seen.append(text)

    api._Lines(ascii_only).line("κ of 3×8×8")
    assert seen == ["? of 3?8?8"]
