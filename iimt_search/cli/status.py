"""``iimt-search status``."""

import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import Any

import click
import optuna
from optuna.trial import TrialState
from rich.console import Console
from rich.live import Live
from rich.text import Text

from iimt_search.cli.options import json_option, print_json, root_option, storage_option, study_option
from iimt_search.errors import UsageError
from iimt_search.study.open import OpenStudy, open_study
from iimt_search.study.search.forks import configuration
from iimt_search.study.selection.choice import read_choice
from iimt_search.study.storage.lock import Holder

_STATES = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL, TrialState.RUNNING)


def study_status(opened: OpenStudy, study: optuna.Study) -> dict[str, Any]:
    """Return where one of its Optuna studies stands, in a time that does not depend on its trials."""
    known = opened.count_trials(study)
    counts = {state.name.lower(): known.get(state, 0) for state in _STATES}
    best = opened.best_trial(study)
    choice = read_choice(study)
    return {
        "study": study.study_name,
        "objective": study.user_attrs["space"]["objective"],
        "trials": counts,
        "budget": study.user_attrs["space"]["budget"],
        "best_trial": None
        if best is None
        else {"trial": best.number, "value": best.value, "params": configuration(best)},
        "choice": None
        if choice is None
        else {"answer": choice.title, "score": choice.score, "caveats": list(choice.caveats)},
    }


def _counts(part: dict[str, Any], driver: Holder | None) -> str:
    # Without a driver, a trial that the storage calls running waits for the next run.
    words = {"running": "running" if driver else "paused"}
    return ", ".join(f"{n} {words.get(state, state)}" for state, n in part["trials"].items() if n) or "none"


def _part_lines(part: dict[str, Any], driver: Holder | None) -> Iterator[str]:
    budget = part["budget"]["trials"] or "open"
    yield f"{part['study']}: trials: {_counts(part, driver)} (budget {budget})"
    if best := part["best_trial"]:
        yield f"  best so far: trial {best['trial']}, {part['objective']} {best['value']:.4f}"
    if choice := part["choice"]:
        yield from (f"  note: {caveat}" for caveat in choice["caveats"])
        yield f"  choice: {choice['answer']}, {part['objective']} {choice['score']:.4f}"
    elif not driver:
        yield "  no choice yet: continue with `iimt-search run` and the same space file"


def _look(study: str | None, storage: str | None, root: Path) -> tuple[list[str], dict[str, Any]]:
    """Return where a study stands, as lines and as JSON values."""
    opened = open_study(root, study, storage)
    driver = opened.driver()
    found = [study_status(opened, each) for each in opened.studies]
    held = f"run by {driver}" if driver else "not running"
    lines = [f"study {opened.folder.name!r} in {opened.place}, {held}"]
    lines += [line for part in found for line in _part_lines(part, driver)]
    return lines, {"study": opened.folder.name, "driver": driver and driver.to_json(), "parts": found}


def _watch(seconds: float, look: Callable[[], tuple[list[str], dict[str, Any]]]) -> None:
    """Show where a study stands until nobody runs it; on a terminal in place, else line after line."""
    console = Console()
    with Live(console=console, auto_refresh=False) if console.is_terminal else nullcontext() as live:
        while True:
            lines, content = look()
            if live is None:
                click.echo("\n".join(lines))
            else:
                live.update(Text("\n".join(lines)), refresh=True)
            if content["driver"] is None:
                return
            time.sleep(seconds)


@click.command("status")
@study_option
@click.option(
    "--watch",
    is_flag=False,
    flag_value=5.0,
    type=click.FloatRange(min=0.1),
    metavar="[SECONDS]",
    help="Look again every 5 (or SECONDS) seconds, until nobody runs the study.",
)
@storage_option
@root_option
@json_option
def command(study: str | None, watch: float | None, storage: str | None, root: Path, as_json: bool) -> None:
    """Show where a study stands; works while it runs."""
    if watch is not None:
        if as_json:
            raise UsageError("--watch and --json exclude each other")
        with suppress(KeyboardInterrupt):
            _watch(watch, partial(_look, study, storage, root))
        return
    lines, content = _look(study, storage, root)
    if as_json:
        print_json(content)
    else:
        click.echo("\n".join(lines))
