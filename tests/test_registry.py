"""Names of installed packages beside the built-in ones."""

import subprocess
import sys
from importlib import metadata
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path

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
    monkeypatch.setitem(sys.modules, "plugin", sys.modules[__name__])
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


def test_help_and_a_space_file_of_built_in_names_ask_no_package(tiny_space: Path) -> None:
    code = (
        "import sys\nfrom importlib import metadata\nasked, ask = [], metadata.entry_points\n"
        "metadata.entry_points = lambda **of: asked.append(of['group']) or ask(**of)\n"
        "from iimt_search import load_space\nfrom iimt_search.cli.main import cli\n"
        "for words in (['--help'], ['run', '--help']):\n    cli(words, standalone_mode=False)\n"
        "load_space(sys.argv[1])\n"
        "print([group for group in asked if group.startswith('iimt_search')])\n"
        "from iimt_search.validators.registry import VALIDATORS\nlist(VALIDATORS)\n"
        "print([group for group in asked if group.startswith('iimt_search')])"
    )
    command = [sys.executable, "-c", code, str(tiny_space)]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert out.splitlines()[-2:] == ["[]", "['iimt_search.validators']"]
