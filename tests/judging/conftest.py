"""Models that others trained, of which one has collapsed."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture
def write(write_model: Callable[..., Path], tmp_path: Path) -> Callable[..., Path]:
    """Write a model's file below the test's folder ``models``."""
    return lambda name, *args, **more: write_model(tmp_path / "models" / f"{name}.npz", *args, **more)


@pytest.fixture
def models(write: Callable[..., Path], tmp_path: Path) -> Path:
    """A folder with two baselines of one name, and three models with adaptation."""
    for seed in (0, 1):
        write(f"source-only/{seed}", 0.5, 10 + seed)
    write("dann", 0.8, 1)
    write("mcc", 0.9, 2)
    write("lost", 0.33, 3, target_embeddings=np.ones((90, 8)))
    return tmp_path / "models"
