"""``iimt-search status``."""

import time
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from typing import Any

import click
from rich.console import Console
from rich.live import Live
from rich.text import Text

from iimt_search import api
from iimt_search.cli.options import json_option, which_options
from iimt_search.cli.printing import print_json
from iimt_search.errors import UsageError
from iimt_search.records import shown_cost


def _counts(part: dict[str, Any], runs: bool) -> str:
    # Without a driver, a trial that the storage calls running waits for the next run.
    words = {"running": "running" if runs else "paused"}
    return ", ".join(f"{n} {words.get(state, state)}" for state, n in part["trials"].items() if n) or "none"


def _part_lines(part: dict[str, Any], runs: bool) -> Iterator[str]:
    budget = part["budget"]["trials"] or "open"
    yield f"{part['study']}: trials: {_counts(part, runs)} (budget {budget})"
    if best := part["best_trial"]:
        cost = "".join(f", {shown_cost(name, value)}" for name, value in best["cost"].items())
        yield f"  best so far: trial {best['trial']}, {part['objective']} {best['value']:.4f}{cost}"
    if choice := part["choice"]:
        yield from (f"  note: {caveat}" for caveat in choice["caveats"])
        yield f"  choice: {choice['answer']}, {part['objective']} {choice['score']:.4f}"
    elif not runs:
        yield "  no choice yet: continue with `iimt-search run` and the same space file"


def _text(content: dict[str, Any]) -> str:
    from iimt_search.study.storage.lock import Holder

    driver = Holder(**content["driver"]) if content["driver"] else None
    held = f"run by {driver}" if driver else "not running"
    lines = [line for part in content["parts"] for line in _part_lines(part, bool(driver))]
    return "\n".join([f"study {content['study']!r} in {content['place']}, {held}", *lines])


def _watch(seconds: float, where: dict[str, Any]) -> None:
    """Show where a study stands until nobody runs it; on a terminal in place, else line after line."""
    console = Console()
    with Live(console=console, auto_refresh=False) if console.is_terminal else nullcontext() as live:
        while True:
            content = api.status(**where)
            if live is None:
                click.echo(_text(content))
            else:
                live.update(Text(_text(content)), refresh=True)
            if content["driver"] is None:
                return
            time.sleep(seconds)


@click.command("status")
@click.option(
    "--watch",
    is_flag=False,
    flag_value=5.0,
    type=click.FloatRange(min=0.1),
    metavar="[SECONDS]",
    help="Look again every 5 (or SECONDS) seconds, until nobody runs the study.",
)
@which_options
@json_option
def command(watch: float | None, as_json: bool, **where: Any) -> None:
    """Show where a study stands; works while it runs."""
    if watch is not None and as_json:
        raise UsageError("--watch and --json exclude each other")
    if watch is not None:
        with suppress(KeyboardInterrupt):
            _watch(watch, where)
    elif as_json:
        print_json(api.status(**where))
    else:
        click.echo(_text(api.status(**where)))
