"""Shows a task as training sees it: its samples, what augmentation makes of them, and mixtures."""

import math
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from iimt_search.data.task import DomainTask, Labels, Samples
from iimt_search.files import atomic_write, write_text
from iimt_search.iimt.mixup import mix, mixing_coefficients
from iimt_search.inspect.check import MEASURED, summarise
from iimt_search.kinds import AUGMENTATIONS
from iimt_search.seeding import derive_seed
from iimt_search.training.batches import evenly_spaced

COLUMNS = 12
_SMALLEST_TILE = 48
_GAP, _FONT_SIZE, _TITLE_SIZE, _CAPTION_HEIGHT = 6, 13, 16, 18
_MOST_CHANNELS = 8
_COLOURS = ("#1f77b4", "#d62728", "#ff7f0e", "#2ca02c", "#9467bd")


@dataclass(frozen=True)
class PictureRow:
    """One row of a picture.

    Attributes:
        label: what the samples are.
        x: samples (M, ...), of the task's type and scale.
        captions: a short text for each sample, or "".
    """

    label: str
    x: Samples
    captions: tuple[str, ...]


@dataclass(frozen=True)
class Plane:
    """Both domains of a task of vectors, in the plane of their two largest principal components.

    Attributes:
        source: float64 (N, 2).
        source_labels: class index of each source sample, int64 (N,).
        classes: class names.
        target: float64 (M, 2).
        explained: share of the variance along either axis, in [0, 1].
    """

    source: NDArray[np.float64]
    source_labels: Labels
    classes: tuple[str, ...]
    target: NDArray[np.float64]
    explained: tuple[float, float]


def _scale(task: DomainTask) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return shift and scale of the normalisation, broadcasting over samples (M, channels, ...).

    Images are brought to [−1, 1]; each channel of anything else to mean 0 and standard deviation 1 over
    both domains, as in training.
    """
    if task.kind == "image":
        return np.array(127.5), np.array(127.5)
    parts = (task.source_train.unlabelled, task.target)
    summaries = [summarise(part) for part in parts]
    weights = np.array([min(len(part), MEASURED) for part in parts], dtype=np.float64)
    means = np.array([summary.means for summary in summaries])
    mean = np.average(means, axis=0, weights=weights)
    squares = np.square([summary.deviations for summary in summaries]) + np.square(means - mean)
    deviation = np.sqrt(np.average(squares, axis=0, weights=weights))
    shape = (1, -1, *[1] * (len(task.sample_shape) - 1))
    return mean.reshape(shape), np.where(deviation > 1e-8, deviation, 1.0).reshape(shape)


def _choose_source(y: Labels, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw :data:`COLUMNS` samples of as many classes as possible, in the order of the classes."""
    order = rng.permutation(len(y))
    by_class = order[np.argsort(y[order], kind="stable")]
    counts = np.bincount(y)
    # A sample's place within its class: every class's first comes before any class's second.
    place = np.arange(len(y)) - np.repeat(np.cumsum(counts) - counts, counts)
    chosen = by_class[np.lexsort((rng.permutation(len(y)), place))][:COLUMNS]
    return np.resize(chosen[np.argsort(y[chosen], kind="stable")], COLUMNS)


def picture_rows(task: DomainTask, strength: float = 1.0, seed: int = 0) -> tuple[PictureRow, ...]:
    """Gather what a task's picture shows.

    Args:
        task: of images or series.
        strength: of the augmentation.
        seed: two pictures of one seed are the same.

    Returns:
        Rows of :data:`COLUMNS` samples: source, target, augmented target, and mixtures of the source and
        target samples above them, in which first the source, then the target dominates.
    """
    rng = np.random.default_rng(derive_seed(seed, task.name, "picture"))
    generator = torch.Generator().manual_seed(derive_seed(seed, task.name, "augmentation"))
    shift, scale = _scale(task)

    def normalised(x: Samples) -> Tensor:
        return torch.from_numpy(((x - shift) / scale).astype(np.float32))

    def shown(x: Tensor) -> Samples:
        values = x.numpy() * scale + shift
        if task.kind == "image":
            return np.clip(np.round(values), 0, 255).astype(np.uint8)
        return values.astype(np.float32)

    at = _choose_source(task.source_train.y, rng)
    source = task.source_train.unlabelled.rows(at)
    classes = tuple(task.classes[label] for label in task.source_train.y[at])
    few = len(task.target) < COLUMNS
    target = task.target.rows(rng.choice(len(task.target), COLUMNS, replace=few))
    augmented = AUGMENTATIONS[task.augmentation].load()(normalised(target), strength, generator)
    share = mixing_coefficients(1.0, COLUMNS, rng)
    captions = tuple(f"λ′ {value:.2f}" for value in share.tolist())
    blank = ("",) * COLUMNS
    ours, theirs = normalised(source), normalised(target)
    return (
        PictureRow("source", source, classes),
        PictureRow("target", target, blank),
        PictureRow("augmented target", shown(augmented), blank),
        PictureRow("mixed, source leads", shown(mix(ours, theirs, share)), captions),
        PictureRow("mixed, target leads", shown(mix(theirs, ours, share)), captions),
    )


def principal_plane(task: DomainTask) -> Plane:
    """Project at most 2000 evenly spaced vectors of each domain, normalised, to two dimensions."""
    from sklearn.decomposition import PCA

    shift, scale = _scale(task)
    at = evenly_spaced(len(task.source_train), MEASURED)
    target = task.target.rows(evenly_spaced(len(task.target), MEASURED))
    x = (np.concatenate([task.source_train.unlabelled.rows(at), target]) - shift) / scale
    count = min(2, *x.shape)
    pca = PCA(count, random_state=0).fit(x)
    places = np.zeros((len(x), 2))
    places[:, :count] = pca.transform(x)
    # All samples equal: there is no variance to have a share of.
    explained = [*np.nan_to_num(pca.explained_variance_ratio_).tolist(), 0.0]
    return Plane(
        source=places[: len(at)],
        source_labels=task.source_train.y[at],
        classes=task.classes,
        target=places[len(at) :],
        explained=(explained[0], explained[1]),
    )


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    # PIL's own font knows no Greek and no accents; matplotlib packages one that does.
    spec = find_spec("matplotlib")
    package = Path(spec.origin).parent if spec is not None and spec.origin else Path()
    path = package / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"
    return ImageFont.truetype(path, size) if path.is_file() else ImageFont.load_default(size)


def _shortened(text: str, width: int) -> str:
    """Return the text, cut so that it is at most ``width`` pixels wide."""
    shown = text
    while text and _font(_FONT_SIZE).getlength(shown) > width:
        text = text[:-1]
        shown = text + "…"
    return shown


def _tile(x: NDArray[np.uint8], factor: int) -> Image.Image:
    """Return an image (channels, H, W), each pixel enlarged to a square; other than 3 channels: the first."""
    image = Image.fromarray(np.ascontiguousarray(x.transpose(1, 2, 0)) if len(x) == 3 else x[0])
    size = (image.width * factor, image.height * factor)
    return image.convert("RGB").resize(size, Image.Resampling.NEAREST)


def draw_images(title: str, rows: tuple[PictureRow, ...]) -> Image.Image:
    """Draw rows of images as a grid, labels at the left, captions below."""
    height, width = rows[0].x.shape[2:]
    factor = max(1, math.ceil(_SMALLEST_TILE / min(height, width)))
    height, width = height * factor, width * factor
    columns = len(rows[0].x)
    left = math.ceil(max(_font(_FONT_SIZE).getlength(row.label) for row in rows)) + 3 * _GAP
    row_heights = [height + _GAP + _CAPTION_HEIGHT * any(row.captions) for row in rows]
    top = _TITLE_SIZE + 3 * _GAP
    title_width = math.ceil(_font(_TITLE_SIZE).getlength(title)) + 2 * _GAP
    whole = (max(left + columns * (width + _GAP), title_width), top + sum(row_heights) + _GAP)
    canvas = Image.new("RGB", whole, "white")
    draw = ImageDraw.Draw(canvas)
    draw.text((_GAP, _GAP), title, fill="black", font=_font(_TITLE_SIZE))
    for row, row_height in zip(rows, row_heights, strict=True):
        middle = top + height // 2
        draw.text((left - 2 * _GAP, middle), row.label, fill="black", font=_font(_FONT_SIZE), anchor="rm")
        for column, (x, caption) in enumerate(zip(row.x, row.captions, strict=True)):
            at = left + column * (width + _GAP)
            canvas.paste(_tile(x, factor), (at, top))
            below = (at + width // 2, top + height + 2)
            text = _shortened(caption, width)
            draw.text(below, text, fill="#555555", font=_font(_FONT_SIZE), anchor="ma")
        top += row_height
    return canvas


def draw_series(title: str, rows: tuple[PictureRow, ...]) -> Any:
    """Draw the first sample of each row, a plot for each channel, as a plotly figure."""
    from plotly.graph_objects import Figure, Scatter
    from plotly.subplots import make_subplots

    channels = min(rows[0].x.shape[1], _MOST_CHANNELS)
    left_out = rows[0].x.shape[1] - channels
    figure: Figure = make_subplots(
        rows=len(rows),
        cols=channels,
        shared_xaxes="all",
        shared_yaxes="columns",
        column_titles=[f"channel {channel}" for channel in range(channels)],
        vertical_spacing=0.03,
        horizontal_spacing=0.03,
    )
    for at, (row, colour) in enumerate(zip(rows, _COLOURS, strict=True), 1):
        for channel in range(channels):
            line = Scatter(
                y=row.x[0, channel].tolist(),
                mode="lines",
                line={"color": colour, "width": 1.5},
                name=f"{row.label}, channel {channel}",
            )
            figure.add_trace(line, row=at, col=channel + 1)
        figure.update_yaxes(title_text=f"{row.label}<br>{row.captions[0]}", row=at, col=1)
    more = f"; {left_out} more channels are not shown" if left_out else ""
    figure.update_layout(
        title=title + more, template="plotly_white", showlegend=False, height=140 + 170 * len(rows)
    )
    return figure


def draw_scatter(title: str, plane: Plane) -> Any:
    """Draw both domains in one plane as a plotly figure, the source's classes in colours."""
    from plotly.graph_objects import Figure, Scatter

    figure = Figure()
    clouds: list[tuple[str, NDArray[np.float64], dict[str, Any]]] = [
        ("target", plane.target, {"color": "#888888", "symbol": "circle-open"})
    ]
    for label, name in enumerate(plane.classes):
        clouds.append((f"source, {name}", plane.source[plane.source_labels == label], {"opacity": 0.7}))
    for name, places, marker in clouds:
        x, y = places.T.tolist()
        figure.add_trace(Scatter(x=x, y=y, mode="markers", marker={"size": 6, **marker}, name=name))
    figure.update_layout(
        title=title,
        template="plotly_white",
        height=700,
        xaxis_title=f"first principal component ({plane.explained[0]:.0%} of the variance)",
        yaxis_title=f"second principal component ({plane.explained[1]:.0%} of the variance)",
    )
    return figure


def picture_suffix(task: DomainTask) -> str:
    """Return ``.png`` for a task of images, else ``.html``."""
    return ".png" if task.kind == "image" else ".html"


def write_picture(task: DomainTask, path: Path, strength: float = 1.0, seed: int = 0) -> None:
    """Draw a task and write the picture to ``path``, as PNG or as one HTML file that needs no other."""
    title = f"{task.name}  (augmentation {task.augmentation})"
    path.parent.mkdir(parents=True, exist_ok=True)
    if task.kind == "image":
        with atomic_write(path) as beside:
            draw_images(title, picture_rows(task, strength, seed)).save(beside, format="PNG")
        return
    if task.kind == "series":
        figure = draw_series(title, picture_rows(task, strength, seed))
    else:
        figure = draw_scatter(f"{task.name}  (normalised)", principal_plane(task))
    write_text(path, figure.to_html(include_plotlyjs=True, div_id="task"))
