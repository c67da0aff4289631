"""iimt-search: hyperparameters of a domain-adaptation training, found without a target label."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from iimt_search.api import (
        audit,
        best,
        compare,
        export,
        load_space,
        rerun,
        run,
        score,
        status,
        write_report,
    )
    from iimt_search.auditing.models import audit_models
    from iimt_search.estimators.classifier import IIMTClassifier
    from iimt_search.estimators.scorer import validator_scorer
    from iimt_search.exporting.load import load_model
    from iimt_search.judging.judge import choose

__version__ = "0.1.0"
__all__ = [
    "IIMTClassifier",
    "__version__",
    "audit",
    "audit_models",
    "best",
    "choose",
    "compare",
    "export",
    "load_model",
    "load_space",
    "rerun",
    "run",
    "score",
    "status",
    "validator_scorer",
    "write_report",
]
# Where what is not in api lies.
_HOMES = {
    "IIMTClassifier": "iimt_search.estimators.classifier",
    "audit_models": "iimt_search.auditing.models",
    "choose": "iimt_search.judging.judge",
    "load_model": "iimt_search.exporting.load",
    "validator_scorer": "iimt_search.estimators.scorer",
}


def __getattr__(name: str) -> Any:
    # Loaded when first used: importing the package, as every command does, must not import torch.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES.get(name, "iimt_search.api")), name)
