"""``iimt-search status``."""

from pathlib import Path
from typing import Any

import click
import optuna
from optuna.trial import TrialState

from iimt_search.cli.options import json_option, print_json, root_option, storage_option, study_option
from iimt_search.study.choice import read_choice
from iimt_search.study.open import OpenStudy, open_study

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
        else {"trial": best.number, "value": best.value, "params": best.params},
        "choice": None
        if choice is None
        else {"answer": choice.title, "score": choice.score, "flags": list(choice.flags)},
    }


@click.command("status")
@study_option
@storage_option
@root_option
@json_option
def command(study: str | None, storage: str | None, root: Path, as_json: bool) -> None:
    """Show where a study stands; works while it runs."""
    opened = open_study(root, study, storage)
    driver = opened.folder.driver()
    found = [study_status(opened, each) for each in opened.studies]
    if as_json:
        print_json({"study": opened.folder.name, "driver": driver, "parts": found})
        return
    held = f"run by process {driver['pid']} on {driver['host']}" if driver else "not running"
    click.echo(f"study {opened.folder.name!r} in {opened.folder.path}/, {held}")
    for part in found:
        # Without a driver, a trial that the storage calls running waits for the next run.
        words = {"running": "running" if driver else "paused"}
        counts = (
            ", ".join(f"{n} {words.get(state, state)}" for state, n in part["trials"].items() if n) or "none"
        )
        click.echo(f"{part['study']}: trials: {counts} (budget {part['budget']['trials'] or 'open'})")
        if part["best_trial"]:
            best = part["best_trial"]
            click.echo(f"  best so far: trial {best['trial']}, {part['objective']} {best['value']:.4f}")
        if part["choice"]:
            for flag in part["choice"]["flags"]:
                click.echo(f"  note: {flag}")
            click.echo(
                f"  choice: {part['choice']['answer']}, {part['objective']} {part['choice']['score']:.4f}"
            )
        else:
            click.echo(
                "  no choice yet: continue with `iimt-search run` and the same space file" * (not driver)
            )
