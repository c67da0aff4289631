"""What photographs are trained with where a space names no network."""

from collections.abc import Callable
from contextlib import suppress

from iimt_search.data.open import side_on_disk
from iimt_search.errors import DataError
from iimt_search.kinds import is_pretrained
from iimt_search.settings import TrainSettings
from iimt_search.space import Space

# Small and well known; what is larger costs more and adapts better.
BACKBONE = "torchvision:resnet18"
# Pixels; smaller images are no photographs to a network of ImageNet.
_LARGE = 64


def _sides(space: Space) -> list[float]:
    """Return the sides of all images before they are resized; what cannot be read is told elsewhere."""
    domains = dict.fromkeys(domain for task in space.tasks for domain in (*task.source, task.target))
    sides = []
    for domain in domains:
        with suppress(DataError):
            sides.append(side_on_disk(domain))
    return sides


def with_backbone(space: Space, line: Callable[[str], None], known: str = "") -> Space:
    """Return a space with a small pretrained network where its tasks are photographs and it names none.

    Args:
        space: the user's.
        line: takes what was done, or could be.
        known: network of the study so far; "" where it is a new one.
    """
    chosen = ("network", "image_size")
    if (
        space.train.network != "auto"
        or space.train.image_size
        or any(name in space.search for name in chosen)
    ):
        return space
    if not known:
        sides = _sides(space)
        if not sides or min(sides) <= _LARGE:
            return space
        from iimt_search.models.weights import published_weights  # torch, where it is wanted

        what = f"photographs of {min(sides):g} pixels and more"
        try:
            published_weights(BACKBONE)
        except DataError as error:
            line(f"{what} are trained small: {error}; features of a pretrained network would be better")
            return space
        line(f"{what}: features of {BACKBONE} are computed once; `train.network` names another, or small")
    elif not is_pretrained(known):
        return space
    train = space.train.model_dump(mode="json", exclude_unset=True) | {"network": known or BACKBONE}
    return space.model_copy(update={"train": TrainSettings.model_validate(train)})
