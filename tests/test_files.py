"""Files and folders that are replaced in one step."""

from pathlib import Path

import pytest

from iimt_search.files import atomic_write, write_text


def test_a_file_is_replaced_and_nothing_is_left_beside(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with atomic_write(path) as beside:
        beside.write_text("new")
        assert path.read_text() == "old" and beside.parent == tmp_path
    assert path.read_text() == "new" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("locked", [False, True])
def test_an_error_leaves_what_was_there(tmp_path: Path, locked: bool) -> None:
    path = tmp_path / "a"
    path.mkdir()
    (path / "old").touch()
    with pytest.raises(KeyboardInterrupt), atomic_write(path, locked=locked) as beside:
        beside.mkdir()
        (beside / "new").touch()
        raise KeyboardInterrupt
    assert list(tmp_path.rglob("*")) == [path, path / "old"]


def test_a_folder_takes_the_place_of_another(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.mkdir()
    (path / "old").touch()
    with atomic_write(path) as beside:
        beside.mkdir()
        (beside / "new").touch()
    assert list(tmp_path.rglob("*")) == [path, path / "new"]


def test_writers_at_the_same_time_do_not_share_a_file(tmp_path: Path) -> None:
    path = tmp_path / "a.pt2"
    with atomic_write(path, ending=".pt2") as one, atomic_write(path) as other:
        assert one != other and one.suffix == ".pt2"
        one.touch()
        other.touch()


def test_a_locked_write_clears_what_a_killed_one_left(tmp_path: Path) -> None:
    (tmp_path / "a.tmp").mkdir()
    (tmp_path / "a.tmp" / "half").touch()
    with atomic_write(tmp_path / "a", locked=True) as beside:
        assert beside == tmp_path / "a.tmp"
        beside.mkdir()
    assert list(tmp_path.rglob("*")) == [tmp_path / "a"]
