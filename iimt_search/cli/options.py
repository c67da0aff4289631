"""Options that several verbs share."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

DEFAULT_ROOT = "studies"


def study_option(command: F) -> F:
    """Add ``--study``."""
    return click.option("--study", metavar="NAME", help="Which study; by default the newest.")(command)


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


def storage_option(command: F) -> F:
    """Add ``--storage``."""
    return click.option(
        "--storage", metavar="URL", help="Database URL; by default the study folder's study.db."
    )(command)


def json_option(command: F) -> F:
    """Add ``--json``."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


def print_json(content: Any) -> None:
    """Print a value as indented JSON."""
    click.echo(json.dumps(content, indent=2, ensure_ascii=False))
