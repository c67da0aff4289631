import errno
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from iimt_search.data import store
from iimt_search.data.store import DomainStream, PartStream, cached, data_root, prepared_root, stream_of
from iimt_search.data.task import Domain, Labelled, Unlabelled
from iimt_search.errors import DataError


def make(fill: int = 1) -> DomainStream:
    x = np.full((3, 3, 2, 2), fill, dtype=np.uint8)
    y = np.array([0, 1, 0], dtype=np.int64)
    return stream_of(Domain(Labelled(x, y), Unlabelled(x[:1]), ("cat", "dog"), "image", "digits"))


def fill_of(domain: Domain) -> int:
    return int(domain.train.x[0, 0, 0, 0])


def never() -> DomainStream:
    raise AssertionError("built although it is kept")


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("IIMT_CACHE", str(tmp_path / "prepared"))
    return tmp_path / "prepared"


def test_roots_are_the_environments(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IIMT_DATA", str(tmp_path / "raw"))
    assert (prepared_root(), data_root()) == (root, tmp_path / "raw")


@pytest.mark.parametrize("value", [None, ""])
def test_roots_are_else_in_the_users_cache(value: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("IIMT_DATA", "IIMT_CACHE"):
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
    assert data_root().parts[-2:] == ("iimt-search", "data")
    assert prepared_root().parts[-2:] == ("iimt-search", "prepared")


def test_second_load_reads_what_was_built() -> None:
    built, read = cached("tiny", make), cached("tiny", never)
    for domain in (built, read):
        assert isinstance(domain.train, Labelled) and isinstance(domain.test, Unlabelled)
        assert domain.train.x.dtype == np.uint8 and fill_of(domain) == 1
        assert domain.train.y.tolist() == [0, 1, 0] and len(domain.test) == 1
        assert (domain.classes, domain.kind, domain.augmentation) == (("cat", "dog"), "image", "digits")
    assert built.fingerprint == read.fingerprint != built.sample_fingerprint
    assert isinstance(read.train.x, np.memmap)


def test_what_a_reader_changes_does_not_reach_the_file() -> None:
    cached("tiny", make).train.x[:] = 9
    assert fill_of(cached("tiny", never)) == 1


def test_keys_are_kept_apart() -> None:
    cached("one", lambda: make(1))
    assert fill_of(cached("two", lambda: make(2))) == 2
    assert fill_of(cached("one", never)) == 1


@pytest.mark.parametrize("name", ["train_x.npy", "train_y.npy", "test_x.npy", "meta.json"])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_truncated_file_is_made_again(root: Path, name: str, share: float) -> None:
    cached("tiny", lambda: make(1))
    path = root / "tiny" / name
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    assert fill_of(cached("tiny", lambda: make(2))) == 2
    assert fill_of(cached("tiny", never)) == 2


def test_missing_file_or_another_schema_is_made_again(root: Path) -> None:
    cached("tiny", lambda: make(1))
    (root / "tiny" / "train_y.npy").unlink()
    assert fill_of(cached("tiny", lambda: make(2))) == 2
    meta = json.loads((root / "tiny" / "meta.json").read_text())
    (root / "tiny" / "meta.json").write_text(json.dumps({**meta, "schema": 99}))
    assert fill_of(cached("tiny", lambda: make(3))) == 3


def test_pickled_arrays_are_not_loaded(root: Path) -> None:
    cached("tiny", lambda: make(1))
    path = root / "tiny" / "train_x.npy"
    np.save(path, np.array([None, 1], dtype=object), allow_pickle=True)
    meta = json.loads((root / "tiny" / "meta.json").read_text())
    meta["sizes"]["train_x.npy"] = path.stat().st_size
    (root / "tiny" / "meta.json").write_text(json.dumps(meta))
    assert fill_of(cached("tiny", lambda: make(2))) == 2


def failing_after(samples: int, error: BaseException) -> DomainStream:
    def chunks() -> Iterator[np.ndarray]:
        yield np.zeros((samples, 3, 2, 2), np.uint8)
        raise error

    return DomainStream(PartStream(9, (3, 2, 2), chunks, None), None, None, "image", "image")


@pytest.mark.parametrize("error", [KeyboardInterrupt(), DataError("no"), OSError(errno.EIO, "bad")])
def test_failed_build_leaves_nothing(root: Path, error: BaseException) -> None:
    with pytest.raises(type(error)):
        cached("tiny", lambda: failing_after(4, error))
    assert [path.name for path in root.iterdir() if path.suffix != ".lock"] == []
    assert fill_of(cached("tiny", lambda: make(2))) == 2


def test_full_disk_is_told_and_leaves_nothing(root: Path) -> None:
    full = OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(DataError, match="the disk is full: no room for tiny in .*IIMT_CACHE"):
        cached("tiny", lambda: failing_after(4, full))
    assert [path.name for path in root.iterdir() if path.suffix != ".lock"] == []


def test_a_truly_full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OSError) as caught, open("/dev/full", "wb") as file:
        store._write_array(file, (1 << 16, 1), np.uint8, [np.zeros((1 << 16, 1), np.uint8)])
    assert caught.value.errno == errno.ENOSPC


def test_a_stream_that_ends_early_is_noticed() -> None:
    stream = DomainStream(
        PartStream(5, (3, 2, 2), lambda: iter([np.zeros((4, 3, 2, 2), np.uint8)]), None),
        None,
        None,
        "image",
        "image",
    )
    with pytest.raises(DataError, match="5 samples were announced and 4 came"):
        cached("tiny", lambda: stream)


KILLED_WHILE_WRITING = """
import os, signal
import numpy as np
from iimt_search.data.store import cached
from iimt_search.data.store import DomainStream, PartStream

def chunks():
    yield np.zeros((4, 3, 2, 2), np.uint8)
    os.kill(os.getpid(), signal.SIGKILL)

cached("tiny", lambda: DomainStream(PartStream(9, (3, 2, 2), chunks, None), None, None, "image", "image"))
"""


def test_killed_build_is_not_taken_for_the_domain(root: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED_WHILE_WRITING], capture_output=True)
    assert done.returncode == -9, done.stderr
    assert (root / "tiny.tmp" / "train_x.npy").exists()
    assert fill_of(cached("tiny", lambda: make(2))) == 2
    assert not (root / "tiny.tmp").exists()


def test_concurrent_callers_build_once() -> None:
    built: list[int] = []
    gate = threading.Barrier(4)

    def build() -> DomainStream:
        built.append(1)
        return make(len(built))

    def call() -> None:
        gate.wait()
        cached("tiny", build)

    threads = [threading.Thread(target=call) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert built == [1]
