"""Every validator by name. Importing this file imports neither torch nor scikit-learn."""

from typing import Literal, NamedTuple

from iimt_search.registry import Registry

Cost = Literal["free", "probe", "short training", "training", "reference", "pool"]
Need = Literal[
    "source logits",
    "source labels",
    "source embeddings",
    "target logits",
    "target embeddings",
    "classifier weights",
    "mixtures",
    "few-shot labels",
    "reverse training",
    "reference labels",
    "all candidates",
]


class Validator(NamedTuple):
    """What is known of a validator without running it.

    Attributes:
        module: import path of the module whose ``score(predictions)`` computes it; of a validator whose
            cost is ``pool``, ``score_pool(list of target logits)``.
        higher_is_better: the score's direction.
        cost: ``free`` (from predictions alone), ``probe`` (fits a small model or
            compares all pairs of samples), ``short training`` and
            ``training`` (a tenth of one more training, and a whole one; at the last evaluation only),
            ``reference`` (compares with what the study's first trials together say; by the driver),
            ``pool`` (compares all candidates; at the final choice and by ``score`` only).
        needs: what it looks at.
        unit: of the score, and its range.
        failure: how it is known to fail.
        reference: where it was published; "ours" where nowhere.
        trained: what of IIMT's own loss trains this score directly, or "". A configuration can then
            win by training the score instead of the model.
        parts: validators whose scores its module's ``combine`` puts together, instead of ``score``.
    """

    module: str
    higher_is_better: bool
    cost: Cost
    needs: tuple[Need, ...]
    unit: str
    failure: str
    reference: str
    trained: str = ""
    parts: tuple[str, ...] = ()


_HERE = "iimt_search.validators"
_RATIO: tuple[Need, ...] = ("source logits", "source labels", "source embeddings", "target embeddings")
_REVERSE: tuple[Need, ...] = ("source labels", "reverse training")
_DISCRIMINATOR = "the adversarial term makes the domains look alike, which levels the weights"

_BUILT_IN = {
    "consensus": Validator(
        f"{_HERE}.consensus",
        True,
        "reference",
        ("target logits", "reference labels"),
        "[0, 1]",
        "first trials whose majority is wrong",
        "ours, after Hu et al. 2023b",
    ),
    "composite": Validator(
        f"{_HERE}.composite",
        True,
        "probe",
        ("source logits", "source labels", "target logits", "target embeddings"),
        "[0, 1]",
        "its three parts failing together",
        "ours",
        parts=("source_accuracy", "class_ami", "diversity"),
    ),
    "source_accuracy": Validator(
        f"{_HERE}.source_accuracy",
        True,
        "free",
        ("source logits", "source labels"),
        "[0, 1]",
        "blind to the shift",
        "Musgrave et al. 2022",
    ),
    "source_risk": Validator(
        f"{_HERE}.source_risk",
        False,
        "free",
        ("source logits", "source labels"),
        "nats, [0, ∞)",
        "blind to the shift; mixup trains unconfident predictions",
        "Ganin et al. 2016",
    ),
    "entropy": Validator(
        f"{_HERE}.entropy",
        False,
        "free",
        ("target logits",),
        "nats, [0, ln C]",
        "confident and wrong; a collapse is perfect",
        "Morerio et al. 2018",
        trained="temperature sharpens the virtual labels of both target mixing terms",
    ),
    "information_maximisation": Validator(
        f"{_HERE}.information_maximisation",
        True,
        "free",
        ("target logits",),
        "nats, [0, ln C]",
        "assumes balanced classes; confident and wrong",
        "Krause et al. 2010",
        trained="temperature sharpens the virtual labels of both target mixing terms",
    ),
    "diversity": Validator(
        f"{_HERE}.diversity",
        True,
        "free",
        ("target logits",),
        "[0, 1]",
        "assumes balanced classes",
        "ours",
    ),
    "bnm": Validator(
        f"{_HERE}.bnm",
        True,
        "free",
        ("target logits",),
        "[1/C, 1]",
        "assumes balanced classes",
        "Cui et al. 2020",
    ),
    "corr_c": Validator(
        f"{_HERE}.corr_c",
        True,
        "free",
        ("target logits",),
        "[1, √C]",
        "assumes balanced classes; published code also ranks it the other way round",
        "Tu et al. 2023",
    ),
    "mano": Validator(
        f"{_HERE}.mano",
        True,
        "free",
        ("target logits",),
        "[1/C, C^(−1/4)]",
        "confidence by another name: confident and wrong",
        "Xie et al. 2024",
        trained="temperature sharpens the virtual labels of both target mixing terms",
    ),
    "snd": Validator(
        f"{_HERE}.snd",
        True,
        "probe",
        ("target embeddings",),
        "nats, [0, ln(N − 1)]",
        "a total collapse of the embeddings is perfect",
        "Saito et al. 2021",
    ),
    "classes_predicted": Validator(
        f"{_HERE}.classes_predicted",
        True,
        "free",
        ("target logits",),
        "[0, 1]",
        "a check for vetoes: says nothing of right and wrong",
        "ours",
    ),
    "embedding_spread": Validator(
        f"{_HERE}.embedding_spread",
        True,
        "free",
        ("target embeddings",),
        "[0, 1]",
        "a check for vetoes: says nothing of right and wrong",
        "ours",
    ),
    "class_ami": Validator(
        f"{_HERE}.class_ami",
        True,
        "probe",
        ("target logits", "target embeddings"),
        "about [0, 1]",
        "clusters that are consistent and wrong",
        "Musgrave et al. 2022",
    ),
    "class_ss": Validator(
        f"{_HERE}.class_ss",
        True,
        "probe",
        ("target embeddings", "target logits"),
        "[−1, 1]",
        "hardly looks at the predictions",
        "Musgrave et al. 2022",
    ),
    "trans_score": Validator(
        f"{_HERE}.trans_score",
        True,
        "probe",
        ("target logits", "target embeddings", "classifier weights"),
        "[−π², 2]",
        "assumes balanced classes",
        "Yang et al. 2024",
    ),
    "neighbour_agreement": Validator(
        f"{_HERE}.neighbour_agreement",
        True,
        "probe",
        ("source labels", "source embeddings", "target logits", "target embeddings"),
        "[0, 1]",
        "domains aligned class to wrong class",
        "ours",
    ),
    "iwcv": Validator(
        f"{_HERE}.iwcv",
        False,
        "probe",
        _RATIO,
        "nats, [0, ∞)",
        "rewards domains that are easily told apart: small weights make a small risk",
        "Sugiyama et al. 2007",
        trained=_DISCRIMINATOR,
    ),
    "dev": Validator(
        f"{_HERE}.dev",
        False,
        "probe",
        _RATIO,
        "nats, unbounded, may be below 0",
        "unbounded: two thirds of one benchmark's winners had a negative risk",
        "You et al. 2019",
        trained=_DISCRIMINATOR,
    ),
    "devn": Validator(
        f"{_HERE}.devn",
        False,
        "probe",
        _RATIO,
        "nats, [0, ∞)",
        "weights near 1 leave the plain source risk",
        "Musgrave et al. 2022",
        trained=_DISCRIMINATOR,
    ),
    "mixval": Validator(
        f"{_HERE}.mixval",
        True,
        "free",
        ("mixtures",),
        "[0, 1]",
        "rewards mixup training itself",
        "Hu et al. 2023",
        trained="intra-domain mixup of the target, whose weight is lambda_max, is this very test",
    ),
    "reverse_probe": Validator(
        f"{_HERE}.reverse_probe",
        True,
        "probe",
        ("target logits", "target embeddings", "source labels", "source embeddings"),
        "[0, 1]",
        "weaker than the full reverse validation",
        "ours, after Ganin et al. 2016",
    ),
    "few_shot": Validator(
        f"{_HERE}.few_shot",
        True,
        "free",
        ("few-shot labels",),
        "[0, 1]",
        "few samples: see its interval",
        "plain accuracy",
    ),
    "reverse_validation_short": Validator(
        f"{_HERE}.reverse_validation_short",
        True,
        "short training",
        _REVERSE,
        "[0, 1]",
        "begins with the model's own knowledge of the source",
        "ours, after Ganin et al. 2016",
    ),
    "reverse_validation": Validator(
        f"{_HERE}.reverse_validation",
        True,
        "training",
        _REVERSE,
        "[0, 1]",
        "doubles the cost of a training",
        "Ganin et al. 2016, section 5.1.2",
    ),
    "ens_v": Validator(
        f"{_HERE}.ens_v",
        True,
        "pool",
        ("all candidates",),
        "[0, 1]",
        "a pool whose majority is wrong",
        "Hu et al. 2023b",
    ),
}

VALIDATORS = Registry("validator", Validator, _BUILT_IN)


def at_the_end(name: str) -> bool:
    """Return whether a validator is computed at a training's end only: it needs more than predictions."""
    validator = VALIDATORS[name]
    return validator.cost in ("short training", "training") or "mixtures" in validator.needs


# Of those that fit a model: what the default objective needs anyway, and one that costs nothing.
_DEFAULT_PROBES = ("composite", "class_ami", "reverse_probe")


def default_validators() -> tuple[str, ...]:
    """Return the validators scored during training where a space file does not say: all quick built-in ones.

    The others can be computed later, from the kept checkpoints, by ``iimt-search score``.
    """
    return tuple(
        name
        for name, validator in VALIDATORS.built_in.items()
        if name in _DEFAULT_PROBES or (validator.cost == "free" and "few-shot labels" not in validator.needs)
    )
