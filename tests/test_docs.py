"""The documents name what there is. Their commands are run by tests/docs."""

import ast
import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import iimt_search
from iimt_search.cli.main import VERBS
from iimt_search.cli.options import by_options
from iimt_search.data.registry import DOMAINS
from iimt_search.space import KnownNames, Space, load_space
from iimt_search.validators.registry import VALIDATORS

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]
NEEDED = ("sphinx", "myst_parser", "furo", "sphinx_click")
ABSENT = [name for name in NEEDED if importlib.util.find_spec(name) is None]


@pytest.fixture(scope="module")
def space_reference() -> ModuleType:
    spec = importlib.util.spec_from_file_location("space_reference", DOCS / "_ext" / "space_reference.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_space_reference_is_the_schemas(space_reference: ModuleType) -> None:
    advice = "run: python docs/_ext/space_reference.py"
    assert (DOCS / "space-reference.md").read_text() == space_reference.reference(), advice
    text = (DOCS / "space-file.md").read_text()
    assert text == space_reference.space_file(text), advice


def test_space_reference_has_every_key_with_its_meaning(space_reference: ModuleType) -> None:
    text = (DOCS / "space-reference.md").read_text()
    for title, model in space_reference.SECTIONS.items():
        section = text.split(f"\n## {title}\n")[1].split("\n## ")[0]
        assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) == list(model.model_fields)
        assert re.findall(r"^\| `(\w+)` \|.*\| – \|$", section, re.MULTILINE) == []


def test_a_changed_setting_is_noticed(space_reference: ModuleType) -> None:
    text = (DOCS / "space-file.md").read_text()
    changed = text.replace("| `alpha` | 1.0 |", "| `alpha` | 2.0 |")
    assert changed != text and space_reference.space_file(changed) == text
    with pytest.raises(ValueError, match="one table of settings"):
        space_reference.space_file("no table")


def test_every_key_of_a_space_file_is_explained() -> None:
    table = (DOCS / "space-file.md").read_text().split("## Training settings")[0]
    keys = set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE))
    assert keys == {field.alias or name for name, field in Space.model_fields.items()}


@pytest.mark.parametrize("path", PAGES, ids=lambda p: p.name)
def test_no_placeholder_is_left(path: Path) -> None:
    assert re.findall(r"\b[A-Z]+_TABLE\b|TODO|[Tt]o be written", path.read_text()) == []


@pytest.mark.parametrize("path", PAGES, ids=lambda p: p.name)
def test_links_between_files_lead_somewhere(path: Path) -> None:
    links = re.findall(r"\]\((?!https?:|#)([^)#\s]+)", path.read_text())
    assert [link for link in links if not (path.parent / link).exists()] == []


def test_every_verb_stands_in_the_readme() -> None:
    text = (ROOT / "README.md").read_text()
    assert [verb for verb in VERBS if f"| `iimt-search {verb}` |" not in text] == []


@pytest.mark.parametrize("path", sorted((ROOT / "spaces").glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_spaces_are_right_and_documented(path: Path) -> None:
    load_space(path, KnownNames(DOMAINS, VALIDATORS))
    assert f"spaces/{path.name}" in (DOCS / "own-data.md").read_text()


def literals() -> str:
    """Return every text of the package's code as printed, with ``…`` for what is put into it, one a line."""
    found = []
    for path in sorted((ROOT / "iimt_search").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                parts = [part.value if isinstance(part, ast.Constant) else "…" for part in node.values]
                found.append("".join(map(str, parts)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return by_options("\n".join(found))


def test_messages_of_the_troubleshooting_page_are_in_the_code() -> None:
    text = (DOCS / "troubleshooting.md").read_text()
    messages = re.findall(r"^\| `((?:[^`]|`(?! \|))+)` \|", text, re.MULTILINE)
    assert len(messages) > 60
    code = literals()

    def known(message: str) -> bool:
        # "…" at the end stands for the rest of the message, at its beginning for what names the place.
        middle = re.escape(message.strip("… :;,").strip()).replace("…", "[^\n]*?")
        return re.search(middle, code) is not None

    assert [message for message in messages if not known(message)] == []


@pytest.mark.long
@pytest.mark.skipif(bool(ABSENT), reason=f"not installed: {', '.join(ABSENT)} (pip install -e '.[docs]')")
def test_the_documents_build_without_a_warning(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", DOCS, tmp_path]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    shown = (tmp_path / "commands.html").read_text()
    assert [verb for verb in VERBS if f'id="iimt-search-{verb}"' not in shown] == []
    api = (tmp_path / "api.html").read_text()
    public = [name for name in iimt_search.__all__ if not name.startswith("__")]
    assert [name for name in public if f'id="iimt_search.{name}"' not in api] == []
