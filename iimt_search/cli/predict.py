"""``iimt-search predict``."""

import csv
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from iimt_search.cli.options import device_option, json_option
from iimt_search.cli.printing import Count
from iimt_search.errors import DataError, UsageError, describe
from iimt_search.files import atomic_write, json_text, shown

if TYPE_CHECKING:
    from iimt_search.exporting.predict_files import Prediction

SUFFIXES = (".csv", ".jsonl")
_SHOW_EVERY = 50


@dataclass(frozen=True)
class Columns:
    """What is written of each prediction.

    Attributes:
        classes: class names, in logit order.
        top: how many of the most probable classes are named.
        every: the probability of every class, too.
        indexed: whether some inputs are arrays, so that a row's index is written.
    """

    classes: tuple[str, ...]
    top: int
    every: bool
    indexed: bool

    def titles(self) -> list[str]:
        """Return the columns' names: those of further classes numbered, those of all ``p(class)``."""
        further = [f"{name}_{n}" for n in range(2, self.top + 1) for name in ("class", "probability")]
        every = [f"p({name})" for name in self.classes] if self.every else []
        index = ["index"] if self.indexed else []
        return ["path", *index, "class", "probability", *further, *every, "error"]

    def ranked(self, prediction: "Prediction") -> list[tuple[str, float]]:
        """Return the most probable classes with their probabilities; none where nothing could be read."""
        if prediction.probabilities is None:
            return []
        ranked = prediction.ranked(self.top)
        return [(self.classes[i], float(prediction.probabilities[i])) for i in ranked]

    def probabilities(self, prediction: "Prediction") -> dict[str, float]:
        """Return every class's probability; none where nothing could be read."""
        if prediction.probabilities is None:
            return {}
        return dict(zip(self.classes, prediction.probabilities.tolist(), strict=True))

    def row(self, prediction: "Prediction") -> dict[str, Any]:
        """Return the cells of a table's line by title."""
        row: dict[str, Any] = {
            "path": shown(prediction.path),
            "index": prediction.index,
            "error": prediction.error,
        }
        for n, (name, probability) in enumerate(self.ranked(prediction), 1):
            number = f"_{n}" if n > 1 else ""
            row |= {f"class{number}": name, f"probability{number}": probability}
        return row | {f"p({name})": value for name, value in self.probabilities(prediction).items()}

    def content(self, prediction: "Prediction") -> str:
        """Return one line of JSON."""
        content: dict[str, Any] = {"image" if prediction.index is None else "path": str(prediction.path)}
        if prediction.index is not None:
            content["index"] = prediction.index
        named = [{"class": name, "probability": value} for name, value in self.ranked(prediction)]
        if named:
            content |= named[0]
            if self.top > 1:
                content["top"] = named
            if self.every:
                content["probabilities"] = self.probabilities(prediction)
        else:
            content["error"] = prediction.error
        return json_text(content)


def _write_text(file: IO[str], columns: Columns, predictions: Iterable["Prediction"]) -> None:
    """Write lines for people; what could not be read is not among them."""
    for prediction in predictions:
        if ranked := columns.ranked(prediction):
            place = "" if prediction.index is None else f"[{prediction.index}]"
            path = shown(prediction.path)
            file.write(f"{path}{place}: {', '.join(f'{name}  ({p:.1%})' for name, p in ranked)}\n")


def _write_csv(file: IO[str], columns: Columns, predictions: Iterable["Prediction"]) -> None:
    """Write a table with a header."""
    table = csv.DictWriter(file, columns.titles(), extrasaction="ignore", lineterminator="\n")
    table.writeheader()
    table.writerows(map(columns.row, predictions))


def _write_json_lines(file: IO[str], columns: Columns, predictions: Iterable["Prediction"]) -> None:
    """Write one JSON object a line."""
    file.writelines(f"{columns.content(prediction)}\n" for prediction in predictions)


def _write_json(file: IO[str], columns: Columns, predictions: Iterable["Prediction"]) -> None:
    """Write one JSON list of objects."""
    before = "["
    for prediction in predictions:
        file.write(f"{before}\n  {columns.content(prediction)}")
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


def _count(inputs: tuple[Path, ...], kind: str) -> int:
    """Return the number of samples, and tell what else is in the folders."""
    from iimt_search.data.listing import LeftOut
    from iimt_search.exporting.predict_files import count_samples

    left = LeftOut()
    total = count_samples(inputs, kind, left)
    for note in left.notes("in the folders", "images" if kind == "image" else "arrays"):
        click.echo(note.message, err=True)
    return total


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
    r"""Classify every INPUT with the exported model in the folder MODEL.

    An INPUT is an image, an array (.npy, or x of an .npz), or a folder of them, searched through. What cannot
    be read is told, has its reason in the column error, and makes the command fail at the end. What a folder
    holds besides is counted and told.

    A byte of a path that is not UTF-8 is written \xNN, and \udcNN in JSON, as Python's os.fsdecode has it.
    """
    write = _writer(output, as_json)
    # Lines on the same terminal would tear the count apart.
    counted = output not in (None, "-") or not sys.stdout.isatty()
    from iimt_search.exporting.load import load_model
    from iimt_search.exporting.predict_files import is_array, predict_inputs

    model = load_model(folder, device)
    total = _count(inputs, model.kind)
    indexed = model.kind != "image" or any(is_array(path) for path in inputs)
    columns = Columns(model.classes, min(top, len(model.classes)), probabilities, indexed)
    failed = done = 0
    count = Count()
    stopped: Exception | None = None

    def predictions() -> Iterator["Prediction"]:
        nonlocal failed, done, stopped
        try:
            for done, prediction in enumerate(predict_inputs(model, inputs, batch_size), 1):
                yield prediction
                if prediction.error:
                    failed += 1
                    click.echo(f"cannot be read: {prediction.error}", err=True)
                if counted and done % _SHOW_EVERY == 0 and done < total:
                    count("predicted", done, total)
        except Exception as error:  # what is predicted by now is written in any case
            stopped = error

    with _opened(output) as file:
        write(file, columns, predictions())
    if counted:
        count("predicted", total if stopped is None else done, total)
    if output not in (None, "-"):
        click.echo(f"{done - failed} predictions in {shown(output)}")
    if stopped is not None:
        reason = describe(stopped, debug=False)
        raise DataError(f"stopped after {done} of {total} inputs, which are written: {reason}") from stopped
    if failed and not skip_errors:
        raise DataError(f"{failed} of {done} inputs cannot be read; --skip-errors lets that pass")
