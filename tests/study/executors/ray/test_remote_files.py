from pathlib import Path

import pytest

from iimt_search.data.open import open_domain
from iimt_search.data.store import prepared_root
from iimt_search.errors import UsageError
from iimt_search.records import Job
from iimt_search.settings import TrainSettings
from iimt_search.space.task_spec import DomainSpec, TaskSpec
from iimt_search.study.executors.ray.remote_files import DriverFiles, NodeFiles, RemoteFolder

JOB = Job(
    "trial-0",
    (TaskSpec.model_validate("digits->digits-m"),),
    TrainSettings(image_size=8),
    0,
    ("entropy",),
    "/nowhere/jobs/trial-0",
)


def test_a_node_fetches_prepared_data_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = str(tmp_path / "storage")
    keys = DriverFiles(storage, "s").upload_inputs(JOB)
    expected = open_domain(DomainSpec(named="digits"), 8).fingerprint
    assert len(keys) == 2

    monkeypatch.setenv("IIMT_CACHE", str(tmp_path / "node"))
    monkeypatch.setattr("iimt_search.data.store._write", None)  # this node could not prepare anything
    NodeFiles(storage, "s", JOB, keys).close()
    assert open_domain(DomainSpec(named="digits"), 8).fingerprint == expected
    written = {path: path.stat().st_mtime_ns for path in prepared_root().rglob("*.npy")}
    assert written
    NodeFiles(storage, "s", JOB, keys).close()
    assert written == {path: path.stat().st_mtime_ns for path in prepared_root().rglob("*.npy")}


def test_shared_folder_copies_whole_files_and_folders(tmp_path: Path) -> None:
    shared = RemoteFolder(str(tmp_path / "shared"))
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "c").write_text("one")
    shared.upload(tmp_path / "a" / "b" / "c", "x/c")
    shared.upload(tmp_path / "a", "tree")
    assert shared.exists("x/c") and not shared.exists("x/d")
    assert shared.download("x/c", tmp_path / "new" / "c") and (tmp_path / "new" / "c").read_text() == "one"
    assert shared.download("tree", tmp_path / "copy") and (tmp_path / "copy" / "b" / "c").read_text() == "one"
    assert not shared.download("x/d", tmp_path / "d") and not (tmp_path / "d").exists()
    shared.delete("x")
    shared.delete("x")
    assert not shared.exists("x/c")
    assert {path.name for path in (tmp_path / "shared").iterdir()} == {"tree"}


def test_a_wrong_storage_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="`ray_storage` must be a path, or a URI .* got 'nosuch://x'"):
        RemoteFolder("nosuch://x")
