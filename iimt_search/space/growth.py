"""A study that grows: how the space that it goes on with may differ from the one that it was begun with.

What the scores of earlier trials depend on stays: the data, the fixed settings, the objective, the seed. Of
``search``, ranges may be widened, choices and settings added: a trial that lacks a setting that is searched
now had the value that was fixed then, which ``train`` goes on to hold.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError

from iimt_search.settings import NO_FILES, TrainSettings, shown_value, with_new_names
from iimt_search.space.schema import Choices, NumberRange, Scalar, SearchRange, Space, with_defaults

# What makes two space files the same study: change one of these, and the trials no longer compare.
IDENTITY = ("tasks", "search", "first", "train", "objective", "cost", "reference", "scope", "seed")
_RANGE: TypeAdapter[NumberRange | Choices] = TypeAdapter(SearchRange)
_ROUNDING = 1e-8


def differences(first: dict[str, Any], second: dict[str, Any], path: str = "") -> dict[str, list[Any]]:
    """Return the keys of two space files' contents whose values differ, each with both values.

    Keys within mappings are joined by dots: ``train.steps``.
    """
    differing: dict[str, list[Any]] = {}
    for key in dict.fromkeys([*first, *second]):
        one, other = first.get(key), second.get(key)
        if isinstance(one, dict) and isinstance(other, dict):
            differing |= differences(one, other, f"{path}{key}.")
        elif one != other:
            differing[f"{path}{key}"] = [one, other]
    return differing


def _multiple(value: float, step: float) -> bool:
    return abs(value / step - round(value / step)) < _ROUNDING


def holds(searched: SearchRange, value: Any) -> bool:
    """Return whether a range has a value."""
    if isinstance(searched, Choices):
        return value in searched.choices
    if isinstance(value, (bool, str)) or not searched.low <= value <= searched.high:
        return False
    return searched.step is None or _multiple(value - searched.low, searched.step)


def is_int(name: str, searched: NumberRange) -> bool:
    """Return whether whole numbers are searched."""
    return searched.type == "int" or TrainSettings.model_fields[name].annotation is int


def _widened(name: str, before: SearchRange, now: SearchRange) -> bool:
    """Return whether a range is another one's, or wider: on the same scale, with every value of that."""
    if isinstance(before, Choices) or isinstance(now, Choices):
        same = isinstance(before, Choices) and isinstance(now, Choices)
        return same and all(choice in now.choices for choice in before.choices)  # type: ignore[union-attr]
    whole = is_int(name, now)
    if before.log != now.log or is_int(name, before) != whole:
        return False
    if not now.low <= before.low <= before.high <= now.high:
        return False
    step, finer = now.step, before.step or (1.0 if whole else None)
    return step is None or (
        finer is not None and _multiple(finer, step) and _multiple(before.low - now.low, step)
    )


def _identity(content: dict[str, Any]) -> dict[str, Any]:
    """Return what makes two space files the same study, of one's canonical content.

    Of a domain its name, or how it is augmented: what its samples are their fingerprints say, not the paths
    that they are read from. So it is with a file of weights.
    """

    def domain(spec: Any) -> Any:
        return {key: spec.get(key) for key in ("named", "augmentation")} if isinstance(spec, dict) else spec

    def task(spec: Any) -> Any:
        if not isinstance(spec, dict):
            return spec, []
        domains = [*spec.get("source", ()), spec.get("target"), spec.get("few_shot")]
        return spec.get("name"), [domain(each) for each in domains]

    train = content["train"]
    if train["weights"] not in NO_FILES:
        train = {**train, "weights": "a file"}
    parts = {
        "tasks": [task(t) for t in content["tasks"]],
        "train": train,
        "cost": (content.get("cost") or {}).get("name", "none"),
    }
    return {key: content.get(key) for key in IDENTITY} | parts


def _read(stored: dict[str, Any]) -> Space | None:
    """Return a stored space, None where this version does not take it."""
    try:
        return Space.model_validate(with_defaults(stored))
    except ValidationError:
        return None


def with_earlier_values(stored: dict[str, Any], space: Space) -> Space:
    """Return the space that a study goes on with, given the one that it holds.

    What is searched has in ``train`` the value of source-only, and of those trials that lack it.
    """
    before = _read(stored)
    if before is None:
        return space
    fixed = before.baseline
    train = space.train.model_copy(update={name: getattr(fixed, name) for name in space.search})
    return space.model_copy(update={"train": train})


def conflicts(stored: dict[str, Any], space: Space) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what a study cannot go on with: the parts of its space that differ, as it holds them and now.

    With ``scope: per_task`` each task is searched for itself: of ``tasks``, only those of both are compared.
    """
    before, now = with_defaults(stored), with_defaults(space.canonical())
    one, other = _identity(before), _identity(now)
    if (known := _read(stored)) is not None:
        shrunk = [
            name
            for name, searched in known.search.items()
            if name not in space.search or not _widened(name, searched, space.search[name])
        ]
        one["search"] = {name: before["search"][name] for name in shrunk}
        other["search"] = {name: now["search"].get(name) for name in shrunk}
        for part in (one, other):
            part["train"] = {name: v for name, v in part["train"].items() if name not in space.search}
    if space.scope == "per_task":
        shared = {name for name, _ in one["tasks"]} & {name for name, _ in other["tasks"]}
        for part in (one, other):
            part["tasks"] = {name: domains for name, domains in part["tasks"] if name in shared}
    changed = [key for key in IDENTITY if one[key] != other[key]]
    return {key: one[key] for key in changed}, {key: other[key] for key in changed}


def _shown(searched: SearchRange) -> str:
    if isinstance(searched, Choices):
        return ", ".join(map(shown_value, searched.choices))
    return f"{searched.low:g} to {searched.high:g}" + (f" by {searched.step:g}" if searched.step else "")


def growth(stored: dict[str, Any], space: Space, trials: int) -> list[str]:
    """Return what a study goes on with otherwise than before, for people.

    A line for each range that has changed and each setting that is searched now, and one for all others.

    Args:
        stored: the space that the study holds.
        space: what :func:`with_earlier_values` returned.
        trials: of the study so far.
    """
    before, lines = _read(stored), list[str]()
    if before is None:
        return lines
    kept = f"; its {trials} trials are kept" if trials else ""
    for name, searched in space.search.items():
        known, value = before.search.get(name), getattr(space.train, name)
        if known is None:
            had = f"; the {trials} trials so far had {shown_value(value)} and are kept" if trials else ""
            if had and not holds(searched, value):
                had += ", though that lies outside: the sampler learns nothing of it from them"
            lines.append(f"{name} is searched now, {_shown(searched)}{had}")
        elif _shown(known) != _shown(searched):
            lines.append(f"{name} is searched in {_shown(searched)} now, {_shown(known)} before{kept}")
    old, new = ({k: v for k, v in s.canonical().items() if k not in IDENTITY} for s in (before, space))
    told = [f"{key} {one}, now {other}" for key, (one, other) in differences(old, new).items()]
    return [*lines, f"goes on with other settings: {'; '.join(told)}{kept}"] if told else lines


def earlier_values(stored: Mapping[str, Any]) -> dict[str, Scalar]:
    """Return setting → the value of trials that lack it, of a stored space; of those that its range has."""
    search, train = with_new_names(stored.get("search", {})), with_new_names(stored.get("train", {}))
    ranges = {name: _RANGE.validate_python(searched) for name, searched in search.items() if name in train}
    return {name: train[name] for name, searched in ranges.items() if holds(searched, train[name])}
