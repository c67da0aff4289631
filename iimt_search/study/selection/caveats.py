"""What a user should know of a choice before trusting it."""

import math
from collections.abc import Mapping
from typing import Any

from annotated_types import Ge, Gt, Le, Lt
from optuna.distributions import FloatDistribution, IntDistribution

from iimt_search.settings import TrainSettings
from iimt_search.space import Space
from iimt_search.study.scope import SOURCE_ONLY_KEY
from iimt_search.study.search.sampling import distributions
from iimt_search.validators.registry import VALIDATORS

# Share of a range, on its own scale, that counts as its bound.
_MARGIN = 0.02
# Share of the target samples that would have to change their class for the source's shares.
FAR_APART = 0.25
_NAMED = 4


def _limits(name: str) -> set[float]:
    """Return the setting's own limits, beyond which no range can be widened."""
    limits = set()
    for limit in TrainSettings.model_fields[name].metadata:
        match limit:
            case Ge(ge=value) | Gt(gt=value) | Le(le=value) | Lt(lt=value) if isinstance(value, (int, float)):
                limits.add(float(value))
    return limits


def _place(dist: FloatDistribution | IntDistribution, value: float) -> float:
    """Return where a value lies between the bounds, from 0 to 1, on the range's own scale."""
    low, high, at = float(dist.low), float(dist.high), value
    if dist.log:
        low, high, at = math.log(low), math.log(high), math.log(value)
    return (at - low) / (high - low)


def at_bounds(space: Space, params: Mapping[str, Any]) -> list[str]:
    """Return a caveat for each parameter that lies at a bound of its range which could be widened."""
    texts = []
    for name, dist in distributions(space).items():
        if not isinstance(dist, (FloatDistribution, IntDistribution)) or name not in params or dist.single():
            continue
        place = _place(dist, float(params[name]))
        side = "lower" if place <= _MARGIN else "upper" if place >= 1 - _MARGIN else ""
        bound = float(dist.low if side == "lower" else dist.high)
        if side and bound not in _limits(name):
            texts.append(
                f"{name} = {params[name]:.4g} is at the {side} bound of its range ({bound:g}): "
                f"what is best may lie beyond; widen the range"
            )
    return texts


def shifted_shares(shares: Mapping[str, Mapping[str, Mapping[str, float]]]) -> list[str]:
    """Return a caveat for each task whose classes are estimated to have other shares than the source's.

    Args:
        shares: task → class → ``source`` and ``target`` → share.
    """
    texts = []
    for task, classes in shares.items():
        moved = sorted(classes, key=lambda name: -abs(classes[name]["target"] - classes[name]["source"]))
        apart = sum(abs(each["target"] - each["source"]) for each in classes.values()) / 2
        if apart > FAR_APART:
            named = ", ".join(
                f"{name} {classes[name]['target']:.0%} (source {classes[name]['source']:.0%})"
                for name in moved[:_NAMED]
            )
            texts.append(f"{task}: the target's classes seem to have other shares than the source's: {named}")
    return texts


def untrained(errors: Mapping[str, str]) -> list[str]:
    """Return a caveat for each training of source-only that failed, of job → what went wrong."""
    return [
        f"{key}, of the model without adaptation, could not be trained: {error}; run again to try again"
        for key, error in errors.items()
        if SOURCE_ONLY_KEY in key
    ]


def caveats(space: Space, params: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what a user should know: parameters at a bound, an objective that IIMT itself trains."""
    texts = at_bounds(space, params)
    trained = VALIDATORS[space.objective].trained
    if trained:
        texts.append(f"chosen by {space.objective}, which the method trains directly: {trained}")
    return tuple(texts)
