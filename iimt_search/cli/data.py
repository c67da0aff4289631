"""``iimt-search data``: what a space file's tasks are made of, before anything is trained."""

import os
import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click
from pydantic import ValidationError
from rich import box
from rich.console import Console
from rich.table import Table

from iimt_search.api import load_space
from iimt_search.cli.options import data_root_option, json_option, print_json
from iimt_search.data.registry import DOMAINS
from iimt_search.data.store import data_root, prepared_root, prepared_sizes
from iimt_search.errors import UsageError
from iimt_search.settings import TrainSettings
from iimt_search.space.load import nearest
from iimt_search.space.task_spec import DomainSpec, TaskSpec

if TYPE_CHECKING:
    from iimt_search.data.task import Domain, DomainTask
    from iimt_search.inspect.check import PartSummary, TaskCheck

_MOST_CHANNELS = 3
_MOST_CLASSES = 20

_space_option = click.option(
    "--space", "path", type=click.Path(path_type=Path), help="Space file (YAML), for its tasks."
)


def _task(text: str) -> TaskSpec:
    try:
        spec = TaskSpec.model_validate(text)
    except ValidationError as error:
        raise click.BadParameter(error.errors()[0]["msg"].removeprefix("Value error, ")) from error
    for domain in (*spec.source, spec.target):
        if domain.named not in DOMAINS:
            raise click.BadParameter(
                f"unknown domain {domain.named!r}; {nearest(str(domain.named), DOMAINS)}"
            )
    return spec


def _parse_tasks(
    _ctx: click.Context, _param: click.Parameter, value: tuple[str, ...] | str | None
) -> tuple[TaskSpec, ...]:
    texts = (value,) if isinstance(value, str) else value or ()
    return tuple(_task(text) for text in texts)


class _Wanted(NamedTuple):
    """The tasks that are asked for, and the settings that their data depends on."""

    tasks: tuple[TaskSpec, ...]
    settings: TrainSettings
    batch_size: int


def _wanted(path: Path | None, tasks: tuple[TaskSpec, ...]) -> _Wanted:
    if (path is None) == (not tasks):
        raise UsageError("give either --space FILE or a task such as 'digits->digits-m'")
    if path is None:
        settings = TrainSettings()
        return _Wanted(tasks, settings, settings.batch_size)
    space = load_space(path)
    return _Wanted(space.tasks, space.train, space.largest_batch)


def _busy(text: str) -> AbstractContextManager[object]:
    """Show on a terminal what is being done, while it is."""
    return Console(stderr=True).status(text)


@click.group("data")
@data_root_option
def command(data_root: Path | None) -> None:
    """Look at, prepare and check the data of tasks, before anything is trained."""
    if data_root is not None:
        os.environ["IIMT_DATA"] = str(data_root.absolute())


@command.command("list")
@json_option
def list_(as_json: bool) -> None:
    """Show the domains that have a name, and where data is kept."""
    rows: list[dict[str, Any]] = [
        {
            "name": name,
            "what": entry.what,
            "size": entry.size,
            "downloaded": entry.download,
            "prepared": prepared_sizes(name, entry.version),
        }
        for name, entry in DOMAINS.items()
    ]
    if as_json:
        print_json({"domains": rows, "data_root": str(data_root()), "prepared_root": str(prepared_root())})
        return
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("domain", no_wrap=True)
    table.add_column("what")
    table.add_column("pixels", justify="right")
    table.add_column("origin")
    table.add_column("prepared")
    for row in rows:
        kept = ", ".join(f"{size} px" if size else "yes" for size in row["prepared"]) or "no"
        origin = "downloaded" if row["downloaded"] else "made here"
        table.add_row(row["name"], row["what"], str(row["size"] or "–"), origin, kept)
    Console().print(table)
    click.echo(f"downloads, and what is placed by hand: {data_root()}  (IIMT_DATA)")
    click.echo(f"prepared domains: {prepared_root()}  (IIMT_CACHE)")


def _to_prepare(path: Path | None, names: tuple[str, ...], size: int | None) -> list[tuple[DomainSpec, int]]:
    """Return each domain once, with the size that it is wanted in."""
    from iimt_search.data.assemble import task_image_size

    if (path is None) == (not names):
        raise UsageError("give either --space FILE or names of domains; `iimt-search data list` has them")
    if path is not None:
        if size is not None:
            raise UsageError("--size goes with names; with --space, train.image_size says the size")
        space = load_space(path)
        wanted = [
            (domain, task_image_size(task, space.train.image_size))
            for task in space.tasks
            for domain in (*task.source, task.target)
        ]
        return list(dict.fromkeys(wanted))
    for name in names:
        if name not in DOMAINS:
            raise UsageError(f"unknown domain {name!r}; {nearest(name, DOMAINS)}")
    # What has no images has no size to choose.
    sizes = {name: (size or DOMAINS[name].size) if DOMAINS[name].size else 0 for name in names}
    return [(DomainSpec(named=name), chosen) for name, chosen in sizes.items()]


def _kept_at(domain: "Domain") -> Path | None:
    """Return the folder that a domain's arrays are mapped from; None where they are in memory only."""
    filename = getattr(domain.train.x, "filename", None)
    return None if filename is None else Path(filename).parent


def _folders() -> dict[Path, tuple[int, int]]:
    """Return the prepared folders, each with what changes when it is made again."""
    if not prepared_root().is_dir():
        return {}
    found = {path.absolute(): path.stat() for path in prepared_root().iterdir() if path.is_dir()}
    return {path: (stat.st_ino, stat.st_mtime_ns) for path, stat in found.items()}


@command.command("prepare")
@_space_option
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--size", type=click.IntRange(1, 512), help="Side of the images in pixels.")
def prepare(path: Path | None, names: tuple[str, ...], size: int | None) -> None:
    """Download and make domains ready: those of a space's tasks, or named ones.

    Nothing needs this, a run prepares what it lacks; but a download may be wanted beforehand.
    """
    from iimt_search.data.open import open_domain

    for spec, pixels in _to_prepare(path, names, size):
        what = f"{spec.label} ({pixels} px)" if pixels else spec.label
        if not Console(stderr=True).is_terminal:
            click.echo(f"preparing {what}")
        before, began = _folders(), time.monotonic()
        with _busy(f"preparing {what}"):
            domain = open_domain(spec, pixels)
        kept = _kept_at(domain)
        counts = f"{len(domain.train.x)} samples" + (f" + {len(domain.test.x)} test" if domain.test else "")
        if kept is None:
            click.echo(f"{what}: {counts}, made anew by each process, not kept")
        elif kept.absolute() in before and before[kept.absolute()] == _folders()[kept.absolute()]:
            click.echo(f"{what}: {counts}, already there: {kept}")
        else:
            click.echo(f"{what}: {counts}, made in {time.monotonic() - began:.1f} s: {kept}")


def _each(values: tuple[float, ...]) -> str:
    """Return a value for each channel; of many channels the least and greatest."""
    if len(values) <= _MOST_CHANNELS:
        return " ".join(f"{value:.3g}" for value in values)
    return f"{min(values):.3g} to {max(values):.3g}"


def _value_cells(values: "PartSummary") -> tuple[str, str, str]:
    return f"{values.low:.4g} to {values.high:.4g}", _each(values.means), _each(values.deviations)


def _print_check(check: "TaskCheck") -> None:
    shape = " × ".join(str(length) for length in check.sample_shape)
    click.echo(f"{check.task}: {check.kind} of {shape}, augmentation {check.augmentation}")
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("part", no_wrap=True)
    for title in ("samples", "duplicates", "range", "mean", "deviation"):
        table.add_column(title, justify="right")
    blank = ("", "", "")
    table.add_row("source train", str(check.source_train), "", *_value_cells(check.source_values))
    table.add_row("source val", str(check.source_val), str(check.source_duplicates), *blank)
    table.add_row("target", str(check.target), "", *_value_cells(check.target_values))
    if check.target_test is not None:
        table.add_row("target test", str(check.target_test), str(check.target_duplicates), *blank)
    Console().print(table)
    counts = [f"{name} {count}" for name, count in check.source_classes.items()]
    more = len(counts) - _MOST_CLASSES
    told = ", ".join(counts[:_MOST_CLASSES]) + (f" and {more} more" if more > 0 else "")
    click.echo(f"{len(counts)} classes, source samples of each: {told}")
    for finding in check.findings:
        click.echo(f"warning: {finding.message}")
    if not check.findings:
        click.echo("no warnings")


@command.command("check")
@_space_option
@click.argument("tasks", nargs=-1, callback=_parse_tasks, metavar="[TASK]...")
@json_option
def check(path: Path | None, tasks: tuple[TaskSpec, ...], as_json: bool) -> None:
    """Count and measure the data of tasks, and warn of what would go wrong in training.

    Reads no target label. A TASK is two domains, such as 'digits->digits-m'.
    """
    wanted = _wanted(path, tasks)
    from iimt_search.inspect.check import check_json, check_task

    found = []
    for number, spec in enumerate(wanted.tasks):
        with _busy(f"checking {spec.name}"):
            checked = check_task(
                spec, wanted.settings.image_size, wanted.settings.data_fraction, wanted.batch_size
            )
        found.append(check_json(checked))
        if not as_json:
            click.echo("\n" * (number > 0), nl=False)
            _print_check(checked)
    if as_json:
        print_json({"tasks": found})


def _picture_path(out: Path | None, task: "DomainTask", spec: TaskSpec, several: bool) -> Path:
    from iimt_search.inspect.picture import picture_suffix

    suffix = picture_suffix(task)
    if out is None:
        return Path(spec.slug + suffix)
    if several or out.is_dir():
        return out / (spec.slug + suffix)
    if out.suffix.lower() != suffix:
        raise UsageError(f"--out {out}: the picture of a task of kind {task.kind} is a {suffix} file")
    return out


@command.command("show")
@_space_option
@click.argument("tasks", required=False, callback=_parse_tasks, metavar="[TASK]")
@click.option(
    "--out", type=click.Path(path_type=Path), help="File to write; with several tasks, a folder for them."
)
def show(path: Path | None, tasks: tuple[TaskSpec, ...], out: Path | None) -> None:
    """Draw what training sees of a task: both domains, augmented samples, mixtures.

    Images become a PNG, series and vectors an HTML page. A TASK is two domains, such as
    'digits->digits-m'.
    """
    wanted = _wanted(path, tasks)
    several = len(wanted.tasks) > 1
    if several and out is not None and out.exists() and not out.is_dir():
        raise UsageError(f"--out {out}: there are {len(wanted.tasks)} tasks, give a folder")
    from iimt_search.data.assemble import load_task
    from iimt_search.inspect.picture import write_picture

    for spec in wanted.tasks:
        with _busy(f"drawing {spec.name}"):
            loaded = load_task(spec, wanted.settings.image_size, wanted.settings.data_fraction)
            file = _picture_path(out, loaded, spec, several)
            write_picture(loaded, file, wanted.settings.augmentation)
        click.echo(str(file))
