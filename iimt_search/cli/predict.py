"""``iimt-search predict``."""

import csv
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from iimt_search.cli.options import device_option, json_option, show_count
from iimt_search.errors import DataError, UsageError
from iimt_search.files import atomic_write

if TYPE_CHECKING:
    from iimt_search.exporting.predict_files import Prediction

SUFFIXES = (".csv", ".jsonl")


class Columns:
    """What is told of each prediction.

    Args:
        classes: class names, in logit order.
        top: how many of the most probable classes are named.
        every: the probability of every class, too.
        indexed: whether some inputs are arrays, so that a row's index is told.
    """

    def __init__(self, classes: Sequence[str], top: int, every: bool, indexed: bool) -> None:
        self.classes, self.top, self.every, self.indexed = tuple(classes), top, every, indexed

    def titles(self) -> list[str]:
        """Return the columns' names: those of further classes numbered, those of all ``p(class)``."""
        further = [f"{name}_{n}" for n in range(2, self.top + 1) for name in ("class", "probability")]
        every = [f"p({name})" for name in self.classes] if self.every else []
        index = ["index"] if self.indexed else []
        return ["path", *index, "class", "probability", *further, *every, "error"]

    def cells(self, found: "Prediction") -> list[Any]:
        """Return one line of a table."""
        index = [found.index] if self.indexed else []
        if found.probabilities is None:
            return [found.path, *index, *[""] * (len(self.titles()) - 2 - len(index)), found.error]
        named: list[Any] = []
        for at in found.ranked(self.top):
            named += [self.classes[at], float(found.probabilities[at])]
        every = found.probabilities.tolist() if self.every else []
        return [found.path, *index, *named, *every, ""]

    def content(self, found: "Prediction") -> dict[str, Any]:
        """Return JSON values."""
        content: dict[str, Any] = {"image" if found.index is None else "path": str(found.path)}
        if found.index is not None:
            content["index"] = found.index
        if found.probabilities is None:
            return content | {"error": found.error}
        ranked = found.ranked(self.top)
        named = [{"class": self.classes[i], "probability": float(found.probabilities[i])} for i in ranked]
        content |= named[0]
        if self.top > 1:
            content["top"] = named
        if self.every:
            content["probabilities"] = dict(zip(self.classes, found.probabilities.tolist(), strict=True))
        return content


def _write_text(file: IO[str], columns: Columns, predictions: Iterable["Prediction"]) -> None:
    """Write lines for people; what could not be read is told elsewhere."""
    for found in predictions:
        if found.probabilities is not None:
            place = "" if found.index is None else f"[{found.index}]"
            ranked = found.ranked(columns.top)
            named = ", ".join(f"{columns.classes[i]}  ({found.probabilities[i]:.1%})" for i in ranked)
            file.write(f"{found.path}{place}: {named}\n")


def _write_csv(file: IO[str], columns: Columns, predictions: Iterable["Prediction"]) -> None:
    """Write a table with a header."""
    table = csv.writer(file, lineterminator="\n")
    table.writerow(columns.titles())
    table.writerows(map(columns.cells, predictions))


def _write_json_lines(file: IO[str], columns: Columns, predictions: Iterable["Prediction"]) -> None:
    """Write one JSON object a line."""
    for found in predictions:
        file.write(json.dumps(columns.content(found), ensure_ascii=False, allow_nan=False) + "\n")


def _write_json(file: IO[str], columns: Columns, predictions: Iterable["Prediction"]) -> None:
    """Write one JSON list of objects."""
    before = "["
    for found in predictions:
        content = json.dumps(columns.content(found), ensure_ascii=False, allow_nan=False)
        file.write(f"{before}\n  {content}")
        before = ","
    file.write("[]\n" if before == "[" else "\n]\n")


def _writer(output: str | None, as_json: bool) -> Callable[[IO[str], Columns, Iterable["Prediction"]], None]:
    """Return what writes to ``output``: a file by its name, ``-`` for CSV on standard output, or None.

    Raises:
        UsageError: the name says no format that there is, or two are asked for.
    """
    if output is None:
        return _write_json if as_json else _write_text
    if as_json:
        raise UsageError("give --output FILE.jsonl or --json, not both")
    suffix = ".csv" if output == "-" else Path(output).suffix.lower()
    if suffix not in SUFFIXES:
        raise UsageError(f"--output must end in {' or '.join(SUFFIXES)}, or be -, got {output!r}")
    return _write_csv if suffix == ".csv" else _write_json_lines


_SHOW_EVERY = 50


@contextmanager
def _opened(output: str | None) -> Iterator[IO[str]]:
    """Open a file to write to, beside and renamed at the end, or standard output."""
    if output is None or output == "-":
        yield sys.stdout
        return
    with atomic_write(Path(output)) as beside:
        try:
            file = beside.open("w", encoding="utf-8", newline="")
        except OSError as error:
            raise UsageError(f"--output {output}: {error.strerror}") from error
        with file:
            yield file


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
    write = _writer(output, as_json)
    from iimt_search.exporting.load import load_model
    from iimt_search.exporting.predict_files import count_samples, is_array, predict_inputs

    model = load_model(folder, device)

    total = count_samples(inputs, model.kind)
    indexed = model.kind != "image" or any(is_array(path) for path in inputs)
    columns = Columns(model.classes, min(top, len(model.classes)), probabilities, indexed)
    failed = done = 0

    def predictions() -> Iterator["Prediction"]:
        nonlocal failed, done
        for done, found in enumerate(predict_inputs(model, inputs, batch_size), 1):
            yield found
            if found.error:
                failed += 1
                click.echo(f"cannot be read: {found.error}", err=True)
            if done % _SHOW_EVERY == 0 and done < total:
                _show(output, done, total)

    with _opened(output) as file:
        write(file, columns, predictions())
    _show(output, total, total)
    if output not in (None, "-"):
        click.echo(f"{done - failed} predictions in {output}")
    if failed and not skip_errors:
        raise DataError(f"{failed} of {done} inputs cannot be read; --skip-errors lets that pass")


def _show(output: str | None, done: int, total: int) -> None:
    # Lines on the same terminal would tear the count apart.
    if output not in (None, "-") or not sys.stdout.isatty():
        show_count("predicted", done, total)
