"""Passwords of database URLs are in no output, no error, no log and no process list."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from iimt_search.cli.main import cli
from iimt_search.errors import StudyError, describe
from iimt_search.plain_text import without_passwords

URL = "postgresql+psycopg://me:geheim@127.0.0.1:{port}/db"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("at postgresql://me:secret@host/db: no", "at postgresql://me@host/db: no"),
        ("postgresql+psycopg://me:se:c@ret@host:1/db", "postgresql+psycopg://me@host:1/db"),
        ("('redis://:secret@host', 1)", "('redis://@host', 1)"),
        ("host=h user=me password=secret dbname=d", "host=h user=me password=… dbname=d"),
        ("x://h/d?sslpassword=secret&password=secret2", "x://h/d?sslpassword=…&password=…"),
        ("http://127.0.0.1:8080/a@b", "http://127.0.0.1:8080/a@b"),
        ("s3://bucket/folder", "s3://bucket/folder"),
        ("the password in `storage`", "the password in `storage`"),
    ],
)
def test_passwords_are_taken_out_of_texts(text: str, shown: str) -> None:
    assert without_passwords(text) == shown


def test_no_error_has_one() -> None:
    text = "cannot reach postgresql://me:geheim@host/db"
    assert "geheim" not in str(StudyError(text))
    try:
        raise RuntimeError(text)
    except RuntimeError as error:
        assert not any("geheim" in describe(error, debug) for debug in (False, True))


@pytest.mark.parametrize("debug", [[], ["--debug"]])
@pytest.mark.parametrize("verb", ["status", "best", "run"])
@pytest.mark.parametrize(
    "url",
    [
        URL.format(port=1),
        URL.format(port="x"),
        "postgresql+psycopg://me@127.0.0.1:1/db?password=geheim",
        "postgresql+psycopg://me@127.0.0.1:1/db?sslpassword=geheim",
        "mysql://me:geheim@127.0.0.1:1/db",
        "//me:geheim@127.0.0.1:1/db",
    ],
)
def test_no_output_of_a_database_that_is_not_reached_has_one(
    url: str, verb: str, debug: list[str], tiny_space: Path, tmp_path: Path
) -> None:
    given = ["--study", "a", "--storage", url, "--studies-dir", str(tmp_path)]
    given += ["--space", str(tiny_space), "--workers", "0"] if verb == "run" else []
    result = CliRunner().invoke(cli, [*debug, verb, *given])
    assert result.exit_code in (1, 2) and result.output
    assert "geheim" not in result.output


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="no /proc")
@pytest.mark.parametrize("joined", [False, True])
def test_no_list_of_processes_shows_one(joined: bool, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:  # takes connections, and says nothing
        url = URL.format(port=server.getsockname()[1])
        given = [f"--storage={url}"] if joined else ["--storage", url]
        command = [sys.executable, "-m", "iimt_search", "status", "--study", "a", *given]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, cwd=tmp_path)
        asked, _ = server.accept()  # it has asked for the database
        shown = Path(f"/proc/{process.pid}/cmdline").read_bytes()
        process.send_signal(signal.SIGKILL)
        process.communicate()
        asked.close()
    assert b"geheim" not in shown and url.replace(":geheim", "").encode() in shown


@pytest.mark.slow
def test_the_password_is_that_of_the_command_line(tmp_path: Path) -> None:
    code = (
        "import os, sys; from iimt_search.cli.main import _hide_passwords;"
        "_hide_passwords(); print(os.environ['IIMT_STORAGE_PASSWORD'], sys.argv[1:])"
    )
    command = [sys.executable, "-c", code, "--storage", "postgresql://me:a%40b@host/db"]
    result = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ})
    assert result.stdout == "a@b ['--storage', 'postgresql://me@host/db']\n"
