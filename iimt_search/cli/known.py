"""What a space file may name, gathered from the floors that know."""

from iimt_search.data.registry import DOMAINS
from iimt_search.space import KnownNames
from iimt_search.validators.registry import VALIDATORS


def known_names() -> KnownNames:
    """Return what a space file may name."""
    return KnownNames(
        DOMAINS,
        VALIDATORS,
        comparing=[name for name, found in VALIDATORS.items() if found.cost == "pool"],
        few_shot=[name for name, found in VALIDATORS.items() if "few-shot labels" in found.needs],
    )
