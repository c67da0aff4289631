"""``iimt-search predict``."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

import click

from iimt_search.cli.options import device_option, json_option, show_count
from iimt_search.cli.prediction_writers import Columns, writer_for
from iimt_search.errors import DataError, UsageError

if TYPE_CHECKING:
    from iimt_search.training.load import Predictor

_SHOW_EVERY = 50


def _load(folder: Path, device: str) -> "Predictor":
    inside = sorted(path.parent.name for path in folder.glob("*/model.json"))
    if inside and not (folder / "model.json").exists():
        raise UsageError(
            f"{folder} holds several models; name one: {', '.join(f'{folder}/{n}' for n in inside)}"
        )
    from iimt_search.training.device import usable_device
    from iimt_search.training.load import load_model

    return load_model(folder, usable_device(device))


@contextmanager
def _opened(output: str | None) -> Iterator[IO[str]]:
    """Open a file to write to, beside and renamed at the end, or standard output."""
    if output is None or output == "-":
        yield sys.stdout
        return
    path = Path(output)
    beside = path.with_name(path.name + ".tmp")
    try:
        opened = beside.open("w", encoding="utf-8", newline="")
    except OSError as error:
        raise UsageError(f"--output {output}: {error.strerror}") from error
    try:
        with opened as file:
            yield file
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


@click.command("predict")
@click.argument("folder", metavar="MODEL", type=click.Path(path_type=Path))
@click.argument("inputs", metavar="INPUT...", type=click.Path(path_type=Path), nargs=-1, required=True)
@click.option("--output", metavar="FILE", help="Write FILE.csv or FILE.jsonl; - for CSV on standard output.")
@click.option(
    "--top",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Name so many of the most probable classes.",
)
@click.option(
    "--probabilities/--no-probabilities",
    default=True,
    show_default=True,
    help="In files and JSON: the probability of every class.",
)
@click.option("--batch-size", type=click.IntRange(min=1), default=64, show_default=True)
@click.option("--skip-errors", is_flag=True, help="Exit with 0 although some inputs cannot be read.")
@device_option
@json_option
def command(
    folder: Path,
    inputs: tuple[Path, ...],
    output: str | None,
    top: int,
    probabilities: bool,
    batch_size: int,
    skip_errors: bool,
    device: str,
    as_json: bool,
) -> None:
    """Classify every INPUT with the exported model in the folder MODEL.

    An INPUT is an image, an array (.npy, or x of an .npz), or a folder of them, searched through. What cannot
    be read is told, has its reason in the column error, and makes the command fail at the end.
    """
    form = writer_for(output, as_json)
    model = _load(folder, device)
    from iimt_search.training.predict_inputs import count_samples, is_array, predict_inputs

    total = count_samples(inputs, model.kind)
    indexed = model.kind != "image" or any(is_array(path) for path in inputs)
    columns = Columns(model.classes, min(top, len(model.classes)), probabilities, indexed)
    failed = done = 0
    with _opened(output) as file:
        writer = form(file, columns)
        for done, found in enumerate(predict_inputs(model, inputs, batch_size), 1):
            writer.write(found)
            if found.error:
                failed += 1
                click.echo(f"cannot be read: {found.error}", err=True)
            if done % _SHOW_EVERY == 0 and done < total:
                _show(output, done, total)
        writer.close()
    _show(output, total, total)
    if output not in (None, "-"):
        click.echo(f"{done - failed} predictions in {output}")
    if failed and not skip_errors:
        raise DataError(f"{failed} of {done} inputs cannot be read; --skip-errors lets that pass")


def _show(output: str | None, done: int, total: int) -> None:
    # Lines on the same terminal would tear the count apart.
    if output not in (None, "-") or not sys.stdout.isatty():
        show_count("predicted", done, total)
