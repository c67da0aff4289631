"""Every command and every whole Python snippet of the documents is run, page by page and in order.

A page is run in a folder of its own. Three things are changed, so that all pages together take minutes:

- space files, shipped ones and those that a page shows, keep their tasks and lose size (:data:`SMALL`);
- ``iimt-search run`` trains in this process (``--workers 0``), except where the page asks for Ray;
- ``iimt-search dashboard`` gets a free port, and is ended once it has answered.

What cannot be run here stands in :data:`NOT_RUN` with the reason. Whatever else a page shows is an error.
"""

import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from importlib.util import find_spec
from pathlib import Path
from textwrap import dedent
from typing import Any

import numpy as np
import pytest
import yaml
from click.testing import CliRunner
from markdown_it import MarkdownIt
from markdown_it.token import Token
from PIL import Image

from iimt_search.cli.main import cli

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SMALL = {
    "train": {
        "steps": 2,
        "batch_size": 8,
        "image_size": 8,
        "width": 4,
        "evaluations": 1,
        "data_fraction": 0.1,
    },
    "budget": {"trials": 1},
    "confirm": {"top": 1, "seeds": 1},
    "retrain": {"steps": 2},
}
# Beginning of a command → why it is not run here.
NOT_RUN = {
    r"pip install ": "changes the environment that the tests run in",
    r"pytest$": "is what runs now",
    r"(\w+=\S+ )?python -m benchmarks": "takes minutes to hours",
    r"iimt-search data prepare mnist svhn$": "downloads",
    r"iimt-search (run|data check|data prepare) --space spaces/(paper-digits|real-digits|office31)\.yaml": (
        "needs what was downloaded"
    ),
    r"iimt-search run .*--ray-address": "needs a cluster",
    r"iimt-search .*--storage (postgresql|…)": "needs a server; tests/study/test_postgresql.py",
    r"export IIMT_STORAGE_PASSWORD=": "the same server's",
    r"(ray|export RAY_AUTH_MODE=token) ": "begins a cluster that would outlive the test",
}
# A word of a command or snippet → the optional package that it needs.
OPTIONAL = {"onnx": "onnxruntime", "skada": "skada", "pytorch_adapt": "pytorch_adapt"}
# The files that a page's reader has.
IMAGES = {"README.md", "own-data.md"}
# Its snippets are parts of files, which tests/docs/test_extending.py puts together.
PARTS_OF_FILES = {"extending.md"}
PROGRAMS = (
    r"iimt-search|pip|python|pytest|sphinx-build|ray|export|cd|git|docker|kubectl|helm|sbatch|srun|ssh|curl"
)
SHELLS = ("bash", "sh", "shell", "console")
# They look at no study, or at their own arguments only.
WITHOUT_STUDY = ("data", "validators", "predict", "run", "choose")


def code_blocks(page: Path) -> list[Token]:
    blocks = [t for t in MarkdownIt().parse(page.read_text()) if t.type in ("fence", "code_block")]
    for block in blocks:
        block.content = dedent(block.content)  # within a list, an indented block may keep a space or two
    return blocks


def is_space(text: str) -> bool:
    return re.match(r"(#.*\n)*schema: 1$", text, re.MULTILINE) is not None


def commands(block: Token) -> list[str]:
    """Return the commands of a code block, one a line, without what follows a ``#``."""
    if block.content.startswith("#!"):
        return []  # a script for another machine's scheduler; its options are checked all the same
    lines = re.sub(r"\\\n\s*", " ", block.content).splitlines()
    if block.type == "fence" and block.info.strip() not in SHELLS:
        return []
    if block.type == "code_block":
        lines = [line for line in lines if re.match(rf"(\w+=\S+ )?({PROGRAMS})\b", line)]
    whole = [re.sub(r"(^|\s)#.*", "", line.removeprefix("$ ")).strip() for line in lines]
    return [part.strip() for line in whole if line for part in line.split("&&")]


def lacks_a_package(text: str) -> bool:
    return any(word in text and find_spec(package) is None for word, package in OPTIONAL.items())


def is_run(command: str) -> bool:
    return not lacks_a_package(command) and not any(re.match(pattern, command) for pattern in NOT_RUN)


def shrink(text: str) -> str:
    """Return a space file with the same tasks, search and objective, and nothing that takes long."""
    space: dict[str, Any] = yaml.safe_load(text)
    fixed = {key: space.get("train", {}).get(key) for key in ("network",) if key in space.get("train", {})}
    searched = {name: found for name, found in space.get("search", {}).items() if name not in SMALL["train"]}
    small = {**SMALL, "train": {**fixed, **SMALL["train"]}, **({"search": searched} if searched else {})}
    return yaml.safe_dump({**space, **small}, sort_keys=False)


def paint(folder: Path, names: list[str], red: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(red)
    for name in names:
        pixels = rng.integers(0, 60, (20, 24, 3)) + np.array([red, 90, 90])
        Image.fromarray(pixels.astype(np.uint8)).save(folder / name)


def run_verb(words: list[str]) -> None:
    if words[0] == "run" and "ray" not in words:
        words = [*words, "--workers", "0"]
    result = CliRunner().invoke(cli, words)
    assert result.exit_code == 0, f"{shlex.join(words)}\n{result.output}"


def serve(words: list[str]) -> None:
    """Start a server, wait until it answers, and end it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "iimt_search", *words, "--port", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        for _ in range(600):
            assert server.poll() is None, server.communicate()[1]
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/dashboard", timeout=10) as answer:
                    assert answer.status == 200
                    return
            except OSError:
                time.sleep(0.1)
        pytest.fail(f"{shlex.join(words)} has not answered for a minute")
    finally:
        server.kill()
        server.communicate()


def run_command(command: str) -> None:
    if not is_run(command):
        return
    words = shlex.split(command)
    assert words[0] == "iimt-search", f"{command}: run it, or say in NOT_RUN why not"
    (serve if words[1] == "dashboard" else run_verb)(words[1:])


def run_python(text: str, number: int) -> None:
    path = Path(f"snippet-{number}.py")
    path.write_text(text)
    done = subprocess.run([sys.executable, path], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{text}\n{done.stderr}"


def run_page(blocks: list[Token]) -> None:
    for number, block in enumerate(blocks):
        text = block.content
        if is_space(text):
            Path(f"{yaml.safe_load(text)['study']}.yaml").write_text(shrink(text))
        elif block.info.strip() == "python" and not lacks_a_package(text):
            run_python(text, number)
        for command in commands(block):
            run_command(command)


def needs_a_study(blocks: list[Token]) -> bool:
    """Return whether a page begins with what somebody has run already."""
    verbs = [c.split()[1] for block in blocks for c in commands(block) if c.startswith("iimt-search ")]
    looked = [verb for verb in verbs if verb not in WITHOUT_STUDY]
    return bool(looked) and "run" not in verbs[: verbs.index(looked[0])]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished study of the embedded digits."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "digits.yaml").write_text(shrink((ROOT / "spaces" / "digits.yaml").read_text()))
    run_verb(["run", "--space", f"{folder}/digits.yaml", "--studies-dir", f"{folder}/studies"])
    return folder


def runnable() -> list[Any]:
    """Return the pages that show something to run, marked as what it is."""
    found = []
    for page in PAGES:
        blocks = code_blocks(page)
        shown = [c for block in blocks for c in commands(block) if is_run(c)]
        snippets = page.name not in PARTS_OF_FILES and any(b.info.strip() == "python" for b in blocks)
        if shown or snippets:
            marks = [pytest.mark.ray] if any("--backend ray" in c for c in shown) else []
            found.append(pytest.param(page, marks=[pytest.mark.slow, *marks], id=page.name))
    return found


def give_files(page: Path, blocks: list[Token], finished: Path) -> None:
    """Put what a page's reader has into the working folder."""
    Path("spaces").mkdir()
    for space in (ROOT / "spaces").glob("*.yaml"):
        Path("spaces", space.name).write_text(shrink(space.read_text()))
    if page.name in IMAGES:
        names = [f"{number}.jpg" for number in range(100)]
        paint(Path("lab/rust"), names, 180)
        paint(Path("lab/clean"), names, 20)
        paint(Path("field"), [*names, "a.jpg"], 100)
    if needs_a_study(blocks):
        shutil.copytree(finished / "studies", "studies")
    paint(Path(), ["photo.png", "photo.jpg"], 100)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_no_command_is_overlooked(page: Path) -> None:
    blocks = [block for block in code_blocks(page) if not block.content.startswith("#!")]
    lines = [line for block in blocks for line in block.content.splitlines()]
    named = [line for line in lines if re.match(r"\s*(\$ )?(.*&& )?iimt-search ", line)]
    found = [c for block in blocks for c in commands(block) if c.startswith("iimt-search ")]
    assert len(found) == len(named)


def test_what_is_not_run_is_in_the_documents() -> None:
    shown = [c for page in PAGES for block in code_blocks(page) for c in commands(block)]
    assert [pattern for pattern in NOT_RUN if not any(re.match(pattern, c) for c in shown)] == []


def test_an_unknown_command_is_an_error() -> None:
    (block,) = MarkdownIt().parse("    kubectl apply -f job.yaml  # not known\n")
    (command,) = commands(block)
    with pytest.raises(AssertionError, match="kubectl apply -f job.yaml: run it, or say in NOT_RUN"):
        run_command(command)


@pytest.mark.parametrize("page", runnable())
def test_a_page_runs(page: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = code_blocks(page)
    give_files(page, blocks, finished)
    run_page(blocks)
