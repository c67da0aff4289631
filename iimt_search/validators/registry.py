"""Every validator by name. Importing this file imports neither torch nor scikit-learn."""

from typing import Literal, NamedTuple

Cost = Literal["free", "probe", "training"]


class Validator(NamedTuple):
    """What is known of a validator without running it.

    Attributes:
        module: import path of the module whose ``score(predictions)`` computes it.
        higher_is_better: the score's direction.
        cost: ``free`` (from predictions alone), ``probe`` (fits a small model), ``training``
            (about one more training; at the last evaluation only).
        unit: of the score.
        failure: how it is known to fail.
        parts: validators whose scores its module's ``combine`` puts together, instead of ``score``.
    """

    module: str
    higher_is_better: bool
    cost: Cost
    unit: str
    failure: str
    parts: tuple[str, ...] = ()


_HERE = "iimt_search.validators"

VALIDATORS: dict[str, Validator] = {
    "composite": Validator(
        f"{_HERE}.composite",
        True,
        "probe",
        "[0, 1]",
        "its three parts failing together",
        parts=("source_accuracy", "class_ami", "diversity"),
    ),
    "source_accuracy": Validator(f"{_HERE}.source_accuracy", True, "free", "[0, 1]", "blind to the shift"),
    "entropy": Validator(
        f"{_HERE}.entropy",
        False,
        "free",
        "nats, [0, ln C]",
        "confident and wrong; a collapse is perfect",
    ),
    "information_maximisation": Validator(
        f"{_HERE}.information_maximisation", True, "free", "nats, [0, ln C]", "assumes balanced classes"
    ),
    "diversity": Validator(f"{_HERE}.diversity", True, "free", "[0, 1]", "assumes balanced classes"),
    "class_ami": Validator(
        f"{_HERE}.class_ami", True, "probe", "about [0, 1]", "clusters that are consistent and wrong"
    ),
    "reverse_probe": Validator(
        f"{_HERE}.reverse_probe", True, "probe", "[0, 1]", "weaker than the full reverse validation"
    ),
    "reverse_validation": Validator(
        f"{_HERE}.reverse_validation", True, "training", "[0, 1]", "doubles the cost of a training"
    ),
}


def default_validators() -> tuple[str, ...]:
    """Return the validators scored where a space file does not say: all that need no training."""
    return tuple(name for name, validator in VALIDATORS.items() if validator.cost != "training")
