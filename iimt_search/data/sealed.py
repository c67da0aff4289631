"""The target labels. Only the audit imports this module, and only after the choice has been made.

``tests/test_house.py`` fails when anything else imports it.
"""

from dataclasses import dataclass

from iimt_search.data.registry import load_domain
from iimt_search.data.task import Labelled
from iimt_search.task_name import parse_task_name


@dataclass(frozen=True)
class SealedTarget:
    """A target domain with its labels.

    Attributes:
        train: the samples that training saw without labels; for the labelled-target ceiling.
        test: the samples that nothing saw; for the accuracy of the choice.
    """

    train: Labelled
    test: Labelled


def open_sealed_target(task: str, image_size: int) -> SealedTarget:
    """Return the labels of the target of ``task`` (``source->target``)."""
    domain = load_domain(parse_task_name(task).target, image_size)
    return SealedTarget(domain.train, domain.test)
