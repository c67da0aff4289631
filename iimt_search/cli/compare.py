"""``iimt-search compare``."""

from typing import Any

import click
from rich.console import Console
from rich.table import Table

from iimt_search import api
from iimt_search.cli.options import complete_study, json_option, narrow_table, print_json, where_options
from iimt_search.settings import shown_value


def _value(value: Any) -> str:
    if value is None:
        return "–"
    return shown_value(value)


def _columns(found: dict[str, Any]) -> list[dict[str, str]]:
    """Return each study's column: row name → cell. Parts of a ``per_task`` study get rows of their own."""
    columns = []
    for study in found["studies"]:
        column = {}
        for part in study["parts"]:
            _, _, task = part["study"].partition(":")
            mark = f"{task}: " if task else ""
            counts = ", ".join(f"{count} {state}" for state, count in part["trials"].items() if count)
            column[f"{mark}trials"] = counts or "none"
            best = part["best_trial"]
            column[f"{mark}best trial"] = "–" if best is None else f"{best['trial']}, {best['value']:.4f}"
            column[f"{mark}choice"] = _value(part["answer"])
            column |= {f"{mark}  {name}": _value(value) for name, value in part["params"].items()}
            column[f"{mark}{part['objective']}"] = _value(part["score"])
            for name, scores in part["scores"].items():
                if part["objective"] in scores:
                    column[f"  {name}"] = _value(scores[part["objective"]])
        columns.append(column)
    return columns


def _table(title: str, names: list[str], rows: dict[str, list[str]]) -> Table:
    table = narrow_table(title=title)
    table.add_column("")
    for name in names:
        table.add_column(name, justify="right", overflow="fold")
    for row, cells in rows.items():
        table.add_row(row, *cells)
    return table


@click.command("compare")
@click.argument("studies", nargs=2, metavar="STUDY STUDY", shell_complete=complete_study)
@where_options
@json_option
def command(studies: tuple[str, str], as_json: bool, **where: Any) -> None:
    """Show two studies side by side: what was tried, what was chosen, and how their space files differ."""
    found = api.compare(*studies, **where)
    if as_json:
        print_json(found)
        return
    columns, names = _columns(found), list(studies)
    rows = {
        row: [column.get(row, "–") for column in columns] for row in dict.fromkeys([*columns[0], *columns[1]])
    }
    console = Console()
    console.print(_table("studies", names, rows))
    if differing := {key: [_value(value) for value in pair] for key, pair in found["space"].items()}:
        console.print(_table("space files differ in", names, differing))
    if found["incomparable"]:
        click.echo(f"their objectives cannot be compared: {', '.join(found['incomparable'])}")
