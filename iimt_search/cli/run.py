"""``iimt-search run``."""

import os
import re
import shlex
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

import click
from click.core import ParameterSource

from iimt_search.api import load_space, run
from iimt_search.cli.options import data_root_option, device_option, json_option, where_options
from iimt_search.cli.progress import PlainProgress, duration, make_progress
from iimt_search.errors import StudyInterruptedError, UsageError
from iimt_search.plain_text import without_passwords


def _custom(given: tuple[str, ...]) -> dict[str, float]:
    resources = {}
    for text in given:
        match = re.fullmatch(r"([^=\s]+)=([\d.]+)", text)
        if match is None:
            raise UsageError(f"--resource must be NAME=AMOUNT, such as bigdisk=1; got {text!r}")
        resources[match[1]] = float(match[2])
    return resources


# By these a system ends what it runs: the end that was asked for is no failure.
_ASKED_TO_END = {"SIGTERM", "SIGHUP"}


def _let_go_of_terminal() -> None:
    """Write no more to a terminal that is closed: every line would fail."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for number in (1, 2):
        if os.isatty(number):
            os.dup2(nowhere, number)
    os.close(nowhere)


@contextmanager
def _stopped_by_signals(say: Callable[[str], None], came: list[str]) -> Iterator[threading.Event]:
    """Turn the first Ctrl-C, SIGTERM or SIGHUP into a set event; a second Ctrl-C interrupts at once.

    Args:
        say: takes a line of text.
        came: is told the signals that have come.
    """
    stop = threading.Event()

    def handle(signum: int, _frame: FrameType | None) -> None:
        came.append(signal.Signals(signum).name)
        if came[-1] == "SIGHUP":
            _let_go_of_terminal()
        stop.set()
        with suppress(RuntimeError):  # it came in the midst of another line
            say("stopping…")
        signal.signal(signal.SIGINT, signal.default_int_handler)

    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    numbers = [getattr(signal, name) for name in ("SIGINT", *_ASKED_TO_END) if hasattr(signal, name)]
    # A hangup that nohup has told to be ignored stays so.
    ignored = {getattr(signal, "SIGHUP", None)}
    kept = [n for n in numbers if n not in ignored or signal.getsignal(n) is not signal.SIG_IGN]
    previous = {number: signal.signal(number, handle) for number in kept}
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _same_command(ctx: click.Context) -> str:
    """Return the command line that continues this run: the options that were given, ready to paste."""
    words = ["iimt-search", "run"]
    for option in ctx.command.params:
        if option.name is None or ctx.get_parameter_source(option.name) is not ParameterSource.COMMANDLINE:
            continue
        value = ctx.params[option.name]
        if option.name == "storage":
            from iimt_search.study.storage.database import hide_password

            value = hide_password(str(value))
        for one in value if isinstance(value, tuple) else (value,):
            given = [] if isinstance(one, bool) else [without_passwords(str(one))]
            words += [option.opts[0], *given]
    return shlex.join(words)


@click.command("run")
@click.option("--space", "path", type=click.Path(path_type=Path), required=True, help="Space file (YAML).")
@click.option("--trials", type=click.IntRange(min=1), help="Budget: finished trials.")
@click.option("--timeout", metavar="TIME", help="Budget: wall time of the search, as 90s, 30m or 8h.")
@click.option("--steps", type=click.IntRange(min=1), help="Reduced size: training steps, retraining too.")
@click.option(
    "--data-fraction",
    "--share",  # its old name
    "data_fraction",
    type=click.FloatRange(0, 1, min_open=True),
    help="Reduced size: share of every task's samples.",
)
@click.option(
    "--backend",
    type=click.Choice(["local", "ray"]),
    default="local",
    show_default=True,
    help="Processes on this machine, or Ray Tune.",
)
@click.option(
    "--workers",
    type=click.IntRange(min=0),
    help="Trials at once; 0: within this process. With Ray: at most so many.",
)
@click.option(
    "--population",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Trials that each worker trains as one batched computation, to fill a GPU.",
)
@click.option(
    "--ray-address", metavar="ADDRESS", help="Ray cluster: auto or HOST:PORT; by default this machine."
)
@click.option(
    "--ray-storage",
    metavar="PATH-OR-URI",
    help="Where nodes without a shared disk exchange files: a mounted path, s3://…, gs://….",
)
@click.option("--cpus-per-trial", "cpus", type=float, help="Ray: processors, and threads, of each trial.")
@click.option("--gpus-per-trial", "gpus", type=float, help="Ray: GPUs of each trial; 0.25: four on each.")
@click.option("--memory-per-trial", "memory", metavar="SIZE", help="Ray: memory of each trial, as 2GB.")
@click.option(
    "--resource",
    "custom",
    metavar="NAME=AMOUNT",
    multiple=True,
    help="Ray: custom resource of each trial; may be given again.",
)
@click.option(
    "--track",
    type=click.Choice(["mlflow", "tensorboard", "wandb"]),
    multiple=True,
    help="Bring the study to this tracker too; may be given again. By default as the space file says.",
)
@click.option("--seed", type=click.IntRange(min=0), help="Seed of everything.")
@click.option("--study", metavar="NAME", help="Study name; by default the space file's.")
@where_options
@device_option
@data_root_option
@json_option
@click.pass_context
def command(
    ctx: click.Context, /, path: Path, custom: tuple[str, ...], as_json: bool, **options: Any
) -> None:
    """Search, confirm and retrain, as a space file says; run it again to continue."""
    overrides = ("study", "seed", "trials", "timeout", "steps", "data_fraction", "track")
    options["track"] = options["track"] or None
    space = load_space(path, **{name: options.pop(name) for name in overrides})
    resources = {name: options.pop(name) for name in ("cpus", "gpus", "memory")}
    resources["custom"] = _custom(custom) or None
    progress = PlainProgress(to_stderr=True) if as_json else make_progress()
    began, came = time.monotonic(), list[str]()
    try:
        with progress, _stopped_by_signals(progress.line, came) as stop:
            choices = run(
                space,
                resources={name: value for name, value in resources.items() if value is not None},
                debug=bool(ctx.find_root().params.get("debug")),
                progress=progress,
                stop=stop,
                **options,
            )
    except StudyInterruptedError as error:
        told = f"{error}. Continue with: {_same_command(ctx)}"
        if not _ASKED_TO_END.intersection(came):
            raise StudyInterruptedError(told) from error
        click.echo(told, err=True)
        return
    progress.line(f"done in {duration(time.monotonic() - began)}")

    from iimt_search.cli.best import print_choices

    print_choices(choices, as_json=as_json, next_commands=True)
