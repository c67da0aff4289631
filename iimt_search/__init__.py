"""iimt-search: hyperparameters of a domain-adaptation training, found without a target label."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from iimt_search.training.load import load_model

__version__ = "0.1.0"
__all__ = ["__version__", "load_model"]


def __getattr__(name: str) -> Any:
    # Loaded when first used: importing the package, as every command does, must not import torch.
    if name == "load_model":
        from iimt_search.training.load import load_model

        return load_model
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
