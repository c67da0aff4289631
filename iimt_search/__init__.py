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
    from iimt_search.exporting.load import load_model

__version__ = "0.1.0"
__all__ = [
    "__version__",
    "audit",
    "best",
    "compare",
    "export",
    "load_model",
    "load_space",
    "rerun",
    "run",
    "score",
    "status",
    "write_report",
]


def __getattr__(name: str) -> Any:
    # Loaded when first used: importing the package, as every command does, must not import torch.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = "iimt_search.exporting.load" if name == "load_model" else "iimt_search.api"
    return getattr(import_module(home), name)
