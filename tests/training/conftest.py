"""Tasks of other kinds of samples than images."""

from collections.abc import Callable

import numpy as np
import pytest

from iimt_search.data.task import DomainTask, Labelled, Unlabelled
from iimt_search.kinds import Kind


@pytest.fixture
def kind_task() -> Callable[[Kind], DomainTask]:
    """A function that makes a small task of series or vectors."""

    def make(kind: Kind) -> DomainTask:
        rng = np.random.default_rng(0)
        shape = (3, 16) if kind == "series" else (6,)
        source, target = (rng.normal(size=(40, *shape)).astype(np.float32) for _ in range(2))
        labelled = Labelled(source, rng.integers(3, size=40))
        return DomainTask(
            name=f"{kind}->{kind}",
            classes=("a", "b", "c"),
            kind=kind,
            augmentation="series" if kind == "series" else "noise",
            source_train=labelled,
            source_val=labelled.subset(np.arange(10)),
            target=Unlabelled(target),
            fingerprint=kind,
        )

    return make
