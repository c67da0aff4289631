"""Options that several verbs share."""

import json
import math
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from rich import box
from rich.table import Table

F = TypeVar("F", bound=Callable[..., Any])

DEFAULT_ROOT = "studies"
_DEVICE = re.compile(r"auto|cpu|cuda(:\d+)?")


def complete_study(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """Return the studies whose name begins so, for a shell that completes."""
    root = Path(ctx.params.get("root") or DEFAULT_ROOT)
    return sorted(
        file.parent.name for file in root.glob("*/study.json") if file.parent.name.startswith(incomplete)
    )


def study_option(command: F) -> F:
    """Add ``--study``."""
    return click.option(
        "--study",
        metavar="NAME",
        shell_complete=complete_study,
        help="Which study; by default the newest.",
    )(command)


def root_option(command: F) -> F:
    """Add ``--studies-dir``."""
    return click.option(
        "--studies-dir",
        "root",
        type=click.Path(path_type=Path, file_okay=False),
        default=DEFAULT_ROOT,
        show_default=True,
        help="Folder that holds the studies.",
    )(command)


def _set_data_root(_ctx: click.Context, _param: click.Parameter, value: Path | None) -> Path | None:
    if value is not None:
        os.environ["IIMT_DATA"] = str(value.absolute())  # worker processes inherit it
    return value


def data_root_option(command: F) -> F:
    """Add ``--data-root``."""
    return click.option(
        "--data-root",
        type=click.Path(path_type=Path, file_okay=False),
        callback=_set_data_root,
        help="Folder for downloaded data; by default $IIMT_DATA, else the user's cache folder.",
    )(command)


def _check_device(_ctx: click.Context, _param: click.Parameter, value: str) -> str:
    if not _DEVICE.fullmatch(value):
        raise click.BadParameter(f"must be auto, cpu, cuda or cuda:N, got {value!r}")
    return value


def device_option(command: F) -> F:
    """Add ``--device``."""
    return click.option(
        "--device", default="auto", show_default=True, callback=_check_device, help="auto, cpu, cuda, cuda:N."
    )(command)


def storage_option(command: F) -> F:
    """Add ``--storage``."""
    return click.option(
        "--storage",
        metavar="URL",
        help="Database URL; by default the study folder's study.db. Its password: $IIMT_STORAGE_PASSWORD.",
    )(command)


def json_option(command: F) -> F:
    """Add ``--json``."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


def narrow_table(*, title: str | None = None) -> Table:
    """Return a table whose columns lie as close as can be read."""
    return Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), title=title, title_justify="left")


def _strict(content: Any) -> Any:
    """Return JSON values with null in place of NaN and infinity, which JSON does not have."""
    if isinstance(content, dict):
        return {key: _strict(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_strict(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


def print_json(content: Any) -> None:
    """Print a value as indented JSON."""
    click.echo(json.dumps(_strict(content), indent=2, ensure_ascii=False, allow_nan=False))


def show_count(what: str, done: int, of: int) -> None:
    """Show how many of how many are done, on one line that is written over, on a terminal only."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{what} {done}/{of}" + ("\r\x1b[K" if done == of else ""))
        sys.stderr.flush()
