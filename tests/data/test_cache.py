import gc
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest

from iimt_search.data import cache
from iimt_search.data.cache import cached, data_root
from iimt_search.data.task import Domain, Labelled


def make(fill: int = 1) -> Domain:
    x = np.full((3, 3, 2, 2), fill, dtype=np.uint8)
    y = np.array([0, 1, 0], dtype=np.int64)
    return Domain(Labelled(x, y), Labelled(x[:1], y[:1]), ("cat", "dog"), "digits")


def fill_of(domain: Domain) -> int:
    return int(domain.train.x[0, 0, 0, 0])


def never() -> Domain:
    raise AssertionError("built although it is kept")


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("IIMT_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


def test_root_is_the_environments(root: Path) -> None:
    assert data_root() == root


@pytest.mark.parametrize("value", [None, ""])
def test_root_is_else_the_users_cache(value: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    if value is None:
        monkeypatch.delenv("IIMT_DATA")
    else:
        monkeypatch.setenv("IIMT_DATA", value)
    assert data_root().parts[-2:] == ("iimt-search", "data")


def test_second_load_reads_the_file(root: Path) -> None:
    built = cached("tiny", make)
    read = cached("tiny", never)
    assert (root / "tiny.npz").is_file()
    for part in ("train", "test"):
        for array in ("x", "y"):
            before, after = getattr(getattr(built, part), array), getattr(getattr(read, part), array)
            assert np.array_equal(before, after)
            assert before.dtype == after.dtype
    assert (read.classes, read.augmentation) == (built.classes, built.augmentation)
    assert all(type(name) is str for name in (*read.classes, read.augmentation))


def test_keys_are_kept_apart() -> None:
    cached("one", lambda: make(1))
    assert fill_of(cached("two", lambda: make(2))) == 2
    assert fill_of(cached("one", never)) == 1


@pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 0.5, 0.9, 0.999])
def test_truncated_file_is_made_again(root: Path, share: float) -> None:
    cached("tiny", lambda: make(1))
    path = root / "tiny.npz"
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    assert fill_of(cached("tiny", lambda: make(2))) == 2
    assert fill_of(cached("tiny", never)) == 2


def test_broken_file_is_closed(root: Path) -> None:
    root.mkdir()
    (root / "tiny.npz").write_bytes(b"PK\x03\x04 cut short")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        cached("tiny", make)
        gc.collect()
    assert [str(warning.message) for warning in caught] == []


def test_flipped_pixel_is_noticed(root: Path) -> None:
    cached("tiny", lambda: make(77))
    path = root / "tiny.npz"
    whole = bytearray(path.read_bytes())
    whole[whole.index(bytes([77] * 12)) + 3] = 78
    path.write_bytes(whole)
    assert fill_of(cached("tiny", lambda: make(2))) == 2


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04", b"\x80\x04N."])
def test_foreign_file_is_made_again(root: Path, content: bytes) -> None:
    root.mkdir()
    (root / "tiny.npz").write_bytes(content)
    assert fill_of(cached("tiny", lambda: make(2))) == 2


def test_file_without_all_arrays_is_made_again(root: Path) -> None:
    root.mkdir()
    np.savez(root / "tiny.npz", train_x=make().train.x)
    assert fill_of(cached("tiny", lambda: make(2))) == 2


def test_pickled_arrays_are_not_loaded(root: Path) -> None:
    root.mkdir()
    parts = ("train_x", "train_y", "test_x", "test_y", "classes", "augmentation")
    np.savez(root / "tiny.npz", **{part: np.array([None], dtype=object) for part in parts})
    assert fill_of(cached("tiny", lambda: make(2))) == 2


def test_plain_npy_file_is_made_again(root: Path) -> None:
    root.mkdir()
    with (root / "tiny.npz").open("wb") as file:
        np.save(file, np.arange(3))
    assert fill_of(cached("tiny", lambda: make(2))) == 2


def test_damaged_zip_directory_is_made_again(root: Path) -> None:
    cached("tiny", lambda: make(1))
    path = root / "tiny.npz"
    whole = bytearray(path.read_bytes())
    whole[whole.index(b"PK\x01\x02") + 10] = 99  # the compression method of the first entry
    path.write_bytes(whole)
    assert fill_of(cached("tiny", lambda: make(2))) == 2


def test_failed_build_leaves_nothing(root: Path) -> None:
    def fail() -> Domain:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cached("tiny", fail)
    assert list(root.glob("*.npz")) == []
    assert fill_of(cached("tiny", lambda: make(2))) == 2


KILLED_WHILE_WRITING = """
import os, signal
import numpy as np
from iimt_search.data import cache
from iimt_search.data.task import Domain, Labelled

def half(path, **arrays):
    with open(path, "wb") as file:
        file.write(b"PK\\x03\\x04 half of it")
    os.kill(os.getpid(), signal.SIGKILL)

cache.np.savez = half
part = Labelled(np.zeros((1, 3, 2, 2), np.uint8), np.zeros(1, np.int64))
cache.cached("tiny", lambda: Domain(part, part, ("cat",), "digits"))
"""


def test_killed_build_is_not_taken_for_the_domain(root: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED_WHILE_WRITING], capture_output=True)
    assert done.returncode == -9, done.stderr
    assert not (root / "tiny.npz").exists()
    assert list(root.glob("*.tmp*")) != []  # it was killed while it wrote
    assert fill_of(cached("tiny", lambda: make(2))) == 2
    assert fill_of(cached("tiny", never)) == 2


def test_leftover_beside_is_never_read(root: Path) -> None:
    root.mkdir()
    cached("other", lambda: make(9))
    (root / "other.npz").rename(root / "tiny.tmp.npz")
    assert fill_of(cached("tiny", lambda: make(2))) == 2


def test_concurrent_callers_build_once(monkeypatch: pytest.MonkeyPatch) -> None:
    read, looked, built, results = cache._read, threading.Semaphore(0), [], []

    def counted_read(path: Path) -> Domain | None:
        found = read(path)
        looked.release()
        return found

    def build() -> Domain:
        built.append(threading.get_ident())
        for _ in range(5):  # all four have found nothing, and this one once more under the lock
            assert looked.acquire(timeout=20)
        return make(5)

    def call() -> None:
        results.append(fill_of(cached("tiny", build)))

    monkeypatch.setattr(cache, "_read", counted_read)

    threads = [threading.Thread(target=call) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [5, 5, 5, 5]
    assert len(built) == 1


def test_module_needs_no_torch() -> None:
    code = f"import sys, {cache.__name__}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
