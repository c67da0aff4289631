"""The options of ``run`` that say where trials run, and the executor that they ask for."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from pydantic import ValidationError

from iimt_search.api import local_executor, usable_cores
from iimt_search.errors import UsageError
from iimt_search.space import Space
from iimt_search.space.schema import Resources

if TYPE_CHECKING:
    from iimt_search.study.executors.base import Executor

F = TypeVar("F", bound=Callable[..., Any])
_RAY_ONLY = {
    "ray_address": "--ray-address",
    "ray_storage": "--ray-storage",
    "cpus_per_trial": "--cpus-per-trial",
    "gpus_per_trial": "--gpus-per-trial",
    "memory_per_trial": "--memory-per-trial",
    "custom_resources": "--resource",
}


def executor_options(command: F) -> F:
    """Add the options that :class:`ExecutorChoice` is made of."""
    for option in reversed(
        [
            click.option(
                "--backend",
                type=click.Choice(["local", "ray"]),
                default="local",
                show_default=True,
                help="Processes on this machine, or Ray Tune.",
            ),
            click.option(
                "--workers",
                type=click.IntRange(min=0),
                help="Trials at once; 0: within this process. With Ray: at most so many.",
            ),
            click.option(
                "--population",
                type=click.IntRange(min=1),
                default=1,
                show_default=True,
                help="Trials that each worker trains as one batched computation, to fill a GPU.",
            ),
            click.option(
                "--ray-address",
                metavar="ADDRESS",
                help="Ray cluster: auto or HOST:PORT; by default this machine.",
            ),
            click.option(
                "--ray-storage",
                metavar="PATH-OR-URI",
                help="Where nodes without a shared disk exchange files: a mounted path, s3://…, gs://….",
            ),
            click.option("--cpus-per-trial", type=float, help="Ray: processors, and threads, of each trial."),
            click.option("--gpus-per-trial", type=float, help="Ray: GPUs of each trial; 0.25: four on each."),
            click.option("--memory-per-trial", metavar="SIZE", help="Ray: memory of each trial, as 2GB."),
            click.option(
                "--resource",
                "custom_resources",
                metavar="NAME=AMOUNT",
                multiple=True,
                help="Ray: custom resource of each trial; may be given again.",
            ),
        ]
    ):
        command = option(command)
    return command


@dataclass(frozen=True)
class ExecutorChoice:
    """What the options ask for.

    Attributes:
        start: makes the executor; called once the study is open.
        text: on what it runs, for people.
    """

    start: Callable[[], "Executor"]
    text: str


def _custom(given: tuple[str, ...]) -> dict[str, float]:
    found = {}
    for each in given:
        match = re.fullmatch(r"([^=\s]+)=([\d.]+)", each)
        if match is None:
            raise UsageError(f"--resource must be NAME=AMOUNT, such as bigdisk=1; got {each!r}")
        found[match[1]] = float(match[2])
    return found


def trial_resources(space: Space, options: Mapping[str, Any]) -> Resources:
    """Return the space file's resources of a trial with the command line's in their places.

    Raises:
        UsageError: a value is out of range; names the option.
    """
    content = space.resources.model_dump()
    for name in ("cpus", "gpus", "memory"):
        if options[f"{name}_per_trial"] is not None:
            content[name] = options[f"{name}_per_trial"]
    content["custom"] |= _custom(options["custom_resources"])
    try:
        return Resources.model_validate(content)
    except ValidationError as error:
        found = error.errors()[0]
        where = str(found["loc"][0]) if found["loc"] else ""
        option = (
            f"--{where}-per-trial {found['input']}" if where in ("cpus", "gpus", "memory") else "--resource"
        )
        reason = found["msg"].removeprefix("Value error, ")
        raise UsageError(f"{option if where else 'resources'}: {reason}") from error


def choose_executor(
    space: Space,
    folder: Path,
    options: Mapping[str, Any],
    device: str,
    line: Callable[[str], None],
    debug: bool,
) -> ExecutorChoice:
    """Return the executor that the options ask for; nothing is started yet.

    Args:
        space: with the resources of a trial and the pruner.
        folder: the study's.
        options: the values of :func:`executor_options` by name.
        device: where jobs train.
        line: takes a line of text for the user.
        debug: failed trials tell their traceback.

    Raises:
        UsageError: the options contradict each other, or the space file.
    """
    if options["backend"] == "ray":
        return _ray(space, folder, options, device, line, debug)
    for name, option in _RAY_ONLY.items():
        if options[name] not in (None, ()):
            raise UsageError(f"{option} goes with --backend ray")
    population = options["population"]
    start, count = local_executor(space, device, options["workers"], population, debug)
    each = f", {population} trials in each" if population > 1 else ""
    return ExecutorChoice(start, f"{count} workers on {usable_cores()} cores{each}")


def _ray(
    space: Space,
    folder: Path,
    options: Mapping[str, Any],
    device: str,
    line: Callable[[str], None],
    debug: bool,
) -> ExecutorChoice:
    if options["population"] > 1:
        raise UsageError("--population goes with --backend local; with Ray, several trials share a GPU")
    if options["workers"] == 0:
        raise UsageError("--workers 0 runs trials within this process; leave --backend ray out")
    resources = trial_resources(space, options)
    if device.startswith("cuda") and resources.gpus == 0:
        raise UsageError(f"--device {device} with --backend ray takes --gpus-per-trial, such as 1 or 0.25")
    from iimt_search.study.executors.ray.executor import RayOptions

    ray_options = RayOptions(
        folder=folder,
        resources=resources,
        address=options["ray_address"],
        storage=options["ray_storage"],
        workers=options["workers"],
        cores=usable_cores(),
        debug=debug,
        space=space,
    )

    def start() -> "Executor":
        from iimt_search.study.executors.ray.executor import RayExecutor

        return RayExecutor(ray_options, line)

    where = options["ray_address"] or f"{usable_cores()} cores"
    return ExecutorChoice(start, f"Ray on {where}, {resources} a trial")
