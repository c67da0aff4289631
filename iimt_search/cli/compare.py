"""``iimt-search compare``."""

from typing import Any

import click

from iimt_search import api
from iimt_search.cli.options import complete_study, json_option, where_options
from iimt_search.cli.printing import print_json, print_table
from iimt_search.settings import shown_value


def _value(value: Any) -> str:
    return "–" if value is None else shown_value(value)


def _column(parts: list[dict[str, Any]]) -> dict[str, str]:
    """Return a study's column: row name → cell. Parts of a ``per_task`` study get rows of their own."""
    column = {}
    for part in parts:
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
    return column


@click.command("compare")
@click.argument("studies", nargs=2, metavar="STUDY STUDY", shell_complete=complete_study)
@where_options
@json_option
def command(studies: tuple[str, str], as_json: bool, **where: Any) -> None:
    """Show two studies side by side: what was tried, what was chosen, and how their space files differ."""
    content = api.compare(*studies, **where)
    if as_json:
        print_json(content)
        return
    first, second = (_column(study["parts"]) for study in content["studies"])
    columns = ["", *(f">{study}" for study in studies)]
    rows = [(row, first.get(row, "–"), second.get(row, "–")) for row in first | second]
    print_table(columns, rows, "studies")
    if rows := [(key, *map(_value, pair)) for key, pair in content["space"].items()]:
        print_table(columns, rows, "space files differ in")
    if content["incomparable"]:
        click.echo(f"their objectives cannot be compared: {', '.join(content['incomparable'])}")
