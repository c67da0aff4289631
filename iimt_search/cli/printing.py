"""What the verbs print: tables, JSON, and how far they are."""

import sys
import time
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import click
from rich import box
from rich.console import Console
from rich.table import Table

from iimt_search.files import json_text, strict_json

# Seconds between two lines that tell how far a verb is, where there is no terminal.
PLAIN_EVERY = 15.0


def print_table(
    columns: Iterable[str],
    rows: Iterable[Iterable[str]],
    title: str | None = None,
    *,
    mean: Sequence[str] = (),
    padding: tuple[int, int] = (0, 1),
) -> None:
    """Print rows of text below their columns' titles.

    Args:
        columns: titles; one that begins with ``>`` is of a column that is aligned to the right.
        rows: a cell for each column.
        title: above the table.
        mean: a last row, below a line.
        padding: spaces before and after each cell.
    """
    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", pad_edge=padding[0] > 0)
    table.padding = (0, padding[1], 0, padding[0])
    for number, column in enumerate(columns):
        justify: Literal["left", "right"] = "right" if column.startswith(">") else "left"
        table.add_column(column.removeprefix(">"), justify=justify, no_wrap=number == 0, overflow="fold")
    for row in rows:
        table.add_row(*row)
    if mean:
        table.add_section()
        table.add_row(*mean)
    Console().print(table)


def shown(value: float | None, form: str) -> str:
    """Return a number in a format such as ``.1f``; a dash for None."""
    return "–" if value is None else f"{value:{form}}"


def print_json(content: Any) -> None:
    """Print a value as indented JSON."""
    click.echo(json_text(strict_json(content), indent=2))


class Count:
    """Shows how many of how many are done: on a terminal on one line that is written over, else as lines.

    One for each run of a verb: the first line comes after 15 seconds.
    """

    def __init__(self) -> None:
        self._shown = time.monotonic()

    def __call__(self, what: str, done: int, of: int) -> None:
        """Show it, where it is time to."""
        if sys.stderr.isatty():
            sys.stderr.write(f"\r\x1b[K{what} {done}/{of}" + ("\r\x1b[K" if done == of else ""))
            sys.stderr.flush()
        elif time.monotonic() - self._shown >= PLAIN_EVERY:
            self._shown = time.monotonic()
            click.echo(f"{what} {done}/{of}", err=True)
