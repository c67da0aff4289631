"""Studies and data that lie elsewhere than they did, and studies that may only be read."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import iimt_search
from iimt_search.data.assemble import load_task
from iimt_search.errors import StudyError, StudyMismatchError

pytestmark = pytest.mark.slow

SPACE = """\
schema: 1
study: own
tasks: [{source: {arrays: s.npz}, target: {arrays: t.npz}}]
train: {steps: 2, batch_size: 8, width: 4, evaluations: 1, precision: float32}
budget: {trials: 1}
objective: source_accuracy
confirm: {top: 1, seeds: 1}
retrain: {steps: 2}
"""


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data, a space file, and a finished study in ``studies/``."""
    folder = tmp_path_factory.mktemp("here")
    rng = np.random.default_rng(0)
    data = folder / "data"
    data.mkdir()
    np.savez(data / "s.npz", x=rng.normal(size=(30, 4)).astype(np.float32), y=np.arange(30) % 2)
    np.savez(data / "t.npz", x=rng.normal(size=(20, 4)).astype(np.float32), y=np.arange(20) % 2)
    (data / "own.yaml").write_text(SPACE)
    go_on(data / "own.yaml", folder / "studies", 1)
    return folder


@pytest.fixture
def moved(begun: Path, tmp_path: Path) -> Path:
    """The same somewhere else; nothing is where it was."""
    shutil.copytree(begun, tmp_path / "there")
    return tmp_path / "there"


def go_on(space: Path, studies: Path, trials: int, **more: Any) -> Any:
    load_task.cache_clear()
    (choice,) = iimt_search.run(
        iimt_search.load_space(space, trials=trials), studies_dir=studies, workers=0, device="cpu", **more
    )
    return choice


def trials(studies: Path, **more: Any) -> int:
    (part,) = iimt_search.status("own", studies_dir=studies, **more)["parts"]
    return sum(part["trials"].values())


def test_moved_with_its_data_it_goes_on(moved: Path, begun: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(moved / "data")
    choice = go_on(Path("own.yaml"), Path("../studies"), 2)
    assert trials(moved / "studies") == 2 and trials(begun / "studies") == 1
    assert Path(choice.models).resolve().is_relative_to(moved)


def test_from_another_working_directory_it_goes_on(moved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(moved)
    go_on(Path("data/own.yaml"), Path("studies"), 2)
    monkeypatch.chdir(moved / "studies")
    go_on(Path("../data/own.yaml"), Path("."), 3)
    assert trials(moved / "studies") == 3


def test_where_its_models_are_is_where_it_is(moved: Path, tmp_path: Path) -> None:
    (choice,) = iimt_search.best("own", studies_dir=moved / "studies")
    assert Path(choice.models).is_relative_to(moved) and Path(choice.models).is_dir()
    iimt_search.export(tmp_path / "out", "own", studies_dir=moved / "studies")


def test_data_in_another_form_is_the_same_data(moved: Path) -> None:
    data = moved / "data"
    with np.load(data / "s.npz") as arrays:
        np.save(data / "x.npy", arrays["x"])
        np.save(data / "y.npy", arrays["y"])
    text = SPACE.replace("{arrays: s.npz}", "{arrays: x.npy, labels: y.npy, kind: vector}")
    (data / "other.yaml").write_text(text.replace("[{source", "[{name: s->t, source"))
    go_on(data / "other.yaml", moved / "studies", 2)
    assert trials(moved / "studies") == 2


def test_a_database_that_is_gone_is_asked_for(moved: Path) -> None:
    database = moved / "studies" / "own" / "study.db"
    database.rename(moved / "study.db")
    for call in (
        lambda: go_on(moved / "data" / "own.yaml", moved / "studies", 2),
        lambda: trials(moved / "studies"),
    ):
        with pytest.raises(
            StudyError, match=r"study.db, which is not there: put it back, or delete .*/own/ to"
        ):
            call()
    (moved / "study.db").rename(database)
    go_on(moved / "data" / "own.yaml", moved / "studies", 2)
    assert trials(moved / "studies") == 2


def test_other_data_or_another_name_is_told(moved: Path) -> None:
    data = moved / "data"
    (data / "s.npz").rename(data / "renamed.npz")
    (data / "renamed.yaml").write_text(SPACE.replace("s.npz", "renamed.npz"))
    with pytest.raises(StudyMismatchError, match="same under another name: .* theirs back, `name: s->t`; or"):
        go_on(data / "renamed.yaml", moved / "studies", 2)
    named = SPACE.replace("s.npz", "renamed.npz").replace("[{source", "[{name: s->t, source")
    (data / "renamed.yaml").write_text(named)
    go_on(data / "renamed.yaml", moved / "studies", 2)
    np.savez(data / "t.npz", x=np.ones((20, 4), np.float32))
    with pytest.raises(StudyMismatchError, match="begun with other data of s->t; give this"):
        go_on(data / "renamed.yaml", moved / "studies", 3)
    (data / "renamed.yaml").write_text(named.replace("t.npz", "t.npz, augmentation: none"))
    with pytest.raises(StudyMismatchError, match="begun with other tasks, data of"):
        go_on(data / "renamed.yaml", moved / "studies", 3)


def test_a_storage_of_its_own_is_found_from_anywhere(
    begun: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    there = {"storage": "sqlite:///team.db"}
    go_on(begun / "data" / "own.yaml", Path("studies"), 1, **there)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert trials(Path("../studies")) == 1 and not list(Path(".").iterdir())
    assert trials(Path("../studies"), storage="sqlite:///../team.db") == 1
    # Both moved, the one beside the other as before.
    (tmp_path / "new").mkdir()
    for name in ("studies", "team.db"):
        shutil.move(tmp_path / name, tmp_path / "new" / name)
    go_on(begun / "data" / "own.yaml", tmp_path / "new" / "studies", 2)
    assert trials(tmp_path / "new" / "studies") == 2
    # The database alone moved: it has to be said where it is, and nothing else is taken for it.
    shutil.move(tmp_path / "new" / "team.db", tmp_path / "team2.db")
    with pytest.raises(StudyError, match="team.db, which is not there.*`storage`"):
        trials(tmp_path / "new" / "studies")
    with pytest.raises(StudyError, match="which is not there"):
        trials(tmp_path / "new" / "studies", storage=f"sqlite:///{tmp_path}/none.db")
    assert trials(tmp_path / "new" / "studies", storage=f"sqlite:///{tmp_path}/team2.db") == 2
    go_on(
        begun / "data" / "own.yaml", tmp_path / "new" / "studies", 3, storage=f"sqlite:///{tmp_path}/team2.db"
    )
    assert trials(tmp_path / "new" / "studies") == 3
