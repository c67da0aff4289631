"""The documents name what there is."""

import re
from pathlib import Path

import pytest

from iimt_search.cli.main import VERBS
from iimt_search.data.registry import DOMAINS
from iimt_search.settings import TrainSettings
from iimt_search.space import KnownNames, Space, load_space
from iimt_search.validators.registry import VALIDATORS

ROOT = Path(__file__).parents[1]


def table(text: str, heading: str) -> set[str]:
    """Return the first column's names of the first table after a heading."""
    after = text.split(heading, 1)[1]
    rows = re.search(r"(?:^\|.*\n)+", after, re.MULTILINE)
    assert rows is not None
    return set(re.findall(r"^\| `(\w+)` \|", rows[0], re.MULTILINE))


def test_every_setting_and_key_is_documented() -> None:
    text = (ROOT / "docs" / "space-file.md").read_text()
    assert table(text, "## Training settings") == set(TrainSettings.model_fields)
    assert table(text, "# The space file") == {f.alias or n for n, f in Space.model_fields.items()}


def test_documented_defaults_are_the_defaults() -> None:
    text = (ROOT / "docs" / "space-file.md").read_text()
    for name, field in TrainSettings.model_fields.items():
        default = str(field.default).lower() if isinstance(field.default, bool) else str(field.default)
        assert f"| `{name}` | {default} |" in text


@pytest.mark.parametrize(
    "path", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda p: p.name
)
def test_no_placeholder_is_left(path: Path) -> None:
    assert re.findall(r"\b[A-Z]+_TABLE\b|TODO", path.read_text()) == []


def test_every_verb_stands_in_the_readme() -> None:
    text = (ROOT / "README.md").read_text()
    assert [verb for verb in VERBS if f"iimt-search {verb}" not in text] == []


@pytest.mark.parametrize("path", sorted((ROOT / "spaces").glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_spaces_are_right_and_documented(path: Path) -> None:
    load_space(path, KnownNames(DOMAINS, VALIDATORS))
    assert f"spaces/{path.name}" in (ROOT / "docs" / "own-data.md").read_text()
