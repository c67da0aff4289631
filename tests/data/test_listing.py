from pathlib import Path

from iimt_search.data.listing import LeftOut, walk


def test_files_first_then_folders_in_the_order_of_names(tmp_path: Path) -> None:
    for name in ("b.png", "a.PNG", "sub/c.png", "sub/deep/d.png", "again/e.png", "x.txt", "README", ".h.png"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    left = LeftOut()
    found = [path.relative_to(tmp_path).as_posix() for path in walk(tmp_path, frozenset({".png"}), left)]
    assert found == ["a.PNG", "b.png", "again/e.png", "sub/c.png", "sub/deep/d.png"]
    assert (left.by_ending(), left.hidden, left.wrong) == ("1 without ending, 1 .txt", 1, {})
    assert [note.kind for note in left.notes("here")] == ["skipped", "skipped"]


def test_many_endings_are_cut() -> None:
    left = LeftOut()
    for number in range(15):
        left.endings[f".{number:02}"] += 1
    assert left.by_ending().endswith("1 .09 and 5 more")


def test_a_folder_that_is_gone_is_told(tmp_path: Path) -> None:
    left = LeftOut()
    assert list(walk(tmp_path / "gone", frozenset({".png"}), left)) == []
    assert list(left.wrong.values()) == [f"{tmp_path}/gone cannot be read: No such file or directory"]
