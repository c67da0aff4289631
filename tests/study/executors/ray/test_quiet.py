"""Ray says nothing in the terminal: what is there is what a run without Ray prints."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = [pytest.mark.ray, pytest.mark.slow]


ON_RAY = ("--backend", "ray", "--workers", "1")
HERE = ("--workers", "0")
ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1"}


def command(space: Path, studies: Path, *more: str) -> list[str]:
    arguments = ["run", "--space", str(space), "--studies-dir", str(studies), *more]
    return [sys.executable, "-m", "iimt_search", *arguments]


def test_the_terminal_shows_what_a_run_without_ray_shows(tiny_space: Path, tmp_path: Path) -> None:
    shown = []
    for name, more in (("here", HERE), ("ray", ON_RAY)):
        arguments = command(tiny_space, tmp_path / name, *more)
        done = subprocess.run(arguments, capture_output=True, text=True, timeout=200, env=ONE_THREAD)
        assert (done.returncode, done.stderr) == (0, "")
        first, *lines = done.stdout.splitlines()
        assert ("Ray on" in first) == (name == "ray")
        shown.append([line for line in lines if not line.startswith(("done in", "["))])
    assert shown[0] == shown[1]
    logs = tmp_path / "ray" / "tiny" / "ray"
    assert list(logs.glob("session_*/raylet.out"))
    assert not (logs / "tune").exists()


def test_ctrl_c_ends_everything_in_one_line(tiny_space: Path, tmp_path: Path) -> None:
    text = tiny_space.read_text().replace("steps: 4", "steps: 4000")
    tiny_space.write_text(text.replace("evaluations: 2", "evaluations: 400"))
    process = subprocess.Popen(
        command(tiny_space, tmp_path, *ON_RAY),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    started = tmp_path / "tiny" / "jobs"
    deadline = time.monotonic() + 100
    while not list(started.glob("*/checkpoint.pt")) and time.monotonic() < deadline:
        time.sleep(0.2)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the driver and all that it started
    out, error = process.communicate(timeout=100)
    assert process.returncode == 130
    assert out.splitlines()[-1] == "stopping…"
    (line,) = error.splitlines()
    assert line.startswith("error: study 'tiny' is stopped; nothing is lost. Continue with: iimt-search run ")
    assert "--backend ray" in line
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)
