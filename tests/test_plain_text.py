import pytest
from hypothesis import given
from hypothesis import strategies as st

from iimt_search.errors import DataError, SpaceError, StudyError
from iimt_search.files import shown
from iimt_search.plain_text import clipped, markdown, visible

STEERING = "\x1b]0;x\x07\x9b2J‮\u2028\r"


@given(st.text())
def test_nothing_steers_a_terminal(text: str) -> None:
    assert not any(
        ord(sign) < 32 or 127 <= ord(sign) < 160 or sign in "‮\u2066\u2028" for sign in visible(text)
    )
    assert visible(text) == text or not text.isprintable()


@given(st.text(), st.integers(10, 50))
def test_what_is_clipped_has_both_ends(text: str, most: int) -> None:
    cut = clipped(text, most)
    assert len(cut) <= most + 3
    assert cut == text or (cut[:5], cut[-3:]) == (text[:5], text[-3:])


@given(st.text())
def test_markdown_has_no_markup(text: str) -> None:
    found = markdown(text)
    assert "\n" not in found and "<" not in found
    for sign in "|`*[]":
        assert found.replace("\\\\", "").replace(f"\\{sign}", "").count(sign) == 0


@pytest.mark.parametrize("kind", [StudyError, DataError, SpaceError])
def test_messages_and_paths_steer_nothing(kind: type[Exception]) -> None:
    assert not set(str(kind(f"there is no {STEERING}"))) & set(STEERING) - set("]0;x2J")
    assert shown(f"a{STEERING}b") == "a\\x1b]0;x\\x07\\x9b2J\\u202e\\u2028\\x0db"


def test_a_message_has_an_end() -> None:
    assert len(str(SpaceError(f"unknown key {'a' * 10**6!r}; did you mean 'b'?"))) < 1100
    assert str(SpaceError("a" * 10**6 + "; did you mean 'b'?")).endswith("did you mean 'b'?")
