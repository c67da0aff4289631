"""``iimt-search rerun``."""

import re
from typing import Any

import click

from iimt_search import api
from iimt_search.cli.options import data_root_option, device_option, json_option, which_options
from iimt_search.cli.printing import Count, print_json, print_table


def _trial(_ctx: click.Context, _param: click.Parameter, value: str) -> int:
    named = re.fullmatch(r"(?:trial-)?(\d+)", value, re.ASCII)
    if named is None:
        raise click.BadParameter(f"must be a trial's number, as 3 or trial-3, got {value!r}")
    return int(named[1])


def _cell(value: float | str | None) -> str:
    return "–" if value is None else repr(value) if isinstance(value, float) else str(value)


@click.command("rerun")
@click.argument("trial", callback=_trial)
@which_options
@device_option
@data_root_option
@json_option
def command(trial: int, as_json: bool, **options: Any) -> None:
    """Train a trial again from its record, and say whether it came out the same; changes nothing.

    TRIAL is its number. The exit code is 0 either way.
    """
    reruns = api.rerun(trial, **options, progress=Count())
    if as_json:
        print_json([each.to_json() for each in reruns])
        return
    for each in reruns:
        how = f"in {each.arithmetic} by {each.threads} thread{'s' if each.threads > 1 else ''}"
        text = f"trial {each.trial} of {each.study!r}, trained to step {each.step} {how}"
        if each.same:
            click.echo(f"{text}: the same, {each.compared} values to the last digit")
            continue
        click.echo(f"{text}: {len(each.differences)} of {each.compared} values came out otherwise")
        rows = [(d.what, _cell(d.recorded), _cell(d.now)) for d in each.differences]
        print_table(["value", ">recorded", ">now"], rows)
