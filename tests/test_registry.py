"""Names of installed packages beside the built-in ones."""

from importlib import metadata
from importlib.metadata import EntryPoint, EntryPoints

import pytest

from iimt_search.errors import UsageError
from iimt_search.kinds import EncoderEntry
from iimt_search.registry import Registry

BUILT_IN = EncoderEntry("image", 8, "a:b")
OFFERED = EncoderEntry("series", 4, "c:d")


def offered() -> EncoderEntry:
    """An entry by a function."""
    return OFFERED


def raising() -> EncoderEntry:
    """A plug-in that fails."""
    raise RuntimeError("no such device")


def registry(monkeypatch: pytest.MonkeyPatch, **points: str) -> Registry[EncoderEntry]:
    """Return one with the name ``small`` and the entry points; ``_`` ends a name that stands twice."""
    found = EntryPoints(
        EntryPoint(name.rstrip("_"), value, "iimt_search.encoders") for name, value in points.items()
    )
    monkeypatch.setattr(metadata, "entry_points", lambda group: found.select(group=group))
    monkeypatch.setitem(__import__("sys").modules, "plugin", __import__("sys").modules[__name__])
    return Registry("encoder", EncoderEntry, {"small": BUILT_IN})


def test_entries_and_functions_that_return_them(monkeypatch: pytest.MonkeyPatch) -> None:
    found = registry(monkeypatch, other="plugin:OFFERED", made="plugin:offered")
    assert dict(found) == {"small": BUILT_IN, "made": OFFERED, "other": OFFERED}
    assert len(found) == 3 and "other" in found and "absent" not in found
    with pytest.raises(KeyError):
        found["absent"]


def test_a_built_in_name_asks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    found = registry(monkeypatch)
    monkeypatch.setattr(metadata, "entry_points", None)
    assert found["small"] is BUILT_IN and "small" in found


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ({"other": "absent_module:X"}, r"its encoder 'other' .* cannot be loaded: ModuleNotFoundError"),
        ({"other": "plugin:raising"}, "cannot be loaded: RuntimeError: no such device"),
        ({"other": "plugin:BUILT_IN_NAME"}, "cannot be loaded: AttributeError"),
        (
            {"other": "plugin:__name__"},
            "of class EncoderEntry, or a function returning one, got str",
        ),
        ({"other": "plugin:OFFERED", "other_": "plugin:offered"}, "both offer encoder 'other'; uninstall"),
    ],
)
def test_what_is_wrong_with_a_plug_in(
    points: dict[str, str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = registry(monkeypatch, **points)
    assert found["small"] is BUILT_IN  # what is built in goes on working
    with pytest.raises(UsageError, match=message):
        found["other"]


def test_a_built_in_name_cannot_be_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    found = registry(monkeypatch, small="plugin:OFFERED")
    assert found["small"] is BUILT_IN
    with pytest.raises(UsageError, match="offers encoder 'small'; that name is built in"):
        list(found)
