"""Input of others: what it may not do, each way that is known, and what random changes of it may not do.

``python -m benchmarks hostile`` tries 100 000 changed inputs; here each surface has a few.
"""

import errno
import io
import json
import os
import pickle
import resource
import tracemalloc
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from benchmarks.hostile import SPACE, SURFACES, VALUES, Surface, exported, line, try_inputs
from benchmarks.scale import make_study
from iimt_search import api
from iimt_search.data.arrays import open_array
from iimt_search.data.images import read_image
from iimt_search.data.open import open_domain
from iimt_search.errors import DataError, ModelFileError, SpaceError, StudyError
from iimt_search.exporting.load import load_model
from iimt_search.models.network import Architecture, trained_model
from iimt_search.records import job_key
from iimt_search.space.lines import parse_yaml
from iimt_search.space.load import space_from_text
from iimt_search.space.schema import seconds_of
from iimt_search.space.task_spec import DomainSpec, TaskSpec
from iimt_search.task_name import slug


@pytest.mark.parametrize("surface", SURFACES, ids=lambda surface: surface.name)
def test_changed_inputs_end_in_a_clear_error(surface: Surface) -> None:
    costly = surface.share < 1
    count = round(float(os.environ.get("IIMT_HOSTILE", "30")) * (0.2 if costly else 1))
    found = try_inputs(surface, count, seed=1)
    assert not found.findings, f"{line(surface.name, found)}\n{next(iter(found.examples.values()))}"


# Space files.

SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.sampled_from(VALUES)
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
)


@given(
    st.dictionaries(st.sampled_from([*SPACE, "scope", "confirm", "retrain", "seed", "no"]), JSON, max_size=6)
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_values_in_a_space_file_are_read_or_refused(changes: dict[str, Any]) -> None:
    try:
        text = json.dumps({**SPACE, **changes})
        text.encode()
        space = space_from_text(text, api.known_names())
    except (SpaceError, UnicodeEncodeError):
        return
    assert space.canonical()["schema"] == 1


@given(st.text())
@settings(max_examples=100, deadline=None)
def test_any_text_is_yaml_or_refused(text: str) -> None:
    try:
        parse_yaml(text)
    except SpaceError:
        pass


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        "a: " + "{b: " * 3000,
        "- " * 5000 + "x",
        "a: " + "9" * 5000,
        "a: !!timestamp x",
        "a: !!int x",
        "a: !!bool x",
        "a: !!python/object/apply:os.abort []",
        "a: !!float x",
        "a: " + "x" * 2_000_000,
        "a: &a [x, x]\n"
        + "".join(f"{chr(98 + i)}: &{chr(98 + i)} [*{chr(97 + i)}, *{chr(97 + i)}]\n" for i in range(24)),
    ],
    ids=lambda text: text[:12],
)
def test_yaml_that_would_take_all_memory_or_raises_what_it_likes(text: str) -> None:
    with pytest.raises(SpaceError) as told:
        parse_yaml(text)
    assert len(str(told.value)) < 1100


def test_a_duration_of_blanks_takes_no_time() -> None:
    with pytest.raises(ValueError, match="at most 100 letters"):
        seconds_of("1d" + " " * 100_000 + "x")


# Names.


@given(st.text(min_size=1))
def test_a_slug_is_a_folder_name(name: str) -> None:
    made = slug(name)
    assert made and made not in (".", "..") and "/" not in made and made.isascii()


def test_keys_of_long_task_names_fit_a_file_system() -> None:
    task = TaskSpec.model_validate(
        {"name": "a" * 100 + "->" + "b" * 98, "source": "digits", "target": "digits-m"}
    )
    keys = [job_key("retraining", "trial-12345", i, prefix=f"{task.slug}-", task=task.slug) for i in range(3)]
    assert len(set(keys)) == 3 and max(map(len, keys)) <= 240
    assert job_key("trial", "trial-3", prefix="a_to_b-") == "a_to_b-trial-3"


@pytest.mark.parametrize("name", ["a\x1b[2J", "a\x9b", "a‮b", "a\nb"])
def test_a_task_s_name_steers_no_terminal(name: str) -> None:
    with pytest.raises(ValueError, match="pattern"):
        TaskSpec.model_validate({"name": name, "source": "digits", "target": "digits-m"})


# Images.


def test_what_an_image_is_called_starts_no_program(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n(x) print\n"
    )
    with pytest.raises(DataError, match="not an image"):
        read_image(tmp_path / "a.png", 8)


def _png(width: int, height: int) -> bytes:
    """A PNG of black pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4) + kind + data + zlib.crc32(kind + data).to_bytes(4)

    packed = zlib.compressobj(9)
    row = b"\0" * (1 + width)
    data = b"".join(packed.compress(row * 100) for _ in range(height // 100)) + packed.flush()
    head = width.to_bytes(4) + height.to_bytes(4) + bytes([8, 0, 0, 0, 0])
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [8000, 60_000])
def test_a_small_png_of_gigabytes_is_refused(tmp_path: Path, side: int) -> None:
    (tmp_path / "a.png").write_bytes(_png(side, 200 if side > 8000 else side))
    if side > 8000:  # the header alone says so
        data = bytearray((tmp_path / "a.png").read_bytes())
        data[20:24] = side.to_bytes(4)
        data[29:33] = zlib.crc32(data[12:29]).to_bytes(4)
        (tmp_path / "a.png").write_bytes(data)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DataError, match="attack|bomb"):
        read_image(tmp_path / "a.png", 8)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KB


def test_a_photograph_of_many_pixels_is_read(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (1500, 1500), dtype=np.uint8)
    Image.fromarray(np.tile(noise, (4, 6))).save(tmp_path / "a.jpg", quality=40)
    assert read_image(tmp_path / "a.jpg", 8).shape == (3, 8, 8)


@pytest.mark.parametrize("name", ["a.png", "a.npy", "a.npz"])
def test_a_pipe_does_not_hang(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(DataError, match="pipe or a device"):
        if name == "a.png":
            read_image(tmp_path / name, 8)
        else:
            open_domain(DomainSpec(arrays=str(tmp_path / name)), 8)


# Arrays.


def _npz(
    path: Path, shape: tuple[int, ...], descr: str = "|u1", size: int = 0, fortran: bool = False
) -> Path:
    """An .npz whose x announces a shape, and holds ``size`` zeros."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("x.npy", "w") as file:
        head = {"descr": descr, "fortran_order": fortran, "shape": shape}
        np.lib.format.write_array_header_2_0(file, head)
        for _ in range(size >> 20):
            file.write(b"\0" * (1 << 20))
    return path


@pytest.mark.parametrize(
    ("shape", "size", "message"),
    [
        ((10**15, 4), 0, "cut short"),
        ((4, 10**15), 0, "cut short"),
        ((2**40, 2**40), 0, "cut short"),
        ((4, -4), 0, "cut short"),
        ((-1, -4), 0, "cut short"),
        ((1, 300 << 20), 300 << 20, "a sample has at most 256 MB"),
    ],
)
def test_an_archive_that_announces_gigabytes(
    tmp_path: Path, shape: tuple[int, ...], size: int, message: str
) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DataError, match=message):
        open_domain(DomainSpec(arrays=str(_npz(tmp_path / "a.npz", shape, size=size))), 8)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000


def test_a_fortran_member_is_not_unpacked_into_memory(tmp_path: Path) -> None:
    path = _npz(tmp_path / "a.npz", (1 << 16, 1 << 10), size=1 << 26, fortran=True)
    tracemalloc.start()
    first = next(open_array(path, "x").chunks())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert first.shape == (1 << 14, 1 << 10) and peak < 50_000_000  # of 67 MB


def test_labels_that_make_a_pickle_reserve_gigabytes(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.ones((2, 4), np.float32))
    memo = b"\x80\x03]r\xff\xff\xff\x7f."  # LONG_BINPUT of place 2 147 483 647
    with (tmp_path / "y.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|O", "fortran_order": False, "shape": (2,)})
        file.write(memo)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DataError, match="Python objects that are not read"):
        open_domain(DomainSpec(arrays=str(tmp_path / "x.npy"), labels=str(tmp_path / "y.npy")), 0)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000


class _Spoils:
    """A pickle that sets an attribute of what it names."""

    def __reduce__(self) -> Any:
        return (np.dtype, ("f8",), (None, {"__setstate__": "gone"}))


def test_labels_do_not_change_how_the_next_are_read(tmp_path: Path) -> None:
    x, y = tmp_path / "x.npy", tmp_path / "y.npy"
    np.save(x, np.ones((2, 4), np.float32))
    stream = io.BytesIO()
    pickle.dump(_Spoils(), stream)
    with y.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|O", "fortran_order": False, "shape": (2,)})
        file.write(stream.getvalue())
    spec = DomainSpec(arrays=str(x), labels=str(y))
    with pytest.raises(DataError):
        open_domain(spec, 0)
    np.save(y, np.array(["a", "b"], object), allow_pickle=True)
    assert open_domain(spec, 0).classes == ("a", "b")


def test_labels_of_another_number_are_refused_before_they_are_read(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.ones((2, 4), np.float32))
    np.save(tmp_path / "y.npy", np.zeros((3, 5)))
    with pytest.raises(DataError, match=r"has shape \(3, 5\), but there are 2 samples"):
        open_domain(DomainSpec(arrays=str(tmp_path / "x.npy"), labels=str(tmp_path / "y.npy")), 0)


# Models.


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"architecture": {"width": 60_000}}, "weight encoder.0.weight is"),
        ({"architecture": {"classes": 10**12}}, "3 classes are named"),
        ({"architecture": {"width": 10**12}}, "less than or equal"),
        ({"others": ["../../x.safetensors"]}, "others.0: String should match"),
        ({"others": ["member-1.safetensors"] * 2}, "a member is named twice"),
        ({"preprocessing": {"kind": "image"}}, "other samples"),
        ({"hyperparameters": {"k": "x"}}, "damaged: k: Input should be"),
        ({"formats": {"pickle": {"difference": 0, "samples": {}}}}, "no formats pickle"),
        ({"classes": "abc"}, "classes"),
    ],
)
def test_a_model_json_that_asks_for_too_much(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    made = exported(tmp_path)
    content = json.loads((made / "model.json").read_text())
    for name, value in change.items():
        content[name] = {**content[name], **value} if isinstance(value, dict) else value
    (made / "model.json").write_text(json.dumps(content))
    with pytest.raises(ModelFileError, match=message):
        load_model(made)


def test_settings_of_a_later_version_do_not_matter(tmp_path: Path) -> None:
    made = exported(tmp_path)
    content = json.loads((made / "model.json").read_text())
    content["hyperparameters"]["of_a_later_version"] = 1
    (made / "model.json").write_text(json.dumps({**content, "of_a_later_version": 1}))
    assert len(load_model(made).members) == 2


def test_settings_that_a_model_json_does_not_have_are_the_default_ones(tmp_path: Path) -> None:
    from iimt_search.exporting.card import model_card

    made = exported(tmp_path)
    content = json.loads((made / "model.json").read_text())
    (made / "model.json").write_text(json.dumps({**content, "hyperparameters": {}}))
    assert "of 200 steps" in model_card(load_model(made).metadata, None)


@pytest.mark.parametrize("network", ["conv9-large", "small", "series", "mlp"])
def test_an_architecture_that_its_weights_do_not_have_costs_no_memory(network: str) -> None:
    kind, shape = {"series": ("series", (9, 10**6)), "mlp": ("vector", (10**9,))}.get(
        network, ("image", (3, 32, 32))
    )
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match="weight .* is missing, the architecture has"):
        trained_model(Architecture(network, kind, shape, 10**9, 20_000, 0.0), {"x": torch.ones(1)})
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000


# Studies.


@pytest.mark.parametrize("content", ["[]", "1", '{"storage": []}', "{" * 100_000, '{"storage": "x"}'])
def test_a_study_json_of_anything(tmp_path: Path, content: str) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "study.json").write_text(content)
    with pytest.raises(Exception, match=r"damaged|database URL") as told:
        api.status("a", studies_dir=tmp_path)
    assert isinstance(told.value, api.IimtSearchError)


def test_a_study_that_names_another_database_makes_none(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    outside = tmp_path / "outside.db"
    (tmp_path / "a" / "study.json").write_text(json.dumps({"schema": 1, "storage": f"sqlite:///{outside}"}))
    with pytest.raises(StudyError, match="is not there"):
        api.status("a", studies_dir=tmp_path)
    assert not outside.exists()


def test_a_damaged_record_is_told_as_one(tmp_path: Path) -> None:
    import sqlite3

    make_study(tmp_path, 2)
    database = sqlite3.connect(tmp_path / "scale" / "study.db")
    database.execute("UPDATE study_user_attributes SET value_json = '[7]' WHERE key = 'choice'")
    database.commit()
    database.close()
    with pytest.raises(StudyError, match="what the study holds is damaged, or of a later version: "):
        api.best("scale", studies_dir=tmp_path)


def test_errors_of_the_disk_stay_what_they_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(api, "_open", full)
    with pytest.raises(OSError, match="full"):
        api.status("a", studies_dir=tmp_path)
