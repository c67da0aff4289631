"""Domain ``syn-digits``: digits rendered from packaged fonts, as SYN DIGITS (Ganin et al. 2016).

One to three digits are written, the label's in the middle; font, size, position, rotation, colours,
blur and noise vary. Sample ``i`` of seed ``s`` is the same image whatever else is rendered.
"""

from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from iimt_search.data.domains.digits import CLASSES
from iimt_search.data.store import DomainStream, PartStream
from iimt_search.errors import DataError

_SEED = 14_095_750
_FIRST_TEST = 1 << 31
_CHUNK = 1000
_CANVAS = 32
_FONTS = (
    *(f"DejaVuSans{style}" for style in ("", "-Bold", "-Oblique", "-BoldOblique")),
    *(f"DejaVuSansMono{style}" for style in ("", "-Bold", "-Oblique")),
    *(f"DejaVuSerif{style}" for style in ("", "-Bold", "-Italic", "-BoldItalic")),
    *(f"STIXGeneral{style}" for style in ("", "Bol", "Italic", "BolIta")),
    *(f"cm{style}10" for style in ("r", "b", "ss", "tt", "ti")),
)


@cache
def _font_folder() -> Path:
    # Located, not imported: matplotlib costs a second to import and only its files are wanted.
    spec = find_spec("matplotlib")
    if spec is None or not spec.submodule_search_locations:
        raise DataError("syn-digits needs the fonts that matplotlib packages: pip install matplotlib")
    return Path(spec.submodule_search_locations[0]) / "mpl-data" / "fonts" / "ttf"


@cache
def _font(name: str, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(_font_folder() / f"{name}.ttf", size)


def _colours(rng: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Draw ink and paper, float (3,) in 0 to 255, whose brightness differs by at least 60."""
    while True:
        ink, paper = rng.uniform(0, 255, (2, 3))
        if abs(ink.mean() - paper.mean()) >= 60:
            return ink, paper


def render(seed: int, index: int, image_size: int) -> tuple[NDArray[np.uint8], int]:
    """Render one sample.

    Args:
        seed: which data set.
        index: which sample of it, from 0.
        image_size: side of the image in pixels.

    Returns:
        The image, uint8 (3, image_size, image_size), and its label, 0 to 9.
    """
    rng = np.random.default_rng([seed, index])
    label = int(rng.integers(10))
    left, right = (str(rng.integers(10)) if rng.random() < 0.5 else "" for _ in range(2))
    font = _font(_FONTS[rng.integers(len(_FONTS))], int(rng.integers(_CANVAS * 3 // 4, _CANVAS * 5 // 4)))

    # Drawn at twice the canvas, so that rotation does not cut what it turns into view.
    mask = Image.new("L", (2 * _CANVAS, 2 * _CANVAS))
    draw = ImageDraw.Draw(mask)
    x0, y0, x1, y1 = draw.textbbox((0, 0), str(label), font=font)
    dx, dy = rng.uniform(-2, 2, 2)
    x, y = _CANVAS - (x0 + x1) / 2 + dx, _CANVAS - (y0 + y1) / 2 + dy
    draw.text((x, y), str(label), fill=255, font=font)
    draw.text((x - draw.textlength(left, font=font), y), left, fill=255, font=font)
    draw.text((x + draw.textlength(str(label), font=font), y), right, fill=255, font=font)
    mask = mask.rotate(rng.uniform(-15, 15), Image.Resampling.BICUBIC, center=(_CANVAS, _CANVAS))
    mask = mask.filter(ImageFilter.GaussianBlur(rng.uniform(0, 1.2)))
    half = _CANVAS // 2
    mask = mask.crop((half, half, half + _CANVAS, half + _CANVAS))

    cover = np.asarray(mask, dtype=np.float64)[..., None] / 255
    ink, paper = _colours(rng)
    image = cover * ink + (1 - cover) * paper + rng.normal(0, rng.uniform(0, 12), (_CANVAS, _CANVAS, 3))
    canvas = Image.fromarray(np.clip(np.round(image), 0, 255).astype(np.uint8))
    small = canvas.resize((image_size, image_size), Image.Resampling.BICUBIC)
    return np.asarray(small).transpose(2, 0, 1), label


def _part(start: int, count: int, image_size: int) -> PartStream:
    """Return samples ``start`` to ``start + count`` of the domain's seed, rendered as they are read."""
    # The label is the first thing that a sample draws.
    indices = range(start, start + count)
    y = np.array([np.random.default_rng([_SEED, i]).integers(10) for i in indices], dtype=np.int64)

    def chunks() -> Iterator[NDArray[np.uint8]]:
        for first in range(0, count, _CHUNK):
            part = indices[first : first + _CHUNK]
            yield np.stack([render(_SEED, index, image_size)[0] for index in part])

    return PartStream(count, (3, image_size, image_size), chunks, y)


def build(image_size: int, count: int = 3000) -> DomainStream:
    """Build the domain with samples (3, image_size, image_size).

    Args:
        image_size: side of the images in pixels.
        count: training samples; a larger domain begins with the samples of a smaller one. A fifth as
            many test samples come from indices that no training part reaches.
    """
    train = _part(0, count, image_size)
    test = _part(_FIRST_TEST, max(1, count // 5), image_size)
    return DomainStream(train, test, CLASSES, "image", "digits")
