"""Fixtures that every test may use."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

# The tests' networks are tiny: threads that wait for each other take longer than one alone, and many times
# as long beside other work. Read when torch is imported, and by the processes that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")

TINY_SPACE = """\
schema: 1
study: tiny
tasks: [digits->digits-m, digits->syn-digits]
train: {steps: 4, batch_size: 8, image_size: 8, width: 4, evaluations: 2, precision: float32}
budget: {trials: 3}
sampler: {name: tpe, startup_trials: 1}
confirm: {top: 1, seeds: 1}
retrain: {steps: 5}
"""


@pytest.fixture(scope="session", autouse=True)
def _prepared_data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Prepare domains once for the session, in folders of its own; workers inherit the variables."""
    patch = pytest.MonkeyPatch()
    patch.setenv("IIMT_CACHE", str(tmp_path_factory.mktemp("prepared")))
    patch.setenv("IIMT_DATA", str(tmp_path_factory.mktemp("data")))
    yield
    patch.undo()


@pytest.fixture(scope="session")
def tiny_space_text() -> str:
    """The text of a space file whose whole job takes seconds."""
    return TINY_SPACE


@pytest.fixture
def tiny_space(tmp_path: Path) -> Path:
    """The tiny space as a file."""
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY_SPACE)
    return path
