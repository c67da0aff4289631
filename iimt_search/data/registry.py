"""The domains that have a name. Torch-free, and nothing is imported before a domain is built."""

import hashlib
from typing import NamedTuple

from iimt_search.data.store import DomainStream, cached, data_root, stream_of
from iimt_search.data.task import Domain
from iimt_search.errors import DataError
from iimt_search.registry import Registry, load_object


class NamedDomain(NamedTuple):
    """A domain that a space file can name.

    Attributes:
        builder: ``module:function``; the function takes the image size in pixels and returns a
            :class:`~iimt_search.data.task.Domain` or a :class:`~iimt_search.data.store.DomainStream`.
        version: raised whenever what the builder makes changes; part of the cache's key.
        size: side of its images in pixels where nothing else is said; 0 where it has no images.
        download: whether it is downloaded first (or placed by hand).
        what: one line for people.
        counted: whether as many training samples as asked for can be made; the builder then takes
            ``count`` too.
        reads: folder under the data root whose files decide what is made; part of the cache's key.
    """

    builder: str
    version: int
    size: int
    download: bool
    what: str
    counted: bool = False
    reads: str = ""


_HERE = "iimt_search.data.domains"
_TORCHVISION = f"{_HERE}.torchvision_sets"

_BUILT_IN = {
    "digits": NamedDomain(f"{_HERE}.digits:build", 2, 16, False, "scikit-learn's real handwritten digits"),
    "digits-m": NamedDomain(
        f"{_HERE}.digits:build_m", 2, 16, False, "the same blended with photographs, as MNIST-M"
    ),
    "syn-digits": NamedDomain(
        f"{_HERE}.syn_digits:build",
        3,
        16,
        False,
        "digits rendered from packaged fonts, as SYN DIGITS",
        counted=True,
    ),
    "mnist": NamedDomain(f"{_HERE}.mnist:build", 1, 32, True, "MNIST, handwritten digits"),
    "mnist-m": NamedDomain(
        f"{_HERE}.mnist:build_m", 1, 32, True, "MNIST blended with the photographs you place", reads="photos"
    ),
    "usps": NamedDomain(f"{_TORCHVISION}:usps", 1, 32, True, "USPS, digits from envelopes"),
    "svhn": NamedDomain(f"{_TORCHVISION}:svhn", 1, 32, True, "SVHN, digits of photographed house numbers"),
    "cifar10": NamedDomain(f"{_TORCHVISION}:cifar10", 1, 32, True, "CIFAR-10, the nine classes of STL-10"),
    "stl10": NamedDomain(f"{_TORCHVISION}:stl10", 1, 32, True, "STL-10, the nine classes of CIFAR-10"),
    "motions": NamedDomain(
        f"{_HERE}.motions:build", 1, 0, False, "BasicMotions, four activities felt by a smart watch"
    ),
    "motions-turned": NamedDomain(
        f"{_HERE}.motions:build_turned", 1, 0, False, "other recordings of them, with the sensor turned"
    ),
}

DOMAINS = Registry("domain", NamedDomain, _BUILT_IN)


def _listing(folder: str) -> str:
    """Return a hash of the names and sizes of the files in a folder of the data root."""
    path = data_root() / folder
    files = sorted((f.name, f.stat().st_size) for f in path.iterdir() if f.is_file()) if path.is_dir() else []
    return hashlib.sha256(repr(files).encode()).hexdigest()[:12]


def load_domain(name: str, image_size: int, count: int | None = None) -> Domain:
    """Return the domain ``name`` with square images of ``image_size`` pixels, made at first use.

    Args:
        name: one of :data:`DOMAINS`.
        image_size: in pixels; of no use to a domain without images.
        count: training samples, of a domain that can make as many as asked for.

    Raises:
        DataError: no domain has this name, or it cannot be made.
    """
    if name not in DOMAINS:
        raise DataError(f"there is no domain {name!r}; there are {', '.join(DOMAINS)}")
    entry = DOMAINS[name]
    if count is not None and not entry.counted:
        made = ", ".join(other for other, domain in DOMAINS.items() if domain.counted)
        raise DataError(f"domain {name!r} has as many samples as it has; `count` goes with {made}")
    arguments = {} if count is None else {"count": count}

    def build() -> DomainStream:
        built = load_object(entry.builder)(image_size, **arguments)
        return stream_of(built) if isinstance(built, Domain) else built

    files = f"-{_listing(entry.reads)}" if entry.reads else ""
    made_to_count = "" if count is None else f"-{count}"
    return cached(f"{name}-v{entry.version}-{image_size}px{files}{made_to_count}", build)
