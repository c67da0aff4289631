"""iimt-search: hyperparameters of a domain-adaptation training, found without a target label."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from iimt_search.api import audit, best, export, load_space, run
    from iimt_search.exporting.load import load_model

__version__ = "0.1.0"
__all__ = ["__version__", "audit", "best", "export", "load_model", "load_space", "run"]

# Loaded when first used: importing the package, as every command does, must not import torch.
_HOMES = {
    "audit": "iimt_search.api",
    "best": "iimt_search.api",
    "export": "iimt_search.api",
    "load_model": "iimt_search.exporting.load",
    "load_space": "iimt_search.api",
    "run": "iimt_search.api",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
