"""What docs/extending.md adds, added: to the registries of this process, and to a copy of the package."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from markdown_it import MarkdownIt

from iimt_search.data import registry as domains
from iimt_search.data.assemble import load_task
from iimt_search.data.registry import load_domain
from iimt_search.data.task import Labelled
from iimt_search.space.task_spec import TaskSpec
from iimt_search.validators import registry as validators
from iimt_search.validators.contract import Predictions, score_all

ROOT = Path(__file__).parents[2]
TOKENS = MarkdownIt().parse((ROOT / "docs" / "extending.md").read_text())
MARGIN, MARGIN_ENTRY, MARGIN_TEST, DOMAIN, DOMAIN_ENTRY, PACKAGE, PARTS = (
    t.content for t in TOKENS if t.info == "python"
)
(PYPROJECT,) = (t.content for t in TOKENS if t.info == "toml")
(SPACE,) = (t.content for t in TOKENS if t.info == "yaml")
(LOSS,) = (t.content for t in TOKENS if t.info == "diff")


def add_module(monkeypatch: pytest.MonkeyPatch, name: str, text: str) -> ModuleType:
    module = ModuleType(name)
    monkeypatch.setitem(sys.modules, name, module)
    exec(compile(text, name, "exec"), module.__dict__)
    return module


@pytest.fixture
def margin(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    (name, entry), *_ = eval(f"{{{MARGIN_ENTRY}}}", vars(validators)).items()
    monkeypatch.setitem(validators.VALIDATORS.built_in, name, entry)
    return add_module(monkeypatch, entry.module, MARGIN)


def test_the_validator_scores(margin: ModuleType) -> None:
    logits = torch.log(torch.tensor([[0.7, 0.2, 0.1], [0.5, 0.4, 0.1]]))
    nothing = torch.zeros(0, 3)
    predictions = Predictions(nothing, nothing, nothing, logits, nothing, nothing)
    assert score_all(["margin"], predictions)["margin"] == pytest.approx(0.3)
    broken = Predictions(nothing, nothing, nothing, logits * torch.nan, nothing, nothing)
    assert np.isnan(score_all(["margin"], broken)["margin"])


def test_the_validators_test_passes(margin: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    written = add_module(monkeypatch, "test_margin", MARGIN_TEST)
    tests = [value for name, value in vars(written).items() if name.startswith("test_")]
    assert len(tests) == 2
    for test in tests:
        test()


def test_the_domain_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    (name, entry), *_ = eval(f"{{{DOMAIN_ENTRY}}}", vars(domains)).items()
    monkeypatch.setitem(domains.DOMAINS.built_in, name, entry)
    add_module(monkeypatch, entry.builder.split(":")[0], DOMAIN)
    found, digits = load_domain(name, 8), load_domain("digits", 8)
    assert isinstance(found.train, Labelled)
    assert np.array_equal(found.train.x, 255 - digits.train.x)
    task = load_task(TaskSpec.model_validate(f"digits->{name}"), 8)
    assert task.classes == digits.classes


TRAIN = """
import sys
sys.path.insert(0, sys.argv[1])
import iimt_search
assert iimt_search.__file__.startswith(sys.argv[1]), iimt_search.__file__
from iimt_search.data.assemble import load_task
from iimt_search.settings import TrainSettings
from iimt_search.space.task_spec import TaskSpec
from iimt_search.study.search.sampling import SOURCE_ONLY
from iimt_search.training.task_training import TaskTraining
task = load_task(TaskSpec.model_validate("digits->digits-m"), 8)
for weight in (0.0, 1.0):
    tiny = TrainSettings(w_entropy=weight, steps=2, batch_size=8, image_size=8, width=4)
    training = TaskTraining(task, tiny, 0)
    training.advance(2)
    print("entropy" in training.terms)
assert SOURCE_ONLY["w_entropy"] == 0
"""


@pytest.mark.long
def test_the_loss_term_is_trained(tmp_path: Path) -> None:
    for path in (ROOT / "iimt_search").rglob("*.py"):
        copy = tmp_path / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    # Without a repository of its own, git would look for the enclosing one.
    for command in (["git", "init", "-q"], ["git", "apply", "-"]):
        subprocess.run(command, cwd=tmp_path, input=LOSS, text=True, check=True)
    done = subprocess.run([sys.executable, "-c", TRAIN, tmp_path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["False", "True"]


@pytest.fixture(scope="module")
def extras(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a process in which the page's package is installed."""
    source, site = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("site")
    (source / "iimt_extras").mkdir()
    for name, text in {
        "pyproject.toml": PYPROJECT,
        "iimt_extras/__init__.py": PACKAGE,
        "iimt_extras/margin.py": MARGIN,
        "iimt_extras/parts.py": PARTS,
    }.items():
        (source / name).write_text(text)
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    command += ["--no-index", "--target", str(site), str(source)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return {**os.environ, "PYTHONPATH": f"{site}{os.pathsep}{ROOT}"}


def iimt_search_of(environment: dict[str, str], *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "iimt_search", *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


@pytest.mark.long
def test_a_package_adds_one_of_each(extras: dict[str, str], tmp_path: Path) -> None:
    space, studies = tmp_path / "extras.yaml", tmp_path / "s"
    space.write_text(SPACE)
    done = iimt_search_of(extras, "run", "--space", space, "--studies-dir", studies, "--workers", 1, "--json")
    assert done.returncode == 0, done.stderr
    choice = json.loads(done.stdout)
    assert choice["objective"] == "margin" and 0 < choice["score"] <= 1
    done = iimt_search_of(extras, "best", "--studies-dir", studies, "--export", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    model = json.loads((tmp_path / "out" / "inverted" / "model.json").read_text())
    assert model["architecture"]["network"] == "flat"
    listed = [iimt_search_of(extras, *verb, "--json").stdout for verb in (["data", "list"], ["validators"])]
    assert "digits, black on white" in listed[0] and "margin" in json.loads(listed[1])
    # Without the package, the same file is told what is wrong with it.
    without = iimt_search_of({**extras, "PYTHONPATH": str(ROOT)}, "run", "--space", space)
    assert without.returncode == 2 and "extras.yaml:" in without.stderr and "fade" in without.stderr


@pytest.mark.long
def test_a_broken_package_is_named(extras: dict[str, str]) -> None:
    site = Path(extras["PYTHONPATH"].split(os.pathsep)[0])
    (site / "iimt_extras" / "__init__.py").write_text("import nothing_of_this_name")
    try:
        done = iimt_search_of(extras, "validators")
        assert done.returncode == 2
        assert "error: package iimt-extras: its validator 'margin'" in done.stderr
        assert "No module named 'nothing_of_this_name'" in done.stderr
        assert iimt_search_of(extras, "--help").returncode == 0
    finally:
        (site / "iimt_extras" / "__init__.py").write_text(PACKAGE)
