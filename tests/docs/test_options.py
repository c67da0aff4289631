"""Every verb and option that the documents name is there, in code blocks and in running text."""

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from markdown_it import MarkdownIt

from iimt_search.cli.main import cli

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def known_options(words: list[str]) -> tuple[set[str], list[str]]:
    """Return the options of the verb that the words begin with, and the words after it.

    Raises:
        AssertionError: there is no such verb.
    """
    context = click.Context(cli)
    found: click.Command = cli
    options = {opt for param in cli.params for opt in param.opts} | {"--help", "--version"}
    rest = list(words)
    while isinstance(found, click.Group) and rest:
        word = rest.pop(0)
        if word.startswith("-"):
            continue
        inner = found.get_command(context, word)
        assert inner is not None, f"there is no verb {word!r}"
        found = inner
        options |= {opt for param in inner.params for opt in (*param.opts, *param.secondary_opts)}
    return options, rest


def mentioned(page: Path) -> Iterator[str]:
    """Yield every line of code that names a verb: those that are run, those that are not, and in the text."""
    for token in MarkdownIt().enable("table").parse(page.read_text()):
        lines = [t.content for t in token.children or () if t.type == "code_inline"]
        if token.type in ("fence", "code_block"):
            lines = re.sub(r"\\\n\s*", " ", token.content).splitlines()
        for line in lines:
            for part in line.split("&&"):
                if found := re.match(r"\s*(?:\$ )?iimt-search ([^#]+)", part):
                    yield " ".join(found[1].split())


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_verbs_and_options_are_there(page: Path) -> None:
    for command in mentioned(page):
        words = [word.strip("[],;") for word in command.split() if word != "--debug"]
        if words[0] == "VERB":
            continue
        options, rest = known_options(words)
        given = {word.partition("=")[0] for word in rest if re.match(r"--\w", word)}
        assert given <= options, command
