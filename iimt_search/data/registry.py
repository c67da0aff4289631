"""The embedded domains by name. Torch-free, and nothing is imported before a domain is built."""

from importlib import import_module
from typing import Protocol, cast

from iimt_search.data.cache import cached
from iimt_search.data.task import Domain
from iimt_search.errors import DataError

DOMAINS: dict[str, str] = {
    "digits": "iimt_search.data.digits",
    "digits-m": "iimt_search.data.digits_m",
    "syn-digits": "iimt_search.data.syn_digits",
}


class DomainModule(Protocol):
    """What a module must offer to be a domain."""

    VERSION: int

    def build(self, image_size: int) -> Domain:
        """Make the domain with square images of ``image_size`` pixels."""


def load_domain(name: str, image_size: int) -> Domain:
    """Return the domain ``name`` with square images of ``image_size`` pixels, made at first use.

    Raises:
        DataError: no domain has this name.
    """
    if name not in DOMAINS:
        raise DataError(f"there is no domain {name!r}; there are {', '.join(DOMAINS)}")
    module = cast(DomainModule, import_module(DOMAINS[name]))
    return cached(f"{name}-v{module.VERSION}-{image_size}px", lambda: module.build(image_size))
