"""Features of all pretrained networks that a space has, before a worker starts."""

from collections.abc import Iterator
from itertools import product

from iimt_search.features.extract import Progress, featurizer_of, load_training_task
from iimt_search.models.device import resolve_device
from iimt_search.settings import TrainSettings
from iimt_search.space import NumberRange, Space
from iimt_search.space.task_spec import TaskSpec

# What features depend on.
_SETTINGS = ("network", "weights", "freeze", "views", "image_size", "precision")


def _settings(space: Space) -> Iterator[TrainSettings]:
    """Give settings with every combination of choices that features depend on; of ranges the smallest."""
    values = [
        space.values(name)[: 1 if isinstance(space.search.get(name), NumberRange) else None]
        for name in _SETTINGS
    ]
    for combination in product(*values):
        yield space.train.model_copy(update=dict(zip(_SETTINGS, combination, strict=True)))


def prepare_features(spec: TaskSpec, space: Space, device: str, progress: Progress) -> None:
    """Compute the features of a task that trials of a space will ask for, where they are not there yet.

    Args:
        spec: the task.
        space: whose trials.
        device: where to compute; ``auto`` as for trainings.
        progress: takes what is done, how many and of how many.

    Raises:
        DataError: a domain cannot be made, or a network's weights cannot be had.
        UsageError: there is no such network.
    """
    for settings in _settings(space):
        if featurizer_of(spec, settings) is not None:
            load_training_task(spec, settings, resolve_device(device), progress)
