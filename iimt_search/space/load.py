"""Reads a space file; every error says file, line, key, and what would be right."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from iimt_search.errors import SpaceError
from iimt_search.settings import NO_FILES, TrainSettings, with_new_names
from iimt_search.space.lines import LineMap, parse_yaml
from iimt_search.space.schema import Choices, NumberRange, Space
from iimt_search.space.task_spec import DomainSpec, TaskPairs, TaskSpec

_MODELS_BY_KEY = {
    name: field.annotation
    for name, field in Space.model_fields.items()
    if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
}
_TAGS = {"number", "choices"}


@dataclass(frozen=True)
class KnownNames:
    """Names that a space file may use and that live in higher layers.

    Attributes:
        domains: the domains of ``source->target``.
        validators: the validators of ``objective`` and ``validators``.
        comparing: whether one of them compares all candidates, which a training cannot be scored by.
        few_shot: whether one of them needs labelled target samples in every task.
    """

    domains: Collection[str]
    validators: Collection[str]
    comparing: Callable[[str], bool] = lambda name: False
    few_shot: Callable[[str], bool] = lambda name: False


def nearest(name: str, valid: Collection[str]) -> str:
    """Return ``did you mean 'x'?`` or, with nothing near, the valid names."""
    close = get_close_matches(name, list(valid), n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"valid: {', '.join(sorted(valid))}"


def _valid_keys(path: tuple[str | int, ...], given: Collection[str]) -> Collection[str]:
    """Return the keys that the mapping at ``path`` may have; ``given`` are those that it has."""
    if not path:
        return [field.alias or name for name, field in Space.model_fields.items()]
    if path[0] == "search":
        return Choices.model_fields if "choices" in given else NumberRange.model_fields
    if path[0] == "tasks":
        # A mapping under ``tasks`` itself is that of pairs.
        return (TaskPairs, TaskSpec, DomainSpec)[min(len(path), 3) - 1].model_fields
    model = _MODELS_BY_KEY.get(str(path[0]))
    return model.model_fields if model is not None else ()


def _at(document: Any, path: tuple[str | int, ...]) -> Any:
    for part in path:
        # A single source may be given without a list; the path has its index all the same.
        if not (part == 0 and isinstance(document, dict)):
            document = document[part]
    return document


def _explain(errors: Sequence[Any], document: Any, lines: LineMap) -> SpaceError:
    # A misspelt key comes with a missing one; the misspelling is what to tell.
    error = min(errors, key=lambda found: found["type"] != "extra_forbidden")
    path = tuple(part for part in error["loc"] if part not in _TAGS and part != "[key]")
    key = ".".join(str(part) for part in path)
    if error["type"] == "extra_forbidden":
        message = (
            f"unknown key {key!r}; {nearest(str(path[-1]), _valid_keys(path[:-1], _at(document, path[:-1])))}"
        )
    elif error["type"] == "missing":
        message = f"missing key {key!r}"
    else:
        reason = error["msg"].removeprefix("Value error, ")
        given = "" if error["type"] == "value_error" else f", got {error['input']!r}"
        message = f"{key}: {reason}{given}" if key else f"{reason}{given}"
    return SpaceError(message, line=lines.line(path))


def _check_value(name: str, value: Any, where: str, line: int) -> None:
    try:
        TrainSettings.model_validate({name: value}, strict=isinstance(value, (str, bool)))
    except ValidationError as error:
        reason = error.errors()[0]["msg"]
        raise SpaceError(f"search.{name}: {where} {value!r} cannot be: {reason}", line=line) from error


def _number_kind(name: str) -> str | None:
    """Return ``int`` or ``float`` for a setting that is a number, else None."""
    annotation = TrainSettings.model_fields[name].annotation
    if annotation is int:
        return "int"
    return "float" if annotation is float else None


def _check_range(name: str, searched: NumberRange, line: int) -> None:
    kind = _number_kind(name)
    if kind is None:
        raise SpaceError(f"search.{name} is not a number; give {{choices: [...]}}", line=line)
    if kind == "int" and searched.type == "float":
        raise SpaceError(f"search.{name} is an integer setting; give type: int", line=line)
    as_int = "int" in (kind, searched.type)
    bounds = {"low": searched.low, "high": searched.high}
    for where, value in {**bounds, "step": searched.step or 1.0}.items():
        if as_int and not value.is_integer():
            raise SpaceError(f"search.{name}.{where} must be an integer, got {value:g}", line=line)
    for where, value in bounds.items():
        _check_value(name, int(value) if as_int else value, where, line)


def _check_search(space: Space, fixed: Collection[str], lines: LineMap) -> None:
    """Check searched names and bounds against the settings that they stand for."""
    fields = TrainSettings.model_fields
    for name, searched in space.search.items():
        line = lines.line(("search", name))
        if name not in fields:
            raise SpaceError(f"search: unknown setting {name!r}; {nearest(name, fields)}", line=line)
        if name in fixed:
            raise SpaceError(f"{name!r} is searched and fixed; take it out of search or of train", line=line)
        if isinstance(searched, Choices):
            for value in searched.choices:
                _check_value(name, value, "choice", line)
        else:
            _check_range(name, searched, line)


def _check_first(space: Space, lines: LineMap) -> None:
    """Check that the configurations to run first lie in the space."""
    for index, row in enumerate(space.first):
        for name, value in row.items():
            line = lines.line(("first", index, name))
            searched = space.search.get(name)
            if searched is None:
                hint = nearest(name, space.search)
                raise SpaceError(f"first: {name!r} is not searched; {hint}", line=line)
            if isinstance(searched, Choices):
                inside = value in searched.choices
                wanted = f"one of {', '.join(map(str, searched.choices))}"
            else:
                inside = not isinstance(value, (str, bool)) and searched.low <= value <= searched.high
                wanted = f"from {searched.low:g} to {searched.high:g}"
            if not inside:
                raise SpaceError(f"first: {name} must be {wanted}, got {value!r}", line=line)


def _check_names(space: Space, known: KnownNames, lines: LineMap) -> None:
    for index, task in enumerate(space.tasks):
        for domain in (*task.source, task.target, *([task.few_shot] if task.few_shot else [])):
            if domain.named is not None and domain.named not in known.domains:
                hint = nearest(domain.named, known.domains)
                line = lines.line(("tasks", index))
                raise SpaceError(f"tasks: unknown domain {domain.named!r}; {hint}", line=line)
    named: list[tuple[tuple[str | int, ...], str]] = [(("objective",), space.objective)]
    named += [(("validators", i), name) for i, name in enumerate(space.validators or ())]
    for path, name in named:
        if name not in known.validators:
            hint = nearest(name, known.validators)
            raise SpaceError(f"{path[0]}: unknown validator {name!r}; {hint}", line=lines.line(path))
        if known.comparing(name):
            raise SpaceError(
                f"{path[0]}: {name} compares all candidates; `iimt-search score` computes it afterwards",
                line=lines.line(path),
            )
        without = [task.name for task in space.tasks if task.few_shot is None]
        if known.few_shot(name) and without:
            raise SpaceError(
                f"{path[0]}: {name} needs labelled target samples; give {without[0]} a `few_shot` domain",
                line=lines.line(path),
            )


def space_from_text(text: str, known: KnownNames) -> Space:
    """Parse and check the text of a space file.

    Raises:
        SpaceError: with the line and key, but no file.
    """
    document, lines = parse_yaml(text)
    if not isinstance(document, dict):
        raise SpaceError("a space file is a mapping that begins with 'schema: 1'", line=1)
    try:
        space = Space.model_validate(document)
    except ValidationError as error:
        raise _explain(error.errors(), document, lines) from error
    _check_search(space, with_new_names(document.get("train") or {}), lines)
    _check_first(space, lines)
    _check_names(space, known, lines)
    return space


def load_space(path: Path, known: KnownNames) -> Space:
    """Read, parse and check a space file; relative paths in it are seen from its folder.

    Raises:
        SpaceError: the file cannot be read, or is wrong; says file, line, key and what would be right.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise SpaceError(f"cannot read the space file: {reason}", path=path) from error
    try:
        space = space_from_text(text, known)
    except SpaceError as error:
        raise SpaceError(str(error), path=path, line=error.line) from error
    base = path.parent.absolute()
    changed: dict[str, Any] = {"tasks": tuple(task.relative_to(base) for task in space.tasks)}
    weights = space.train.weights
    if weights not in NO_FILES:
        weights = str((base / Path(weights).expanduser()).absolute())
        changed["train"] = space.train.model_copy(update={"weights": weights})
    return space.model_copy(update=changed)
