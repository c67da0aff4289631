"""The loss terms, and the methods that are made of them.

Whatever depends on which terms a training has follows from :data:`TERMS`. Torch-free: a term's loss is
imported when it is computed. The equations stand in ``docs/method.md``.
"""

from collections.abc import KeysView, Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from iimt_search.settings import TrainSettings

# Source, target, and mixtures: of both domains with the source dominant and with the target dominant, of
# the source with itself, of the target with itself. The first letter names the operand that dominates.
Group = Literal["s", "t", "st", "ts", "ss", "tt"]
GROUPS: tuple[Group, ...] = ("s", "t", "st", "ts", "ss", "tt")


class Term(NamedTuple):
    """One loss term.

    Attributes:
        name: in messages and results.
        loss: ``module:function``; the function takes a :class:`~iimt_search.iimt.losses.Step` and returns the
            unweighted loss, a scalar.
        weight: the setting that is its weight.
        groups: the samples that must be embedded for it.
        adapts: whether it looks at target samples.
        schedule: of its weight: ``constant``; ``ramped`` as the gradient reversal is; ``linear`` from 0 to
            the weight, or to what ``lambda_schedule`` says in its place.
        virtual_labels: whether it needs virtual labels of the target's samples.
        uses: settings that are usually searched and mean something while the term is active.
    """

    name: str
    loss: str
    weight: str
    groups: tuple[Group, ...]
    adapts: bool = True
    schedule: Literal["constant", "ramped", "linear"] = "constant"
    virtual_labels: bool = False
    uses: tuple[str, ...] = ()


_LOSSES = "iimt_search.iimt.losses"
_VIRTUAL = ("alpha", "temperature", "k")

TERMS: dict[str, Term] = {
    term.name: term
    for term in (
        Term("source", f"{_LOSSES}:source", "w_source", ("s",), adapts=False),
        Term(
            "inter_domain",
            f"{_LOSSES}:inter_domain",
            "w_q",
            ("st", "ts"),
            virtual_labels=True,
            uses=_VIRTUAL,
        ),
        Term("adversarial", f"{_LOSSES}:adversarial", "w_d", ("s", "t")),
        Term(
            "consistency",
            f"{_LOSSES}:consistency",
            "w_z",
            ("s", "t", "st"),
            schedule="ramped",
            uses=("alpha",),
        ),
        Term("intra_source", f"{_LOSSES}:intra_source", "w_s", ("ss",), adapts=False, uses=("alpha",)),
        Term(
            "intra_target",
            f"{_LOSSES}:intra_target",
            "lambda_max",
            ("tt",),
            schedule="linear",
            virtual_labels=True,
            uses=("lambda_max", *_VIRTUAL),
        ),
    )
}


class Method(NamedTuple):
    """A named combination of terms.

    Attributes:
        title: for people.
        weights: term → weight, greater than 0; every other term's is 0.
    """

    title: str
    weights: Mapping[str, float]

    @property
    def adapts(self) -> bool:
        """Whether one of its terms looks at target samples."""
        return any(TERMS[name].adapts for name in self.weights)

    @property
    def settings(self) -> dict[str, Any]:
        """The training settings that make a training this method's: all weights."""
        weights = {term.weight: self.weights.get(term.name, 0.0) for term in TERMS.values()}
        return {**weights, "lambda_schedule": ()}


METHODS: dict[str, Method] = {
    "iimt": Method(
        "IIMT (inter- and intra-domain mixup training, Yan et al. 2020)",
        dict.fromkeys(("inter_domain", "adversarial", "consistency", "intra_source", "intra_target"), 1.0),
    ),
    "dann": Method(
        "DANN (domain-adversarial training, Ganin et al. 2016)", {"source": 1.0, "adversarial": 1.0}
    ),
    "source-only": Method("Without adaptation, on labelled source samples alone", {"source": 1.0}),
}


def active_terms(settings: "TrainSettings | Mapping[str, Any]") -> KeysView[str]:
    """Return the terms that have a weight above 0 at some step, in order; the others are not computed.

    A term whose weight a mapping lacks, such as one that an earlier version has written, is not active.
    """
    values = settings if isinstance(settings, Mapping) else vars(settings)

    def active(term: Term) -> bool:
        earlier = values.get("lambda_schedule", ()) if term.schedule == "linear" else ()
        return any(value > 0 for value in (values.get(term.weight, 0.0), *(value for _, value in earlier)))

    return {name: term for name, term in TERMS.items() if active(term)}.keys()


def needs_virtual_labels(settings: "TrainSettings") -> bool:
    """Return whether an active term needs virtual labels."""
    return any(TERMS[name].virtual_labels for name in active_terms(settings))


def active_groups(settings: "TrainSettings") -> list[Group]:
    """Return the groups of samples that the active terms need, in the order of :data:`GROUPS`."""
    needed = {group for name in active_terms(settings) for group in TERMS[name].groups}
    return [group for group in GROUPS if group in needed]


def used_settings(settings: "TrainSettings | Mapping[str, Any]") -> set[str]:
    """Return those of the usually searched settings that mean something to an active term."""
    return {setting for name in active_terms(settings) for setting in TERMS[name].uses}


def method_title(settings: "TrainSettings | Mapping[str, Any]") -> str:
    """Return for people which method a configuration is, and which terms it has more or less than that."""
    active = active_terms(settings)
    adapts = any(TERMS[name].adapts for name in active)
    alike = [
        method
        for method in METHODS.values()
        if method.adapts == adapts and (method.weights.keys() <= active or active <= method.weights.keys())
    ]
    if not alike:
        return f"{'With' if adapts else 'Without'} adaptation, by the terms {', '.join(active)}"
    nearest = min(alike, key=lambda method: len(method.weights.keys() ^ active))
    less = [name for name in nearest.weights if name not in active]
    more = [name for name in active if name not in nearest.weights]
    changes = [f", {word} {', '.join(names)}" for word, names in (("without", less), ("with", more)) if names]
    return nearest.title + "".join(changes)
