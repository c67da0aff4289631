"""Options that several verbs share."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

DEFAULT_ROOT = "studies"
_DEVICE = re.compile(r"auto|cpu|cuda(:\d+)?")


def complete_study(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """Return the studies whose name begins so, for a shell that completes."""
    root = Path(ctx.params.get("studies_dir") or DEFAULT_ROOT)
    return sorted(
        file.parent.name for file in root.glob("*/study.json") if file.parent.name.startswith(incomplete)
    )


_study_option = click.option(
    "--study", metavar="NAME", shell_complete=complete_study, help="Which study; by default the newest."
)
_studies_dir_option = click.option(
    "--studies-dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=DEFAULT_ROOT,
    show_default=True,
    help="Folder that holds the studies.",
)
_storage_option = click.option(
    "--storage",
    metavar="URL",
    help="Database URL; by default the study folder's study.db. Its password: $IIMT_STORAGE_PASSWORD.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def where_options(command: F) -> F:
    """Add the options that say where studies lie: keywords ``storage`` and ``studies_dir`` of the library."""
    return _storage_option(_studies_dir_option(command))


def which_options(command: F) -> F:
    """Add the options that say which study, and where: keywords ``study``, ``storage``, ``studies_dir``."""
    return _study_option(where_options(command))


data_root_option = click.option(
    "--data-root",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for downloaded data; by default $IIMT_DATA, else the user's cache folder.",
)


def _check_device(_ctx: click.Context, _param: click.Parameter, value: str) -> str:
    if not _DEVICE.fullmatch(value):
        raise click.BadParameter(f"must be auto, cpu, cuda or cuda:N, got {value!r}")
    return value


device_option = click.option(
    "--device", default="auto", show_default=True, callback=_check_device, help="auto, cpu, cuda, cuda:N."
)

# What messages name in backticks (see iimt_search.errors) → its option here.
_ARGUMENTS = """
backend baseline data_fraction device export objective population ray_address ray_storage seed steps
storage studies_dir study timeout track trials validator workers
"""
_OPTIONS = {name: f"--{name.replace('_', '-')}" for name in _ARGUMENTS.split()} | {
    "resources.cpus": "--cpus-per-trial",
    "resources.gpus": "--gpus-per-trial",
    "resources.memory": "--memory-per-trial",
    "resources.custom": "--resource",
}


def by_options(text: str) -> str:
    """Return a message of the library with options in the place of the arguments that it names.

    Example:
        >>> by_options("give that `storage`, or another `study=NAME`; `workers >= 0` must hold")
        'give that --storage, or another --study NAME; `workers >= 0` must hold'
    """

    def option(named: re.Match[str]) -> str:
        known = _OPTIONS.get(named[1])
        return named[0] if known is None else known + named[2].replace("=", " ", 1)

    return re.sub(r"`([a-z_.]+)((?:=[^`\n]*)?)`", option, text)
