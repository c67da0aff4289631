"""The target labels. Only the audit imports this module, and only after the choice has been made.

import-linter fails when anything else imports it.
"""

from dataclasses import dataclass

from iimt_search.data.assemble import task_image_size
from iimt_search.data.open import open_with_labels
from iimt_search.data.task import Labelled, Unlabelled, renumbered
from iimt_search.errors import DataError
from iimt_search.space.task_spec import TaskSpec


@dataclass(frozen=True)
class SealedTarget:
    """A target domain with its labels, in the source's order of classes.

    Attributes:
        train: the samples that training saw without labels, for the labelled-target ceiling; None
            where the target has no labels for them.
        test: the samples to measure on.
        unseen: whether training has seen none of ``test``. Where a target has labels but no test part,
            ``test`` is ``train``.
    """

    train: Labelled | None
    test: Labelled
    unseen: bool


def open_sealed_target(spec: TaskSpec, classes: tuple[str, ...], image_size: int = 0) -> SealedTarget:
    """Return the labels of a task's target.

    Args:
        spec: the task.
        classes: its classes, as in :class:`~iimt_search.data.task.DomainTask`.
        image_size: as for training.

    Raises:
        DataError: the target has no labels at all.
    """
    domain = open_with_labels(spec.target, task_image_size(spec, image_size))
    # Every name is among the source's: the task could not have been made otherwise.
    names = domain.classes or ()

    def relabelled(part: Labelled | Unlabelled | None) -> Labelled | None:
        return Labelled(part.x, renumbered(part.y, names, classes)) if isinstance(part, Labelled) else None

    train, test = relabelled(domain.train), relabelled(domain.test)
    if test is not None:
        return SealedTarget(train, test, unseen=True)
    if train is None:
        raise DataError(f"{spec.name}: the target has no labels, there is nothing to audit with")
    return SealedTarget(train, train, unseen=False)
