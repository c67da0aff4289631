"""The executor that a run asks for: processes on this machine, or Ray Tune."""

import ast
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from iimt_search.cores import usable_cores
from iimt_search.errors import UsageError
from iimt_search.space import Space
from iimt_search.space.schema import Resources

if TYPE_CHECKING:
    from iimt_search.study.executors.base import Executor


def _guarded(source: str, line: int) -> bool:
    """Return whether a line stands within a top-level ``if`` that looks at ``__name__``."""
    for node in ast.parse(source).body:
        if isinstance(node, ast.If) and node.lineno <= line <= (node.end_lineno or node.lineno):
            return any(isinstance(part, ast.Name) and part.id == "__name__" for part in ast.walk(node.test))
    return False


def _script_frame(frame: FrameType | None) -> FrameType | None:
    """Return the frame of the main script's top level among the callers, if there is one."""
    main = vars(sys.modules["__main__"])
    while frame is not None:
        if frame.f_globals is main and frame.f_code.co_name == "<module>":
            return frame
        frame = frame.f_back
    return None


def check_script_guard(caller: FrameType | None) -> None:
    """Check that worker processes may import the main script again without running it.

    A notebook and an interactive session have no script, and need no guard.

    Args:
        caller: the frame from which workers are to be started.

    Raises:
        UsageError: the main script starts workers at its top level.
    """
    frame = _script_frame(caller)
    path = None if frame is None else frame.f_globals.get("__file__")
    if frame is None or path is None:
        return
    spec = frame.f_globals.get("__spec__")
    if spec is not None and spec.name.rpartition(".")[2] == "__main__":
        return  # a package run by python -m, whose __main__ is not imported again
    try:
        with open(path, encoding="utf-8") as file:
            guarded = _guarded(file.read(), frame.f_lineno)
    except (OSError, SyntaxError, UnicodeDecodeError):
        return  # spawn cannot import it either
    if not guarded:
        raise UsageError(
            f"{path}:{frame.f_lineno}: worker processes import this script again, and would run it again; "
            f'put the call under `if __name__ == "__main__":`, or give workers=0'
        )


_MAX_WORKERS = 8


@dataclass(frozen=True)
class Backend:
    """Where and how trials run; see :func:`iimt_search.run` for the attributes."""

    name: str = "local"
    device: str = "auto"
    workers: int | None = None
    population: int = 1
    ray_address: str | None = None
    ray_storage: str | None = None
    resources: Mapping[str, Any] | None = None
    debug: bool = False


@dataclass(frozen=True)
class ExecutorChoice:
    """The executor that a backend stands for; nothing is started yet.

    Attributes:
        start: makes the executor; called once the study is open.
        text: on what it runs, for people.
        spawns: whether it starts processes that import the main script again.
    """

    start: "Callable[[], Executor]"
    text: str
    spawns: bool


def default_workers(cores: int) -> int:
    """Return one worker a core, at most 8: small networks gain more by trials than by threads."""
    return max(1, min(cores, _MAX_WORKERS))


def trial_resources(space: Space, given: Mapping[str, Any]) -> Resources:
    """Return the space file's resources of a trial, with the given ones of the same keys in their places.

    Given ``custom`` ones join those of the file.

    Raises:
        UsageError: a value is out of range; names it.
    """
    custom = {**space.resources.custom, **(given.get("custom") or {})}
    try:
        return Resources.model_validate({**space.resources.model_dump(), **given, "custom": custom})
    except ValidationError as error:
        first = error.errors()[0]
        place, reason = first["loc"], first["msg"].removeprefix("Value error, ")
        value = f"={first['input']}" if len(place) == 1 else ""
        named = f"`resources.{place[0]}{value}`" if place else "resources"
        raise UsageError(f"{named}: {reason}") from error


def choose_executor(
    space: Space, folder: Path, backend: Backend, line: Callable[[str], None]
) -> ExecutorChoice:
    """Return the executor that a backend stands for; ``line`` takes a line of text for the user.

    Raises:
        UsageError: the arguments contradict each other, or the space; or the device is not here.
    """
    if backend.name == "ray":
        return _ray(space, folder, backend, line)
    if backend.name != "local":
        raise UsageError(f"`backend` must be local or ray, got {backend.name!r}")
    ray_only = {"ray_address": backend.ray_address, "ray_storage": backend.ray_storage}
    ray_only |= {f"resources.{name}": value for name, value in (backend.resources or {}).items()}
    for name, value in ray_only.items():
        if value is not None:
            raise UsageError(f"`{name}` goes with `backend=ray`")
    return _local(space, backend)


def _local(space: Space, backend: Backend) -> ExecutorChoice:
    from iimt_search.models.device import local_gpus, resolve_device
    from iimt_search.study.executors.inline import InlineExecutor
    from iimt_search.study.executors.local import LocalExecutor

    space.pruning.check_without_ray()
    resolve_device(backend.device)  # an error of it is raised once, before anything is begun
    cores, population = usable_cores(), backend.population
    if population < 1:
        raise UsageError(f"`population >= 1` must hold, got {population}")
    # A population is there to fill the device that several workers would have to share.
    gpus = local_gpus() if backend.device in ("auto", "cuda") else []
    default = max(default_workers(cores) if population == 1 else 1, len(gpus))
    count = default if backend.workers is None else backend.workers
    if count < 0:
        raise UsageError(f"`workers >= 0` must hold, got {count}")
    text = f"{count} workers on {cores} cores" + (f", {population} trials in each" if population > 1 else "")
    text += f", {len(gpus)} GPUs" if len(gpus) > 1 else ""
    if count == 0:
        return ExecutorChoice(partial(InlineExecutor, backend.debug, population), text, False)
    threads = max(1, cores // count)
    return ExecutorChoice(partial(LocalExecutor, count, threads, backend.debug, population, gpus), text, True)


def _ray(space: Space, folder: Path, backend: Backend, line: Callable[[str], None]) -> ExecutorChoice:
    if backend.population > 1:
        raise UsageError("`population` goes with `backend=local`; with Ray, several trials share a GPU")
    if backend.workers == 0:
        raise UsageError("`workers=0` runs trials within this process; leave `backend=ray` out")
    resources = trial_resources(space, backend.resources or {})
    if backend.device.startswith("cuda") and resources.gpus == 0:
        raise UsageError(
            f"`device={backend.device}` with `backend=ray` takes `resources.gpus`, such as 1 or 0.25"
        )

    def start() -> "Executor":
        from iimt_search.study.executors.ray.executor import RayExecutor, RayOptions

        options = RayOptions(
            folder=folder,
            resources=resources,
            address=backend.ray_address,
            storage=backend.ray_storage,
            workers=backend.workers,
            cores=usable_cores(),
            debug=backend.debug,
            space=space,
        )
        return RayExecutor(options, line)

    where = backend.ray_address or f"{usable_cores()} cores"
    return ExecutorChoice(start, f"Ray on {where}, {resources} a trial", False)
