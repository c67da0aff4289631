import json
import math
from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from iimt_search.errors import ModelFileError
from iimt_search.models.network import Architecture, Model
from iimt_search.settings import TrainSettings
from iimt_search.training import kept as module
from iimt_search.training.kept import load_kept_model, load_kept_predictions, rounded, save_kept
from iimt_search.validators.contract import FewShot, Mixed, Predictions

SETTINGS = TrainSettings(alpha=0.3, steps=7, w_z=0.25)
VECTOR = Architecture("auto", "vector", (5,), 3, 8, 0.0)
IMAGE = Architecture("small", "image", (3, 8, 8), 3, 4, 0.5)
SPECIAL = [math.nan, math.inf, -math.inf, 1e30, -1e30, 65504.0, 65519.9, 1e-30, -1e-30, 6e-8, 1 / 3, -0.0]


def make_model(architecture: Architecture = VECTOR, seed: int = 0) -> Model:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = Model(architecture)
        model.train()
        model(50 * torch.randn(16, *architecture.sample_shape))  # running statistics of its own
    return model.eval()


def make_predictions(**changes: Any) -> Predictions:
    generator = torch.Generator().manual_seed(1)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    whole = Predictions(
        source_logits=normal(6, 3),
        source_labels=torch.tensor([0, 1, 2, 2, 1, 0]),
        source_embeddings=normal(6, 4),
        target_logits=normal(9, 3),
        target_embeddings=normal(9, 4),
        classifier_weight=normal(3, 4),
        mixed=Mixed(normal(5, 3), torch.tensor([0, 1, 2, 0, 1]), torch.tensor([1, 0, 1, 0, 0]).bool()),
        few_shot=FewShot(normal(2, 3), torch.tensor([2, 0])),
        reverse_logits=normal(6, 3),
        short_reverse_logits=normal(6, 3),
    )
    return replace(whole, **changes)


def parts(value: Any, name: str = "") -> dict[str, Tensor | None]:
    if not is_dataclass(value):
        return {name: value}
    found: dict[str, Tensor | None] = {}
    for field in fields(value):
        found |= parts(getattr(value, field.name), f"{name}.{field.name}")
    return found


def assert_same(left: Predictions, right: Predictions) -> None:
    ours, theirs = parts(left), parts(right)
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        other = theirs[name]
        if value is None or other is None:
            assert value is other, name
        else:
            assert value.dtype == other.dtype, name
            torch.testing.assert_close(value, other, rtol=0, atol=0, equal_nan=True, msg=name)


SORTS: dict[str, Callable[[], Predictions]] = {
    "every part": make_predictions,
    "no optional part": lambda: make_predictions(
        few_shot=None, reverse_logits=None, short_reverse_logits=None
    ),
    "one reverse training": lambda: make_predictions(reverse_logits=None),
    "no mixture": lambda: make_predictions(
        mixed=Mixed(torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64), torch.zeros(0).bool())
    ),
    "not finite, very large and small": lambda: make_predictions(
        target_logits=torch.tensor(SPECIAL).reshape(-1, 3),
        target_embeddings=torch.zeros(len(SPECIAL) // 3, 4),
        source_logits=torch.full((6, 3), math.nan),
    ),
}


@pytest.mark.parametrize("sort", SORTS)
def test_what_is_read_back_is_what_rounding_said(sort: str, tmp_path: Path) -> None:
    given = SORTS[sort]()
    save_kept(tmp_path / "4.safetensors", given, make_model(), SETTINGS, 1)
    assert_same(load_kept_predictions(tmp_path / "4.safetensors"), rounded(given))


@pytest.mark.parametrize("sort", SORTS)
def test_rounding_twice_is_rounding_once(sort: str) -> None:
    once = rounded(SORTS[sort]())
    assert_same(rounded(once), once)


def test_what_was_rounded_is_kept_as_it_is(tmp_path: Path) -> None:
    given = rounded(make_predictions())
    save_kept(tmp_path / "4.safetensors", given, make_model(), SETTINGS, 1)
    assert_same(load_kept_predictions(tmp_path / "4.safetensors"), given)


def test_rounding_by_hand() -> None:
    values = [1e30, -1e30, 65519.9, 1 / 3, 1e-30, math.inf, -math.inf, math.nan, 2049.0]
    found = rounded(make_predictions(reverse_logits=torch.tensor(values))).reverse_logits
    # Halves have 11 bits: 1/3 is 1365/4096, 2049 has no place between 2048 and 2050.
    expected = [65504.0, -65504.0, 65504.0, 1365 / 4096, 0.0, math.inf, -math.inf, math.nan, 2048.0]
    assert found is not None and found.dtype == torch.float32
    assert found.tolist() == pytest.approx(expected, rel=0, abs=0, nan_ok=True)


def test_rounding_leaves_labels_and_what_it_is_given_alone() -> None:
    labels = torch.tensor([0, 1, 2, 70_000, 2**40, 3])
    given = make_predictions(source_labels=labels, target_logits=torch.full((9, 3), 1 / 3))
    found = rounded(given)
    assert torch.equal(found.source_labels, labels) and found.source_labels.dtype == torch.int64
    assert found.mixed.same.dtype == torch.bool and torch.equal(found.mixed.same, given.mixed.same)
    assert torch.equal(given.target_logits, torch.full((9, 3), 1 / 3))
    assert not torch.equal(found.target_logits, given.target_logits)


def test_logits_take_half_the_room(tmp_path: Path) -> None:
    sizes = []
    for count in (1000, 2000):
        path = tmp_path / f"{count}.safetensors"
        save_kept(path, make_predictions(target_logits=torch.ones(count, 3)), make_model(), SETTINGS, 1)
        sizes.append(path.stat().st_size)
    assert sizes[1] - sizes[0] == pytest.approx(2 * 3 * 1000, abs=50)


@pytest.mark.parametrize("architecture", [VECTOR, IMAGE], ids=["vector", "image"])
def test_the_model_is_read_back_to_the_last_bit(architecture: Architecture, tmp_path: Path) -> None:
    model, path = make_model(architecture), tmp_path / "4.safetensors"
    save_kept(path, make_predictions(), model, SETTINGS, 17)
    found = load_kept_model(path)
    x = 50 * torch.randn(20, *architecture.sample_shape, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        assert torch.equal(found.model(x), model(x))
        assert not torch.equal(make_model(architecture, seed=1)(x), model(x))
    assert (found.settings, found.seed) == (SETTINGS, 17)
    assert not found.model.training and found.model.architecture == model.architecture


def test_saving_again_replaces_and_leaves_nothing_beside(tmp_path: Path) -> None:
    path = tmp_path / "job" / "a_to_b" / "4.safetensors"
    for seed in (1, 2):
        save_kept(path, make_predictions(), make_model(), SETTINGS, seed)
        assert [each.name for each in path.parent.iterdir()] == ["4.safetensors"]
    assert load_kept_model(path).seed == 2


def test_a_write_that_fails_leaves_the_file_before_it_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "4.safetensors"
    save_kept(path, make_predictions(), make_model(), SETTINGS, 1)

    def full(_tensors: object, beside: Path, **_: object) -> None:
        beside.write_bytes(b"half")
        raise OSError("no room")

    monkeypatch.setattr(module, "save_file", full)
    with pytest.raises(OSError, match="no room"):
        save_kept(path, make_predictions(), make_model(), SETTINGS, 2)
    assert load_kept_model(path).seed == 1
    assert [each.name for each in tmp_path.glob("*.safetensors")] == ["4.safetensors"]


LOADERS = pytest.mark.parametrize("load", [load_kept_predictions, load_kept_model])
Load = Callable[[Path], object]


@LOADERS
def test_a_missing_file(load: Load, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="4.safetensors is not there"):
        load(tmp_path / "4.safetensors")


@LOADERS
@pytest.mark.parametrize("left", [0, 4, 100, 2000, -1])
def test_a_file_cut_short(load: Load, left: int, tmp_path: Path) -> None:
    path = tmp_path / "4.safetensors"
    save_kept(path, make_predictions(), make_model(), SETTINGS, 1)
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(ModelFileError, match="4.safetensors is not a whole kept checkpoint"):
        load(path)


@LOADERS
def test_a_file_of_something_else(load: Load, tmp_path: Path) -> None:
    path = tmp_path / "4.safetensors"
    path.write_text("a text, and not a short one: " + 100 * "much more of it ")
    with pytest.raises(ModelFileError, match="is not a whole kept checkpoint"):
        load(path)
    with pytest.raises(ModelFileError, match="is not a whole kept checkpoint"):
        load(tmp_path)
    save_file(make_model().state_dict(), path)  # an exported model's weights
    with pytest.raises(ModelFileError, match="is not a whole kept checkpoint"):
        load(path)


def rewritten(path: Path, drop: str = "", **about: str) -> None:
    with safe_open(path, framework="pt") as content:
        metadata = {**content.metadata(), **about}
    tensors = {name: value for name, value in load_file(path).items() if name != drop}
    save_file(tensors, path, metadata={name: value for name, value in metadata.items() if value})


@pytest.mark.parametrize("part", ["target_logits", "mixed.same", "few_shot.labels", "source_labels"])
def test_a_file_without_a_part_of_its_predictions(part: str, tmp_path: Path) -> None:
    path = tmp_path / "4.safetensors"
    save_kept(path, make_predictions(), make_model(), SETTINGS, 1)
    rewritten(path, drop=part)
    with pytest.raises(ModelFileError, match=part.split(".")[-1]):
        load_kept_predictions(path)
    assert load_kept_model(path).seed == 1


@pytest.mark.parametrize(
    ("drop", "about"),
    [
        ("weight.classifier.weight", {}),
        ("", {"architecture": ""}),
        ("", {"architecture": "{half"}),
        ("", {"architecture": json.dumps({**VECTOR._asdict(), "classes": 4})}),
        ("", {"architecture": json.dumps({**VECTOR._asdict(), "network": "nonesuch"})}),
        ("", {"settings": '{"alpha": -1}'}),
        ("", {"seed": "one"}),
    ],
    ids=["weight", "no architecture", "damaged", "other classes", "no such network", "settings", "seed"],
)
def test_a_file_without_a_part_of_its_model(drop: str, about: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "4.safetensors"
    save_kept(path, make_predictions(), make_model(), SETTINGS, 1)
    rewritten(path, drop, **about)
    with pytest.raises(ModelFileError, match="is not a whole kept checkpoint"):
        load_kept_model(path)
    assert_same(load_kept_predictions(path), rounded(make_predictions()))


@pytest.mark.parametrize(
    "changes",
    [
        {"source_labels": torch.tensor([0, 1, 2, 3, 1, 0])},
        {"source_labels": torch.zeros(6)},
        {"target_embeddings": torch.zeros(8, 4)},
        {"mixed": Mixed(torch.zeros(5, 2), torch.zeros(5, dtype=torch.int64), torch.zeros(5).bool())},
        {"few_shot": FewShot(torch.zeros(2, 3), torch.tensor([-1, 0]))},
        {"reverse_logits": torch.zeros(6)},
    ],
)
def test_parts_that_do_not_fit_each_other(changes: dict[str, Any], tmp_path: Path) -> None:
    architecture = Architecture("mlp", "vector", (4,), 3, 4, 0.0)
    save_kept(tmp_path / "a", make_predictions(**changes), Model(architecture), TrainSettings(), 0)
    with pytest.raises(ModelFileError, match="which does not fit the others"):
        load_kept_predictions(tmp_path / "a")
