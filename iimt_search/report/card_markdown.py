"""Markdown of model cards: text that cannot be taken for markup, and tables."""

from collections.abc import Sequence

from iimt_search.settings import shown_value


def text(value: object) -> str:
    """Return a value as Markdown text that cannot be taken for markup."""
    escaped = str(value).replace("&", "&amp;").replace("<", "&lt;").replace("\\", "\\\\")
    for sign in "|`*[]":
        escaped = escaped.replace(sign, f"\\{sign}")
    return " ".join(escaped.split())


def table(titles: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a Markdown table; the cells are Markdown."""
    lines = [titles, ["---"] * len(titles), *rows]
    return "".join(f"| {' | '.join(map(str, line))} |\n" for line in lines)


def number(value: object) -> str:
    """Return a setting's value, a number with four digits."""
    return text(shown_value(value))
