"""Fixtures that every test may use."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

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


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> str:
    """The processor, and a GPU where there is one: the same lines run on both."""
    import torch

    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip(f"no CUDA device here: {request.node.originalname} has not run on a GPU")
    return str(request.param)


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


def predicted(right: float, seed: int, **more: Any) -> dict[str, NDArray[Any]]:
    """Return what a made-up model predicts, as files of other frameworks' models hold it.

    It gets a share of the 90 target samples right, whose labels are 0, 1, 2, 0, …, and nearly all of the
    source's, whose labels are the same.
    """
    labels, rng = np.arange(90) % 3, np.random.default_rng(seed)

    def logits(share: float) -> NDArray[Any]:
        said = np.where(rng.random(90) < share, labels, (labels + rng.integers(1, 3, 90)) % 3)
        return np.asarray(3.0 * np.eye(3)[said] + 0.1 * rng.standard_normal((90, 3)))

    def embeddings() -> NDArray[Any]:
        return np.asarray(3 * np.eye(8)[labels] + 0.4 * rng.standard_normal((90, 8)))

    return {
        "target_logits": logits(right).astype(np.float32),
        "target_embeddings": embeddings(),
        "source_val_logits": logits(0.95),
        "source_val_labels": labels,
        "source_val_embeddings": embeddings(),
        **more,
    }


@pytest.fixture
def write_model() -> Callable[..., Path]:
    """Write an ``.npz`` of what :func:`predicted` returns; an array that is None is left out."""

    def write(path: Path, right: float, seed: int = 0, **more: Any) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, **{k: v for k, v in predicted(right, seed, **more).items() if v is not None})
        return path

    return write
