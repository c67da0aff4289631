import numpy as np
import pytest
from sklearn.datasets import load_digits

from iimt_search.data.domains.digits import CLASSES, build, load_grey, resize, split_indices


@pytest.mark.parametrize("size", [8, 16])
def test_shapes_and_types(size: int) -> None:
    domain = build(size)
    for part, count in ((domain.train, 1347), (domain.test, 450)):
        assert part.x.shape == (count, 3, size, size)
        assert part.x.dtype == np.uint8
        assert part.y.shape == (count,)
        assert part.y.dtype == np.int64
    assert domain.classes == CLASSES == tuple("0123456789")
    assert domain.augmentation == "digits"


def test_class_counts_are_stratified() -> None:
    domain = build(8)
    # scikit-learn documents 178, 182, 177, 183, 181, 182, 181, 179, 174 and 180 digits.
    total = np.array([178, 182, 177, 183, 181, 182, 181, 179, 174, 180])
    train, test = np.bincount(domain.train.y), np.bincount(domain.test.y)
    assert (train + test == total).all()
    assert (np.abs(test - total / 4) < 1.5).all()


def test_the_same_every_time() -> None:
    first, second = build(8), build(8)
    for part in ("train", "test"):
        assert np.array_equal(getattr(first, part).x, getattr(second, part).x)
        assert np.array_equal(getattr(first, part).y, getattr(second, part).y)


def test_pixels_are_scikit_learns() -> None:
    grey, y = load_grey(8)
    bunch = load_digits()
    # 8 of 16 grey levels is 127.5, rounded to even; 16 of 16 is 255.
    assert np.array_equal(grey, np.round(bunch.images * 255 / 16))
    assert grey.max() == 255 and grey.min() == 0
    assert np.array_equal(y, bunch.target)


def test_channels_are_the_same_grey() -> None:
    x = build(8).train.x
    assert (x[:, 0] == x[:, 1]).all() and (x[:, 0] == x[:, 2]).all()


def test_no_digit_is_in_both_parts() -> None:
    domain = build(8)
    train = {image.tobytes() for image in domain.train.x}
    test = {image.tobytes() for image in domain.test.x}
    assert len(train) == 1347 and len(test) == 450
    assert not train & test


def test_split_covers_everything_once() -> None:
    y = load_digits().target
    train, test = split_indices(y)
    assert sorted([*train, *test]) == list(range(len(y)))


def test_resize_keeps_flat_images_flat() -> None:
    flat = np.stack([np.full((8, 8), 0, np.uint8), np.full((8, 8), 200, np.uint8)])
    resized = resize(flat, 12)
    assert resized.shape == (2, 12, 12)
    assert resized.dtype == np.uint8
    assert (resized[0] == 0).all() and (resized[1] == 200).all()


def test_resize_to_the_same_size_changes_nothing() -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 8)).astype(np.uint8)
    assert np.array_equal(resize(images, 8), images)
