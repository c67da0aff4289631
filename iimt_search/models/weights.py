"""The weights of pretrained networks: published ones, or of a file."""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, cast
from urllib.error import URLError

import torch
from torch import Tensor

from iimt_search.errors import DataError
from iimt_search.kinds import OWN
from iimt_search.models.pretrained import AUXILIARY, Backbone, classifier_of, import_timm, initial_state
from iimt_search.settings import NO_FILES


def _entries(content: Any) -> dict[str, Tensor]:
    """Return the weights in what a file of PyTorch held: itself, or what it has under a usual name."""
    while isinstance(content, Mapping) and not any(isinstance(value, Tensor) for value in content.values()):
        inner = next(
            (content[key] for key in ("state_dict", "model", "model_state_dict") if key in content), None
        )
        if inner is None:
            break
        content = inner
    if not isinstance(content, Mapping):
        return {}
    return {
        str(name).removeprefix("module."): value
        for name, value in content.items()
        if isinstance(value, Tensor)
    }


def _read_file(path: Path) -> dict[str, Tensor]:
    from pickle import UnpicklingError

    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return _entries(torch.load(path, map_location="cpu", weights_only=True))
    except FileNotFoundError as error:
        raise DataError(f"there is no file of weights {path}") from error
    except (OSError, RuntimeError, UnpicklingError, SafetensorError, EOFError, ValueError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        if isinstance(error, UnpicklingError):  # its advice is to run what the file says
            first = "it holds other things than tensors, or nothing"
        raise DataError(
            f"{path} cannot be read as weights ({first}); they are .safetensors, or .pth with tensors alone"
        ) from error


def published_file(name: str) -> tuple[Path, str] | None:
    """Return where a torchvision network's published weights lie, once fetched, and their address."""
    family, _, rest = name.partition(":")
    if family != "torchvision":
        return None
    from torchvision import models

    url = models.get_model_weights(rest).DEFAULT.url
    return Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[-1], url


@contextmanager
def _fetching(name: str, where: str) -> Iterator[None]:
    try:
        yield
    except (URLError, OSError, RuntimeError) as error:
        reason = getattr(error, "reason", None) or str(error).splitlines()[0]
        raise DataError(
            f"the published weights of {name} cannot be fetched ({reason}): {where}, or name a file by "
            f"`train.weights`"
        ) from error


def published_weights(name: str) -> dict[str, Tensor]:
    """Return a network's published weights, which its library fetches once and keeps.

    Raises:
        DataError: they cannot be fetched; says which file to place where.
    """
    family, _, rest = name.partition(":")
    if family == "timm":
        timm = import_timm()
        hub = timm.create_model(rest, pretrained=False).pretrained_cfg.get("hf_hub_id") or f"timm/{rest}"
        where = f"place model.safetensors of https://huggingface.co/{hub} on this machine"
        with _fetching(name, where):
            network = timm.create_model(rest, pretrained=True, num_classes=0)
            return cast(dict[str, Tensor], network.state_dict())
    from torchvision import models

    place = published_file(name)
    assert place is not None
    with _fetching(name, f"place {place[0].name} of {place[1]} in {place[0].parent}"):
        state = models.get_model_weights(rest).DEFAULT.get_state_dict(progress=False, check_hash=True)
    return dict(state)


def load_weights(backbone: Backbone, name: str, weights: str) -> None:
    """Give a network weights.

    Args:
        backbone: the network.
        name: its name.
        weights: ``imagenet`` for the published ones, which its library fetches and keeps; ``none`` for those
            that it begins with; or a file, ``.safetensors`` or ``.pth``. A network of one's own has its own
            unless a file is named.

    Raises:
        DataError: they cannot be fetched or read, or do not fit; says what is missing and what is left over.
    """
    own = name.startswith(OWN)
    if weights == "none" or (own and weights == "imagenet"):
        return
    state = published_weights(name) if weights == "imagenet" else _read_file(Path(weights).expanduser())
    wanted = backbone.network.state_dict()
    classifier = classifier_of(name)
    state = {
        key: value
        for key, value in state.items()
        if not (classifier and key.startswith(f"{classifier}."))
        and not key.startswith(tuple(f"{a}." for a in AUXILIARY))
    }
    made = ("num_batches_tracked", "source_mean", "source_var")
    missing = [key for key in wanted if key not in state and not key.endswith(made)]
    extra = [key for key in state if key not in wanted]
    other = [key for key in wanted if key in state and state[key].shape != wanted[key].shape]
    if missing or extra or other:
        said = {"missing": missing, "left over": extra, "of another shape": other}
        listed = "; ".join(
            f"{len(keys)} {what}: {', '.join(keys[:5])}{', …' if len(keys) > 5 else ''}"
            for what, keys in said.items()
            if keys
        )
        raise DataError(f"the weights {weights} do not fit {name}: {listed}")
    backbone.network.load_state_dict(state, strict=False)


@cache
def weights_key(name: str, weights: str) -> str:
    """Return what tells a network's weights from others: a hash of a file or of one's own, else a text.

    Raises:
        DataError: the file cannot be read.
    """
    if name.startswith(OWN) and weights in NO_FILES:
        digest = hashlib.sha256()
        for key, value in initial_state(name).items():
            digest.update(key.encode())
            digest.update(value.contiguous().numpy().tobytes())
        return digest.hexdigest()
    if weights in NO_FILES:
        return weights
    try:
        return hashlib.sha256(Path(weights).expanduser().read_bytes()).hexdigest()
    except OSError as error:
        raise DataError(f"there is no file of weights {weights}") from error
