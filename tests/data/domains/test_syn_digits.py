import hashlib
import subprocess
import sys

import numpy as np
import pytest

from iimt_search.data.domains import syn_digits
from iimt_search.data.domains.syn_digits import render
from iimt_search.data.open import open_with_labels
from iimt_search.data.registry import load_domain
from iimt_search.errors import DataError
from iimt_search.space.task_spec import DomainSpec


@pytest.mark.parametrize("size", [8, 16, 32])
def test_shape_type_and_label(size: int) -> None:
    image, label = render(0, 0, size)
    assert image.shape == (3, size, size)
    assert image.dtype == np.uint8
    assert type(label) is int
    assert 0 <= label <= 9


def test_a_sample_does_not_depend_on_what_else_is_rendered() -> None:
    alone = [render(3, index, 8) for index in (5, 2)]
    row = [render(3, index, 8) for index in range(8)]
    for (image, label), index in zip(alone, (5, 2), strict=True):
        assert np.array_equal(image, row[index][0])
        assert label == row[index][1]


def test_a_sample_is_the_same_in_another_process() -> None:
    code = (
        "import hashlib; from iimt_search.data.domains.syn_digits import render;"
        "print(hashlib.sha256(render(3, 5, 8)[0].tobytes()).hexdigest())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == hashlib.sha256(render(3, 5, 8)[0].tobytes()).hexdigest()


def test_seed_and_index_both_count() -> None:
    images = [render(seed, index, 8)[0].tobytes() for seed in range(3) for index in range(3)]
    assert len(set(images)) == 9


def test_the_label_does_not_depend_on_the_size() -> None:
    assert [render(1, i, 8)[1] for i in range(20)] == [render(1, i, 16)[1] for i in range(20)]


def test_every_class_is_drawn_about_as_often() -> None:
    counts = np.bincount([render(0, i, 8)[1] for i in range(400)], minlength=10)
    # 40 expected, standard deviation 6.
    assert counts.min() > 16 and counts.max() < 64


def test_ink_stands_out_from_paper() -> None:
    rng = np.random.default_rng(0)
    drawn = [syn_digits._colours(rng) for _ in range(200)]
    assert all(abs(ink.mean() - paper.mean()) >= 60 for ink, paper in drawn)
    assert {bool(ink.mean() > paper.mean()) for ink, paper in drawn} == {True, False}


def test_the_digit_can_be_seen() -> None:
    # Noise alone, of at most 12 / √3 in the mean of three channels, spreads 1 % to 99 % over 33.
    for index in range(30):
        brightness = render(0, index, 32)[0].mean(axis=0)
        assert np.quantile(brightness, 0.99) - np.quantile(brightness, 0.01) > 45


@pytest.mark.parametrize("name", syn_digits._FONTS)
def test_every_font_is_packaged_and_has_the_digits(name: str) -> None:
    font = syn_digits._font(name, 24)
    glyphs = {bytes(font.getmask(digit)) for digit in "0123456789"}
    assert len(glyphs) == 10


def test_build_renders_as_many_as_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(syn_digits, "_CHUNK", 4)
    stream = syn_digits.build(8, 10)
    assert stream.test is not None and (stream.train.count, stream.test.count) == (10, 2)
    for part, first in ((stream.train, 0), (stream.test, 1 << 31)):
        samples = np.concatenate(list(part.chunks()))
        assert samples.shape == (part.count, 3, 8, 8) and part.y is not None
        for place in range(part.count):
            image, label = render(syn_digits._SEED, first + place, 8)
            assert np.array_equal(samples[place], image)
            assert part.y[place] == label


def test_count_in_a_space_file() -> None:
    spec = DomainSpec.model_validate({"named": "syn-digits", "count": 120})
    domain = open_with_labels(spec, 8)
    assert len(domain.train) == 120
    assert np.array_equal(domain.train.x, load_domain("syn-digits", 8).train.x[:120])
    with pytest.raises(DataError, match="`count` goes with syn-digits"):
        open_with_labels(DomainSpec.model_validate({"named": "digits", "count": 120}), 8)


def test_classes_are_those_of_the_other_digits() -> None:
    from iimt_search.data.domains import digits

    assert syn_digits.CLASSES == digits.CLASSES


def test_matplotlib_gives_its_fonts_without_being_imported() -> None:
    code = (
        "import sys; from iimt_search.data.domains.syn_digits import render; render(0, 0, 8);"
        "print('matplotlib' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
