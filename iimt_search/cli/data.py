"""``iimt-search data``: what a space file's tasks are made of, before anything is trained."""

import os
import time
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click
from pydantic import ValidationError
from rich.console import Console

from iimt_search.api import load_space
from iimt_search.cli.options import data_root_option, json_option
from iimt_search.cli.printing import Count, print_json, print_table
from iimt_search.data.registry import DOMAINS
from iimt_search.data.store import data_root, prepared_root, prepared_sizes
from iimt_search.errors import DataError, UsageError, collecting
from iimt_search.files import shown
from iimt_search.kinds import ImageForm, is_pretrained
from iimt_search.settings import TrainSettings
from iimt_search.space import Space
from iimt_search.space.load import nearest
from iimt_search.space.task_spec import DomainSpec, TaskSpec

if TYPE_CHECKING:
    from iimt_search.data.task import DomainTask
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
    for name in (str(domain.named) for domain in (*spec.source, spec.target)):
        if name not in DOMAINS:
            raise click.BadParameter(f"unknown domain {name!r}; {nearest(name, DOMAINS)}")
    return spec


def _load(path: Path) -> Space:
    """Read a space file as a run would train it."""
    from iimt_search.features.photographs import with_backbone

    return with_backbone(load_space(path), partial(click.echo, err=True))


def _wanted(path: Path | None, tasks: tuple[TaskSpec, ...]) -> tuple[tuple[TaskSpec, ...], Space | None]:
    """Return the tasks that are asked for, and the space that they are of."""
    if (path is None) == (not tasks):
        raise UsageError("give either --space FILE or a task such as 'digits->digits-m'")
    if path is None:
        return tasks, None
    space = _load(path)
    return space.tasks, space


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
    domains, rows = [], []
    for name, entry in DOMAINS.items():
        sizes = prepared_sizes(name, entry.version)
        known = {"name": name, "what": entry.what, "size": entry.size}
        domains.append({**known, "downloaded": entry.download, "prepared": sizes})
        kept = ", ".join(f"{size} px" if size else "yes" for size in sizes) or "no"
        origin = "downloaded" if entry.download else "made here"
        rows.append([name, entry.what, str(entry.size or "–"), origin, kept])
    if as_json:
        print_json({"domains": domains, "data_root": str(data_root()), "prepared_root": str(prepared_root())})
        return
    print_table(["domain", "what", ">pixels", "origin", "prepared"], rows, padding=(1, 1))
    click.echo(f"downloads, and what is placed by hand: {shown(data_root())}  (IIMT_DATA)")
    click.echo(f"prepared domains: {shown(prepared_root())}  (IIMT_CACHE)")


def _to_prepare(
    space: Space | None, names: tuple[str, ...], size: int | None
) -> list[tuple[DomainSpec, ImageForm]]:
    """Return each domain once, with the form that its images are wanted in."""
    from iimt_search.data.assemble import image_forms, task_image_size

    if space is not None:
        wanted = [
            (domain, form._replace(size=task_image_size(task, form.size)))
            for task in space.tasks
            for form in image_forms(space)
            for domain in (*task.source, task.target, *([task.few_shot] if task.few_shot else []))
        ]
        return list(dict.fromkeys(wanted))
    for name in names:
        if name not in DOMAINS:
            raise UsageError(f"unknown domain {name!r}; {nearest(name, DOMAINS)}")
    # What has no images has no size to choose.
    sizes = {name: (size or DOMAINS[name].size) if DOMAINS[name].size else 0 for name in names}
    return [(DomainSpec(named=name), ImageForm(chosen)) for name, chosen in sizes.items()]


def _folders() -> dict[Path, tuple[int, int]]:
    """Return the prepared folders, each with what changes when it is made again."""
    stats = {path.absolute(): path.stat() for path in prepared_root().glob("*/")}
    return {path: (stat.st_ino, stat.st_mtime_ns) for path, stat in stats.items()}


@command.command("prepare")
@_space_option
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--size", type=click.IntRange(1, 512), help="Side of the images in pixels.")
def prepare(path: Path | None, names: tuple[str, ...], size: int | None) -> None:
    """Download and make domains ready: those of a space's tasks, or named ones.

    Nothing needs this, a run prepares what it lacks; but a download may be wanted beforehand.
    """
    from iimt_search.data.open import open_domain

    if (path is None) == (not names):
        raise UsageError("give either --space FILE or names of domains; `iimt-search data list` has them")
    if path is not None and size is not None:
        raise UsageError("--size goes with names; with --space, train.image_size says the size")
    wrong: list[str] = []
    space = None if path is None else _load(path)
    for spec, (pixels, interpolation) in _to_prepare(space, names, size):
        what = f"{spec.label} ({pixels} px)" if pixels else spec.label
        if not Console(stderr=True).is_terminal:
            click.echo(f"preparing {what}")
        before, began, domain = _folders(), time.monotonic(), None
        with collecting(wrong), _busy(f"preparing {what}"):
            domain = open_domain(spec, pixels, interpolation)
        if domain is None:
            continue
        mapped = getattr(domain.train.x, "filename", None)  # None: the arrays are in memory only
        counts = f"{len(domain.train.x)} samples" + (f" + {len(domain.test.x)} test" if domain.test else "")
        if mapped is None:
            click.echo(f"{what}: {counts}, made anew by each process, not kept")
            continue
        kept = Path(mapped).parent
        same = before.get(kept.absolute()) == _folders()[kept.absolute()]
        state = "already there" if same else f"made in {time.monotonic() - began:.1f} s"
        click.echo(f"{what}: {counts}, {state}: {shown(kept)}")
    if wrong:
        raise DataError(*wrong)
    if space is not None:
        _prepare_features(space)


def _prepare_features(space: Space) -> None:
    if not any(map(is_pretrained, space.values("network"))):
        return
    from iimt_search.features.prepare import prepare_features
    from iimt_search.models.device import resolve_device

    count = Count()
    for spec in space.tasks:
        prepare_features(spec, space, resolve_device("auto"), count)


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
    rows: list[tuple[str, ...]] = [
        ("source train", str(check.source_train), "", *_value_cells(check.source_values)),
        ("source val", str(check.source_val), str(check.source_duplicates), "", "", ""),
        ("target", str(check.target), "", *_value_cells(check.target_values)),
    ]
    if check.target_test is not None:
        rows.append(("target test", str(check.target_test), str(check.target_duplicates), "", "", ""))
    print_table(["part", ">samples", ">duplicates", ">range", ">mean", ">deviation"], rows)
    counts = [f"{name} {count}" for name, count in check.source_classes.items()]
    more = len(counts) - _MOST_CLASSES
    text = ", ".join(counts[:_MOST_CLASSES]) + (f" and {more} more" if more > 0 else "")
    click.echo(f"{len(counts)} classes, source samples of each: {text}")
    for note in check.notes:
        click.echo(f"note: {note}")
    for finding in check.findings:
        click.echo(f"warning: {finding.message}")
    if not check.findings:
        click.echo("no warnings")


@command.command("check")
@_space_option
@click.argument("tasks", nargs=-1, type=_task, metavar="[TASK]...")
@json_option
def check(path: Path | None, tasks: tuple[TaskSpec, ...], as_json: bool) -> None:
    """Count and measure the data of tasks, and warn of what would go wrong in training.

    Reads no target label. A TASK is two domains, such as 'digits->digits-m'.
    """
    tasks, space = _wanted(path, tasks)
    from iimt_search.inspect.check import check_json, check_task

    checks: list[TaskCheck] = []
    wrong: list[str] = []
    for spec in tasks:
        with collecting(wrong), _busy(f"checking {spec.name}"):
            checks.append(check_task(spec, space))
            if not as_json:
                click.echo("\n" * (len(checks) > 1), nl=False)
                _print_check(checks[-1])
    if as_json:
        print_json({"tasks": [check_json(each) for each in checks]})
    if wrong:
        raise DataError(*wrong)


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
@click.argument("task", required=False, type=_task, metavar="[TASK]")
@click.option(
    "--out", type=click.Path(path_type=Path), help="File to write; with several tasks, a folder for them."
)
def show(path: Path | None, task: TaskSpec | None, out: Path | None) -> None:
    """Draw what training sees of a task: both domains, augmented samples, mixtures.

    Images become a PNG, series and vectors an HTML page. A TASK is two domains, such as
    'digits->digits-m'.
    """
    tasks, space = _wanted(path, () if task is None else (task,))
    settings = TrainSettings() if space is None else space.train
    several = len(tasks) > 1
    if several and out is not None and out.exists() and not out.is_dir():
        raise UsageError(f"--out {out}: there are {len(tasks)} tasks, give a folder")
    from iimt_search.features.extract import load_image_task
    from iimt_search.inspect.picture import write_picture

    wrong: list[str] = []
    for spec in tasks:
        with collecting(wrong), _busy(f"drawing {spec.name}"):
            loaded = load_image_task(spec, settings)
            file = _picture_path(out, loaded, spec, several)
            write_picture(loaded, file, settings.augmentation)
            click.echo(shown(file))
    if wrong:
        raise DataError(*wrong)
