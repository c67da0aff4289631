import numpy as np
import pytest

from iimt_search.data.assemble import load_task
from iimt_search.data.registry import load_domain
from iimt_search.data.sealed import open_sealed_target
from iimt_search.errors import DataError


def test_labels_belong_to_the_samples_that_training_saw() -> None:
    sealed, task = open_sealed_target("digits->digits-m", 8), load_task("digits->digits-m", 8)
    assert np.array_equal(sealed.train.x, task.target.x)
    domain = load_domain("digits-m", 8)
    assert np.array_equal(sealed.train.y, domain.train.y)
    assert np.array_equal(sealed.test.x, domain.test.x)
    assert np.array_equal(sealed.test.y, domain.test.y)


def test_unknown_target() -> None:
    with pytest.raises(DataError, match="there is no domain 'mnist'"):
        open_sealed_target("digits->mnist", 8)
