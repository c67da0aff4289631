import pytest

from iimt_search.errors import SpaceError
from iimt_search.space.lines import parse_yaml

TEXT = """\
# a comment
a: 1

b:
  c: {d: 2,
      e: 3}
  f:
    - x
    - g: 4
"""


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ((), 1),
        (("a",), 2),
        (("b",), 4),
        (("b", "c"), 5),
        (("b", "c", "d"), 5),
        (("b", "c", "e"), 6),
        (("b", "f"), 7),
        (("b", "f", 0), 8),
        (("b", "f", 1), 9),
        (("b", "f", 1, "g"), 9),
        (("b", "f", 5), 7),  # not there: its nearest ancestor
        (("b", "c", "d", "deeper"), 5),
        (("nowhere", "at", "all"), 1),
    ],
)
def test_line(path: tuple[str | int, ...], line: int) -> None:
    assert parse_yaml(TEXT)[1].line(path) == line


def test_document_is_safe_loads() -> None:
    assert parse_yaml(TEXT)[0] == {"a": 1, "b": {"c": {"d": 2, "e": 3}, "f": ["x", {"g": 4}]}}


@pytest.mark.parametrize("text", ["", "\n\n", "# only a comment\n"])
def test_empty_document(text: str) -> None:
    document, lines = parse_yaml(text)
    assert document is None
    assert lines.line(("a", 0)) == 1


def test_same_key_in_different_mappings() -> None:
    assert parse_yaml("a: {k: 1}\nb: {k: 2}\nc: [{k: 3}, {k: 4}]\n")[0]["c"] == [{"k": 3}, {"k": 4}]


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", 3, "key 'a' stands twice, first on line 1"),
        ("a:\n  b: 1\n  c: 2\n  b: 3\n", 4, "key 'b' stands twice, first on line 2"),
        ("l:\n- {k: 1,\n   k: 2}\n", 3, "key 'k' stands twice, first on line 2"),
        ("a: 1\nb: [1,\n", 3, "not YAML: "),
        ("a: 1\nb: c: d\n", 2, "not YAML: mapping values are not allowed here"),
        ("a: 1\n\tb: 2\n", 2, "not YAML: "),
        ("a: 1\nb: *nowhere\n", 2, "not YAML: found undefined alias 'nowhere'"),
        ("a: 1\n---\nb: 2\n", 2, "not YAML: but found another document"),
        ("a: 1\nb: !!python/object:os.system x\n", 2, "not YAML: could not determine a constructor"),
        ("? [a, b]\n: 1\n", 1, "Keys should be strings"),
    ],
)
def test_wrong_document(text: str, line: int, message: str) -> None:
    with pytest.raises(SpaceError) as caught:
        parse_yaml(text)
    assert caught.value.line == line
    assert str(caught.value).startswith(message)


def test_unprintable_character() -> None:
    with pytest.raises(SpaceError, match="not YAML: unacceptable character #x0000"):
        parse_yaml("a: \x00\n")


def test_alias_of_itself() -> None:
    with pytest.raises(SpaceError, match=r"loop|itself") as caught:
        parse_yaml("b: 1\na: &loop [*loop]\n")
    assert caught.value.line == 2
