"""A network of one's own, and photographs."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

NETWORK = """
import torch
from torch import nn


def {name}():
    torch.manual_seed(5)
    layers = nn.Conv2d(3, 6, 8, 8), nn.BatchNorm2d(6), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten()
    network = nn.Sequential(*layers)
    network.preprocessing = {{"side": 36, "crop": 32, "mean": (0.5,) * 3, "std": (0.25,) * 3}}
    return network
"""


@pytest.fixture
def network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """The name of a small network, in a module of this test's own; the cache is its own, too."""
    module = f"networks_of_{abs(hash(request.node.nodeid))}"
    (tmp_path / f"{module}.py").write_text(NETWORK.format(name="small"))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("IIMT_CACHE", str(tmp_path / "cache"))
    return f"python:{module}:small"


@pytest.fixture
def photographs(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that makes a folder of two classes, bright and dark images of some size."""

    def make(name: str, count: int = 40, shift: int = 0, side: int = 48) -> Path:
        rng = np.random.default_rng(len(name))
        for label, level in (("bright", 170), ("dark", 60)):
            folder = tmp_path / name / label
            folder.mkdir(parents=True)
            for at in range(count // 2):
                pixels = rng.normal(level + shift, 25, (side, side, 3)).clip(0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{at}.png")
        return tmp_path / name

    return make
