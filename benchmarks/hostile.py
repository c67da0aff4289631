"""Hostile input: whatever is read, changed at random, must be read or end in one clear error.

A finding is an exception that is not ours, an input that takes longer than :data:`SECONDS`, more memory
than :data:`MEGABYTES` beyond what the process had, or a file that appears where nothing was to be written.
"""

import copy
import gzip
import io
import json
import os
import random
import resource
import shutil
import signal
import sqlite3
import sys
import tarfile
import tempfile
import time
import traceback
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
from PIL import Image
from sqlalchemy.exc import SAWarning

from benchmarks.scale import make_study
from iimt_search import api
from iimt_search.data.open import open_domain
from iimt_search.data.store import read_prepared
from iimt_search.errors import IimtSearchError
from iimt_search.exporting.load import load_model
from iimt_search.exporting.model_folder import export_model
from iimt_search.exporting.predict_files import predict_inputs
from iimt_search.models.network import Architecture, Model
from iimt_search.settings import TrainSettings
from iimt_search.space import KnownNames
from iimt_search.space.load import space_from_text
from iimt_search.space.task_spec import DomainSpec
from iimt_search.task_name import slug
from iimt_search.training.checkpoint import checkpoint_path, checkpoint_step, load_checkpoint, save_checkpoint
from iimt_search.training.kept import load_kept_model, load_kept_predictions, save_kept
from iimt_search.validators.contract import Mixed, Predictions, score_all

SECONDS = 10
MEGABYTES = 1500

# What values and texts are replaced by.
VALUES: tuple[Any, ...] = (
    *(None, True, -1, 0, 1, 2**31, 2**63, -(2**63), 10**30, 1e308, 1e-320, float("nan"), float("inf")),
    *("", "a" * 5000, "../../outside", "/etc/passwd", "\x00", "\x1b[2J", "\ud800", "‮", "<script>", "1e999"),
    *([], {}, [[]], {"": {}}, [0] * 300, "NaN", "1" * 5000, "python", "os:abort"),
)
_BYTES = (0, 1, 127, 128, 255, 10, 13, 34, 39, 40, 46, 47, 58, 91, 92, 93, 123, 125)
_TEXTS = (
    *(b"[" * 50, b"{" * 50, b"9" * 5000, b"&a [*a, *a]", b"!!python/object/apply:os.abort []", b"-1", b": "),
    *(b"!!binary ", b"!!set ", b"!!timestamp ", b"!!int ", b"<<: ", b"\xff\xfe", b"\x00", b"../", b"1e400"),
)


def mutated(rng: random.Random, data: bytes) -> bytes:
    """Return bytes changed at one to eight places: flipped, set, cut, doubled, inserted."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 8))):
        at = rng.randrange(len(out) + 1)
        # Headers are where most is decided.
        at = min(at, rng.randrange(200)) if rng.random() < 0.4 else at
        match rng.randrange(8):
            case 0 if at < len(out):
                out[at] ^= 1 << rng.randrange(8)
            case 1 if at < len(out):
                out[at] = rng.choice(_BYTES)
            case 2:
                del out[at : at + rng.choice((1, 2, 4, 16, 200))]
            case 3:
                out[at:at] = out[at : at + rng.choice((1, 4, 16, 200))]
            case 4:
                out[at:at] = rng.choice(_TEXTS)
            case 5:
                size = rng.choice((1, 2, 4, 8))
                value = rng.choice((0, 1, 2**31 - 1, 2**32 - 1, 2**63 - 1, 2**64 - 1, 2**16))
                out[at : at + size] = (value % 256**size).to_bytes(size, rng.choice(("little", "big")))
            case 6:
                del out[rng.randrange(len(out) + 1) :]
            case _:
                other = rng.randrange(len(out) + 1)
                out[at:at] = out[other : other + rng.randrange(64)]
    return bytes(out)


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(value, dict):
        for key in value:
            yield value, key
            yield from _places(value[key])
    elif isinstance(value, list):
        for index in range(len(value)):
            yield value, index
            yield from _places(value[index])


def mutated_json(rng: random.Random, data: bytes) -> bytes:
    """Return JSON with one to three values or keys replaced, removed or doubled."""
    content = json.loads(data)
    for _ in range(rng.choice((1, 1, 2, 3))):
        places = list(_places(content))
        if not places:
            break
        holder, key = rng.choice(places)
        match rng.randrange(5):
            case 0:
                del holder[key]
            case 1 if isinstance(holder, dict):
                holder[str(rng.choice(VALUES))] = holder.pop(key)
            case 2:
                holder[key] = [holder[key], holder[key]]
            case _:
                holder[key] = copy.deepcopy(rng.choice(VALUES))
    return json.dumps(content).encode()


@dataclass(frozen=True)
class Surface:
    """Something that reads what others wrote.

    Attributes:
        name: of it.
        seeds: makes inputs that are right, in a folder.
        read: takes a folder to work in and an input.
        share: of all inputs.
        as_json: whether an input is JSON, whose values are changed, too.
    """

    name: str
    seeds: Callable[[Path], Sequence[bytes]]
    read: Callable[[Path, bytes], object]
    share: float = 1.0
    as_json: bool = False


def _known() -> KnownNames:
    return api.known_names()


SPACE: dict[str, Any] = {
    "schema": 1,
    "study": "tiny",
    "tasks": [
        "digits->digits-m",
        {"name": "own", "source": [{"arrays": "s.npz", "test": "t.npz"}], "target": {"folder": "t"}},
    ],
    "search": {"lambda_max": {"low": 0.1, "high": 10, "log": True}, "k": {"choices": [1, 2]}},
    "first": [{"lambda_max": 1.0}],
    "train": {"steps": 4, "batch_size": 8, "lambda_schedule": [[0.5, 2.0]]},
    "objective": "consensus",
    "budget": {"trials": 3, "timeout": "1h30m", "steps": 100},
    "sampler": {"name": "tpe", "startup_trials": 1},
    "pruner": "median",
    "resources": {"cpus": 1, "memory": "2GB", "custom": {"disk": 1}},
    "keep": {"megabytes": 10},
    "validators": ["entropy"],
}

_YAML = """\
schema: 1
study: tiny
tasks: &tasks
  - digits->digits-m
  - {name: own, source: {arrays: s.npz}, target: {folder: ./t, labelled: false}}
search: {lambda_max: {low: 1e-2, high: 1e2, log: true}, temperature: {choices: [0.5, 1.0]}}
train: {steps: 4, batch_size: 8}
budget: {trials: 3, timeout: 1:30:00}
sampler: {name: tpe}
"""


def _read_space(_: Path, data: bytes) -> None:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return
    space = space_from_text(text, _known())
    space.canonical()
    for task in space.tasks:
        slug(task.name)


def _image_seeds(folder: Path) -> list[bytes]:
    rng, found = np.random.default_rng(0), []
    colour = Image.fromarray(rng.integers(0, 255, (24, 20, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    for suffix in (".png", ".jpg", ".bmp", ".gif", ".webp", ".tif", ".ppm"):
        options: dict[str, Any] = {"exif": exif} if suffix in (".jpg", ".png", ".webp") else {}
        colour.save(folder / f"a{suffix}", **options)
        found.append((folder / f"a{suffix}").read_bytes())
    for name, image in {
        "deep.png": Image.fromarray(rng.integers(0, 4095, (16, 16), dtype=np.uint16)),
        "float.tif": Image.fromarray(rng.random((16, 16), dtype=np.float32)),
        "alpha.png": colour.convert("RGBA"),
        "palette.png": colour.convert("P"),
    }.items():
        image.save(folder / name)
        found.append((folder / name).read_bytes())
    colour.save(folder / "lzw.tif", compression="tiff_lzw")
    return [*found, (folder / "lzw.tif").read_bytes()]


def _read_image(folder: Path, data: bytes) -> None:
    (folder / "images").mkdir(exist_ok=True)
    (folder / "images" / "a.png").write_bytes(data)
    open_domain(DomainSpec(folder=str(folder / "images")), 16)


def _array_seeds(folder: Path) -> list[bytes]:
    rng, found = np.random.default_rng(0), []
    y = np.arange(12) % 3
    parts: dict[str, dict[str, Any]] = {
        "vectors": {"x": rng.normal(size=(12, 5)).astype(np.float32), "y": y},
        "images": {"x": rng.integers(0, 255, (12, 8, 8, 3), dtype=np.uint8), "y": np.eye(3)[y]},
        "series": {"x": np.asfortranarray(rng.normal(size=(12, 2, 9))), "y": y.astype(str)},
        "objects": {"x": rng.normal(size=(12, 5)), "y": y.astype(str).astype(object)},
    }
    for name, arrays in parts.items():
        for save in (np.savez, np.savez_compressed):
            save(folder / f"{name}.npz", **arrays)
            found.append((folder / f"{name}.npz").read_bytes())
    return found


def _read_npz(folder: Path, data: bytes) -> None:
    (folder / "a.npz").write_bytes(data)
    open_domain(DomainSpec(arrays=str(folder / "a.npz")), 8)


def _read_member(folder: Path, data: bytes) -> None:
    """An array within an .npz, whose checksum fits."""
    with zipfile.ZipFile(folder / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", data)
        archive.writestr("y.npy", _npy(np.arange(12) % 3))
    open_domain(DomainSpec(arrays=str(folder / "a.npz")), 8)


def _npy(array: np.ndarray[Any, Any]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def _npy_seeds(folder: Path) -> list[bytes]:
    found = []
    arrays: dict[str, Any] = {
        "f": np.random.default_rng(0).normal(size=(12, 5)).astype(np.float32),
        "fortran": np.asfortranarray(np.random.default_rng(0).normal(size=(12, 5))),
        "images": np.random.default_rng(0).integers(0, 4095, (12, 8, 8), dtype=np.uint16),
    }
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
        found.append((folder / f"{name}.npy").read_bytes())
    return found


def _read_npy(folder: Path, data: bytes) -> None:
    (folder / "a.npy").write_bytes(data)
    open_domain(DomainSpec(arrays=str(folder / "a.npy")), 8)


def _label_seeds(folder: Path) -> list[bytes]:
    np.save(folder / "x.npy", np.zeros((6, 4), np.float32) + np.arange(4, dtype=np.float32))
    found = []
    for y in (
        np.array(["cat", "dog", "bird", "cat", "bird", "cat"], dtype=object),
        np.array([1, 2.0, 3, 1, 2, 3], dtype=object),
        np.array(["a", "b"] * 3, dtype=object),
        np.array([0, 1, -1, 2, 1, 0], dtype=">i4"),
        np.eye(3)[[0, 1, 2, 0, 1, 2]],
    ):
        np.save(folder / "y.npy", y, allow_pickle=True)
        found.append((folder / "y.npy").read_bytes())
    return found


def _read_labels(folder: Path, data: bytes) -> None:
    (folder / "y.npy").write_bytes(data)
    open_domain(DomainSpec(arrays=str(folder / "x.npy"), labels=str(folder / "y.npy")), 0)


_TINY = Architecture("mlp", "vector", (4,), 3, 4, 0.0)


def exported(folder: Path) -> Path:
    """Write an exported model of two members, where it is not there."""
    made = folder / "model"
    if not (made / "model.json").exists():
        from iimt_search.data.task import DomainTask, Labelled, Unlabelled
        from iimt_search.exporting.model_folder import add_members

        x, y = np.zeros((6, 4), np.float32), np.arange(6) % 3
        domain = Labelled(x, y)
        task = DomainTask("a->b", ("a", "b", "c"), "vector", "noise", domain, domain, Unlabelled(x), "f")
        export_model(made, model=Model(_TINY), task=task, settings=TrainSettings(), seed=0, step=1, scores={})
        add_members(made, [Model(_TINY)])
    return made


def _model_json_seeds(folder: Path) -> list[bytes]:
    return [(exported(folder) / "model.json").read_bytes()]


def _use(made: Path, folder: Path) -> None:
    np.save(folder / "samples.npy", np.ones((3, 4), np.float32))
    from iimt_search.exporting.card import model_card

    model = load_model(made)
    list(predict_inputs(model, [folder / "samples.npy"], 2))
    model_card(model.metadata, None)


def _read_model_json(folder: Path, data: bytes) -> None:
    made = exported(folder)
    (made / "model.json").write_bytes(data)
    _use(made, folder)


def _weight_seeds(folder: Path) -> list[bytes]:
    return [(exported(folder) / "model.safetensors").read_bytes()]


def _read_weights(folder: Path, data: bytes) -> None:
    made = exported(folder)
    (made / "member-1.safetensors").write_bytes(data)
    _use(made, folder)


def _kept_seeds(folder: Path) -> list[bytes]:
    rng = torch.Generator().manual_seed(0)
    few, many = torch.randn(6, 3, generator=rng), torch.randn(9, 3, generator=rng)
    predictions = Predictions(
        source_logits=few,
        source_labels=torch.arange(6) % 3,
        source_embeddings=torch.randn(6, 4, generator=rng),
        target_logits=many,
        target_embeddings=torch.randn(9, 4, generator=rng),
        classifier_weight=torch.randn(3, 4, generator=rng),
        mixed=Mixed(few, torch.arange(6) % 3, torch.arange(6) % 2 == 0),
    )
    save_kept(folder / "kept.safetensors", predictions, Model(_TINY), TrainSettings(), 0)
    return [(folder / "kept.safetensors").read_bytes()]


def _read_kept(folder: Path, data: bytes) -> None:
    path = folder / "kept.safetensors"
    path.write_bytes(data)
    score_all(["entropy", "class_ami", "mixval", "source_accuracy"], load_kept_predictions(path))
    load_kept_model(path)


def _checkpoint_seeds(folder: Path) -> list[bytes]:
    from iimt_search.records import Evaluation

    states = {"a->b": {"step": 2, "model": Model(_TINY).state_dict()}}
    save_checkpoint(folder, "known", [Evaluation(2, {"a->b": {"entropy": 1.0}})], states)
    return [checkpoint_path(folder).read_bytes()]


def _read_checkpoint(folder: Path, data: bytes) -> None:
    checkpoint_path(folder).write_bytes(data)
    load_checkpoint(folder, lambda step, arithmetic: "known")
    checkpoint_step(folder)


def _prepared_seeds(folder: Path) -> list[bytes]:
    domain = folder / "domain"
    if not domain.exists():
        domain.mkdir()
        np.save(domain / "train_x.npy", np.zeros((4, 3), np.float32))
        np.save(domain / "train_y.npy", np.zeros(4, np.int64))
    sizes = {path.name: path.stat().st_size for path in domain.glob("*.npy")}
    meta = {"schema": 1, "classes": ["a"], "kind": "vector", "augmentation": "noise", "fingerprint": "f"}
    meta |= {"sample_fingerprint": "s", "notes": [{"kind": "values", "message": "m", "warning": False}]}
    return [json.dumps({**meta, "white_level": None, "sizes": sizes}).encode()]


def _read_prepared(folder: Path, data: bytes) -> None:
    (folder / "domain" / "meta.json").write_bytes(data)
    read_prepared(folder / "domain")


def _study(folder: Path) -> Path:
    """Make a study of two trials with a choice, where it is not there."""
    root = folder / "studies"
    if not (root / "scale" / "study.json").exists():
        make_study(root, 2)
        database = sqlite3.connect(root / "scale" / "study.db")
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # all of it in the one file
        database.close()
    return root


def _study_json_seeds(folder: Path) -> list[bytes]:
    return [(_study(folder) / "scale" / "study.json").read_bytes()]


def _ask(root: Path) -> None:
    """Ask a study; what it has chosen although its standing cannot be told."""
    try:
        api.status("scale", studies_dir=root)
    finally:
        api.best("scale", studies_dir=root)


def _read_study_json(folder: Path, data: bytes) -> None:
    root = _study(folder)
    (root / "scale" / "study.json").write_bytes(data)
    _ask(root)


def _database_seeds(folder: Path) -> list[bytes]:
    return [(_study(folder) / "scale" / "study.db").read_bytes()]


def _read_database(folder: Path, data: bytes) -> None:
    root = _study(folder)
    for path in (root / "scale").glob("study.db*"):
        path.unlink()
    (root / "scale" / "study.db").write_bytes(data)
    _ask(root)


_ATTRIBUTES = ("study_user_attributes", "trial_user_attributes", "trial_params", "trial_values")


def _row_seeds(folder: Path) -> list[bytes]:
    """Every attribute of a study that is JSON, as table, number of the row and value."""
    database = sqlite3.connect(_study(folder) / "scale" / "study.db")
    found = []
    for table in ("study_user_attributes", "trial_user_attributes"):
        for row, value in database.execute(f"SELECT rowid, value_json FROM {table}"):
            found.append(json.dumps([table, "value_json", row, json.loads(value)]).encode())
    for row, value in database.execute("SELECT rowid, distribution_json FROM trial_params"):
        found.append(json.dumps(["trial_params", "distribution_json", row, json.loads(value)]).encode())
    database.close()
    return found


def _read_row(folder: Path, data: bytes) -> None:
    root = _study(folder)
    try:
        table, column, row, value = json.loads(data)
    except (ValueError, TypeError):
        return
    if table not in _ATTRIBUTES or column not in ("value_json", "distribution_json"):
        return
    path = root / "scale" / "study.db"
    before = path.read_bytes()
    try:
        database = sqlite3.connect(path)
        try:
            database.execute(f"UPDATE {table} SET {column} = ? WHERE rowid = ?", (json.dumps(value), row))
            database.commit()
        except (sqlite3.Error, UnicodeEncodeError, OverflowError):
            return
        finally:
            database.close()
        _ask(root)
    finally:
        for each in (root / "scale").glob("study.db*"):
            each.unlink()
        path.write_bytes(before)


def _name_seeds(_: Path) -> list[bytes]:
    return [b"a", "ä‮".encode(), b"\x1b[2J", b"=cmd|' /C calc'!A1", b"a\nb", b"\xff"]


def _read_name(folder: Path, data: bytes) -> None:
    """A name for files, class folders and tasks."""
    from iimt_search.files import json_text, shown

    name = data.replace(b"/", b"_").replace(b"\x00", b"")[:120]
    root = folder / "named"
    shutil.rmtree(root, ignore_errors=True)
    image = Image.new("RGB", (8, 8))
    for part in (b"one", name if name.strip(b".") else b"two"):
        inside = os.path.join(os.fsencode(root), part)
        os.makedirs(inside, exist_ok=True)
        image.save(Path(os.fsdecode(inside)) / "a.png")
    domain = open_domain(DomainSpec(folder=str(root)), 8)
    for text in (shown(os.fsdecode(name)), *(domain.classes or ())):
        text.encode()
        if any(ord(sign) < 32 or 127 <= ord(sign) < 160 for sign in text):
            raise AssertionError(f"{text!r} would steer a terminal")
    json_text({"path": os.fsdecode(name)})
    task = slug(os.fsdecode(name))
    if "/" in task or task in (".", "..") or not task or len(task) > 255:
        raise AssertionError(f"{task!r} is no folder's name")


def _archive_seeds(folder: Path) -> list[bytes]:
    found = []
    for member in ("set/a.txt", "../outside.txt", "/tmp/outside.txt"):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
            entry = tarfile.TarInfo(member)
            entry.size = 3
            archive.addfile(entry, io.BytesIO(b"abc"))
            link = tarfile.TarInfo("set/link")
            outside = "" if member == "set/a.txt" else "../../"
            link.type, link.linkname = tarfile.SYMTYPE, f"{outside}a.txt"
            archive.addfile(link)
        found.append(buffer.getvalue())
        found.append(gzip.decompress(buffer.getvalue()))
    return found


def _read_archive(folder: Path, data: bytes) -> None:
    from iimt_search.data.download import extract_tar

    shutil.rmtree(folder / "set", ignore_errors=True)
    (folder / "set.tar").write_bytes(data)
    extract_tar(folder / "set.tar", folder / "set")


SURFACES = (
    Surface("space files, as JSON", lambda _: [json.dumps(SPACE).encode()], _read_space, 3, True),
    Surface("space files, as YAML", lambda _: [_YAML.encode()], _read_space, 3),
    Surface("images", _image_seeds, _read_image, 3),
    Surface("npz", _array_seeds, _read_npz, 2),
    Surface("arrays within npz", _npy_seeds, _read_member, 2),
    Surface("npy", _npy_seeds, _read_npy, 2),
    Surface("labels", _label_seeds, _read_labels, 2),
    Surface("model.json", _model_json_seeds, _read_model_json, 1.5, True),
    Surface("weights", _weight_seeds, _read_weights, 1),
    Surface("kept files", _kept_seeds, _read_kept, 1),
    Surface("checkpoints", _checkpoint_seeds, _read_checkpoint, 1),
    Surface("prepared data", _prepared_seeds, _read_prepared, 1, True),
    Surface("archives", _archive_seeds, _read_archive, 1),
    Surface("names", _name_seeds, _read_name, 1),
    Surface("study.json", _study_json_seeds, _read_study_json, 0.2, True),
    Surface("databases", _database_seeds, _read_database, 0.2),
    Surface("attributes in databases", _row_seeds, _read_row, 0.2, True),
)


@dataclass
class Found:
    """What a surface made of its inputs.

    Attributes:
        tried: inputs.
        read: those that were taken.
        refused: those that ended in an error of ours.
        findings: what is wrong → how often.
        examples: what is wrong → the first input and its traceback.
        slowest: seconds of the slowest input.
        megabytes: by which the process's memory grew.
    """

    tried: int = 0
    read: int = 0
    refused: int = 0
    findings: Counter[str] = field(default_factory=Counter)
    examples: dict[str, tuple[bytes, str]] = field(default_factory=dict)
    slowest: float = 0.0
    megabytes: float = 0.0


class _TooLong(BaseException):
    pass


@contextmanager
def _limited(seconds: float) -> Iterator[None]:
    def end(_number: int, _frame: FrameType | None) -> None:
        raise _TooLong

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _outside(root: Path) -> set[str]:
    return {str(path) for path in (*root.parent.glob("*"), *Path.cwd().glob("*")) if path != root}


def try_inputs(surface: Surface, count: int, seed: int) -> Found:
    """Let a surface read ``count`` changed inputs, and its right ones first."""
    rng, found = random.Random(f"{surface.name} {seed}"), Found()
    with tempfile.TemporaryDirectory() as outer, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("ignore", SAWarning)
        root = Path(outer) / "within"
        root.mkdir()
        os.environ["IIMT_CACHE"] = str(root / "prepared")
        seeds = list(surface.seeds(root))
        surface.read(root, seeds[0])
        there, before = _outside(root), _peak()
        for number in range(count):
            chosen = rng.choice(seeds)
            as_json = surface.as_json and rng.random() < 0.7
            data = (mutated_json if as_json else mutated)(rng, chosen)
            found.tried += 1
            began, wrong, told = time.monotonic(), "", ""
            try:
                with _limited(SECONDS):
                    surface.read(root, data)
                found.read += 1
            except IimtSearchError as error:
                found.refused += 1
                if len(str(error)) > 4000:
                    wrong = f"a message of {len(str(error)) // 1000} thousand letters"
            except _TooLong:
                wrong = f"takes longer than {SECONDS} s"
            except Exception as error:
                told = traceback.format_exc()
                frame = traceback.extract_tb(error.__traceback__)[-1]
                wrong = f"{type(error).__name__} in {Path(frame.filename).name}:{frame.name}"
            found.slowest = max(found.slowest, time.monotonic() - began)
            if wrong:
                found.findings[wrong] += 1
                found.examples.setdefault(wrong, (data, told))
            shutil.rmtree(root / "prepared", ignore_errors=True)
            if (now := _peak()) - before > MEGABYTES:
                found.findings["memory"] += 1
                found.examples.setdefault("memory", (data, f"{now - before:.0f} MB"))
                before = now
            if number % 100 == 99 and (more := _outside(root) - there):
                found.findings[f"wrote {sorted(more)}"] += 1
                there |= more
            found.megabytes = max(found.megabytes, _peak() - before)
    return found


def measure_hostile(inputs: int, seed: int, names: Sequence[str] = ()) -> dict[str, Found]:
    """Let every surface read its share of ``inputs`` changed inputs; surface → what it made of them."""
    chosen = [surface for surface in SURFACES if not names or surface.name in names]
    whole = sum(surface.share for surface in chosen)
    found = {}
    for surface in chosen:
        found[surface.name] = try_inputs(surface, max(1, round(inputs * surface.share / whole)), seed)
        print(line(surface.name, found[surface.name]), file=sys.stderr, flush=True)
    return found


def line(name: str, found: Found) -> str:
    """Return what a surface made of its inputs as text."""
    wrong = ", ".join(f"{what} ({times})" for what, times in found.findings.most_common()) or "nothing wrong"
    return (
        f"{name:24s} {found.tried:6d} inputs, {found.read} read, {found.refused} refused, slowest "
        f"{found.slowest:.2f} s, +{found.megabytes:.0f} MB: {wrong}"
    )
