"""Files of what a model predicts."""

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from iimt_search.errors import DataError
from iimt_search.judging import files
from iimt_search.judging.files import read_predictions

COUNT = 90
Write = Callable[..., Path]


def test_both_forms_are_read_alike(write_model: Write, tmp_path: Path) -> None:
    write_model(tmp_path / "m.npz", 0.8, 1)
    held = dict(
        np.load(tmp_path / "m.npz"),
        mixed_logits=np.zeros((4, 3)),
        mixed_labels=[0, 1, 2, 0],
        mixed_same=[1, 0, 1, 0],
    )
    held |= {
        "few_shot_logits": np.eye(3),
        "few_shot_labels": np.arange(3),
        "classifier_weight": np.ones((3, 8)),
        "source_shares": np.arange(3.0),
    }
    held = {name: np.asarray(value) for name, value in held.items()}
    np.savez(tmp_path / "a.npz", **held)
    np.savez_compressed(tmp_path / "b.npz", **{k: np.asfortranarray(v) for k, v in held.items()})
    save_file({k: torch.from_numpy(v).contiguous() for k, v in held.items()}, tmp_path / "c.safetensors")
    first, *others = (read_predictions(tmp_path / name) for name in ("a.npz", "b.npz", "c.safetensors"))
    assert first.mixed is not None and first.mixed.same.tolist() == [True, False, True, False]
    for other in others:
        for name in (
            "target_logits",
            "target_embeddings",
            "source_logits",
            "source_labels",
            "classifier_weight",
            "source_shares",
        ):
            assert torch.equal(getattr(first, name), getattr(other, name)), name
        assert other.few_shot is not None and other.few_shot.labels.dtype == torch.int64


def test_half_precision(tmp_path: Path) -> None:
    save_file({"target_logits": torch.ones(2, 3, dtype=torch.bfloat16)}, tmp_path / "a.safetensors")
    assert read_predictions(tmp_path / "a.safetensors").target_logits.dtype == torch.float32


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (
            {"target_logits": None},
            r"needs target_logits or target_probabilities \(N, C\); it holds target_emb",
        ),
        (
            {"target_embedding": np.ones((COUNT, 2))},
            "'target_embedding' is not known; did you mean target_emb",
        ),
        ({"target_probabilities": np.ones((COUNT, 3)) / 3}, "target_logits and target_probabilities: one of"),
        ({"target_embeddings": np.ones((COUNT, 2, 2))}, r"has shape \(90, 2, 2\); \(N, D\) is right"),
        (
            {"target_embeddings": np.ones((7, 2))},
            r"target_embeddings has shape \(7, 2\), target_logits \(90, 3\)",
        ),
        ({"source_val_labels": np.arange(COUNT)}, "label 3 at 3; labels are class indices from 0 to 2"),
        ({"source_val_labels": np.array(["a"] * COUNT)}, "which is no number"),
        ({"source_val_labels": np.array([object()] * COUNT)}, "Python objects, not numbers"),
        ({"target_logits": np.ones((COUNT, 3), dtype=complex)}, "which is no number"),
        ({"source_shares": np.zeros(3)}, "source_shares must be finite, at least 0 and not all 0"),
        ({"source_shares": np.array([1, -0.5, 0.5])}, "source_shares must be finite, at least 0"),
        ({"few_shot_labels": np.zeros(4)}, "few_shot_logits and few_shot_labels go together"),
        (
            {"target_logits": None, "target_probabilities": np.ones((COUNT, 3))},
            r"target_probabilities has a row that sums to 3, its least is 1; .*save logits as target_logits",
        ),
    ],
)
def test_what_is_wrong_is_told(write_model: Write, tmp_path: Path, more: dict[str, Any], told: str) -> None:
    path = write_model(tmp_path / "m.npz", 0.8, 1, **more)
    with pytest.raises(DataError, match=told) as error:
        read_predictions(path)
    assert "m.npz" in str(error.value)


def test_damaged_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.npz", "a.safetensors"):
        (tmp_path / name).write_bytes(b"\x80\x04nothing of ours" * 9)
        with pytest.raises(DataError, match=f"{name} is no whole"):
            read_predictions(tmp_path / name)
        with pytest.raises(DataError, match="there is no file"):
            read_predictions(tmp_path / f"no-{name}")
    np.savez(tmp_path / "b.npz", target_logits=np.ones((400, 3)))
    data = (tmp_path / "b.npz").read_bytes()
    (tmp_path / "b.npz").write_bytes(data[:2000] + b"\0" * 2000 + data[4000:])
    with pytest.raises(DataError, match=r"b.npz"):
        read_predictions(tmp_path / "b.npz")
    # A header that announces more than there is is not believed.
    with zipfile.ZipFile(tmp_path / "c.npz", "w") as archive, archive.open("target_logits.npy", "w") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": (1 << 40, 4)}
        np.lib.format.write_array_header_1_0(file, header)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="is cut short: it announces"):
        read_predictions(tmp_path / "c.npz")
    monkeypatch.setattr(files, "MOST_VALUES", 100)
    save_file({"target_logits": torch.ones(50, 3)}, tmp_path / "d.safetensors")
    with pytest.raises(DataError, match=r"d.safetensors: target_logits has shape \(50, 3\): more than 100"):
        read_predictions(tmp_path / "d.safetensors")
