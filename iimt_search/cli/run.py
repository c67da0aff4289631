"""``iimt-search run``."""

import shlex
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import click
from click.core import ParameterSource
from pydantic import ValidationError

from iimt_search.api import known_names, overridden
from iimt_search.cli.executors import choose_executor, executor_options
from iimt_search.cli.options import (
    data_root_option,
    device_option,
    json_option,
    root_option,
    storage_option,
)
from iimt_search.cli.progress import PlainProgress, duration, make_progress
from iimt_search.errors import StudyInterruptedError, UsageError
from iimt_search.space import Space, load_space


def _with_overrides(
    space: Space, study: str | None, seed: int | None, budget: dict[str, Any], reduced: dict[str, Any]
) -> Space:
    try:
        return overridden(space, study=study, seed=seed, **budget, **reduced)
    except ValidationError as error:
        found = error.errors()[0]
        option = str(found["loc"][-1])
        raise UsageError(f"--{option} {found['input']}: {found['msg']}") from error


@contextmanager
def _stopped_by_signals(say: Callable[[str], None]) -> Iterator[threading.Event]:
    """Turn the first Ctrl-C or SIGTERM into a set event; a second Ctrl-C interrupts at once."""
    stop = threading.Event()

    def handle(_signum: int, _frame: FrameType | None) -> None:
        say("stopping…")
        stop.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    previous = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
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
        for each in value if isinstance(value, tuple) else (value,):
            words.append(option.opts[0])
            if not isinstance(each, bool):
                words.append(str(each))
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
@executor_options
@click.option("--seed", type=click.IntRange(min=0), help="Seed of everything.")
@click.option("--study", metavar="NAME", help="Study name; by default the space file's.")
@storage_option
@device_option
@data_root_option
@root_option
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    /,
    path: Path,
    trials: int | None,
    timeout: str | None,
    steps: int | None,
    data_fraction: float | None,
    seed: int | None,
    study: str | None,
    storage: str | None,
    device: str,
    data_root: Path | None,
    root: Path,
    as_json: bool,
    **executor_choice: Any,
) -> None:
    """Search, confirm and retrain, as a space file says; run it again to continue."""
    space = _with_overrides(
        load_space(path, known_names()),
        study,
        seed,
        {"trials": trials, "timeout": timeout},
        {"steps": steps, "data_fraction": data_fraction},
    )

    # Optuna takes most of a second to import; a wrong space file is answered before that.
    from iimt_search.cli.best import print_choices
    from iimt_search.dashboard.publish import publish_after_run
    from iimt_search.study.folder import StudyFolder
    from iimt_search.study.open import open_study
    from iimt_search.study.run import RunOptions, run_study
    from iimt_search.study.search.sampling import quiet_optuna

    quiet_optuna()
    folder = StudyFolder(root / space.study)
    progress = PlainProgress(to_stderr=True) if as_json else make_progress()
    debug = bool(ctx.find_root().params.get("debug"))
    executor = choose_executor(
        space, folder.path, executor_choice, device=device, line=progress.line, debug=debug
    )
    began = time.monotonic()
    progress.line(f"study {space.study!r} in {folder.path}/, {executor.text}")
    options = RunOptions(folder.choose_storage(storage), device)
    try:
        with progress, _stopped_by_signals(progress.line) as stop:
            choices = run_study(space, folder, options, executor.start, progress, stop)
    except StudyInterruptedError as error:
        raise StudyInterruptedError(f"{error}. Continue with: {_same_command(ctx)}") from error
    progress.line(f"done in {duration(time.monotonic() - began)}")
    progress.line(publish_after_run(open_study(root, space.study, storage)))
    print_choices(choices, as_json=as_json, next_commands=True)
