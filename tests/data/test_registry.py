import subprocess
import sys

import numpy as np
import pytest

from iimt_search.data.registry import load_domain
from iimt_search.errors import DataError
from iimt_search.kinds import AUGMENTATIONS


@pytest.mark.parametrize("name", ["digits", "digits-m", "syn-digits"])
def test_every_domain_loads(name: str) -> None:
    domain = load_domain(name, 8)
    for part in (domain.train, domain.test):
        assert part.x.shape == (len(part), 3, 8, 8)
        assert part.x.dtype == np.uint8
        assert part.y.dtype == np.int64
        assert set(part.y.tolist()) == set(range(len(domain.classes)))
    assert domain.augmentation in AUGMENTATIONS


def test_what_is_kept_is_what_was_built() -> None:
    from iimt_search.data.domains import digits

    kept, built = load_domain("digits", 8), digits.build(8)
    assert np.array_equal(kept.train.x, built.train.x)
    assert np.array_equal(kept.test.y, built.test.y)
    assert (kept.classes, kept.augmentation) == (built.classes, built.augmentation)


def test_sizes_are_kept_apart() -> None:
    assert load_domain("digits", 8).train.x.shape[-1] == 8
    assert load_domain("digits", 9).train.x.shape[-1] == 9


def test_unknown_domain() -> None:
    with pytest.raises(
        DataError, match=r"there is no domain 'mnits'; there are digits, digits-m, syn-digits"
    ):
        load_domain("mnits", 8)


def test_import_loads_neither_torch_nor_scikit_learn() -> None:
    code = (
        "import sys, iimt_search.data.registry as r; list(r.DOMAINS);"
        "print(sorted({'torch', 'sklearn', 'PIL'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
