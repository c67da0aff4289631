from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from iimt_search.data.assemble import load_task
from iimt_search.data.task import DomainTask, Labelled, Samples, Unlabelled
from iimt_search.inspect.picture import (
    COLUMNS,
    PictureRow,
    draw_images,
    draw_scatter,
    draw_series,
    picture_rows,
    picture_suffix,
    principal_plane,
    write_picture,
)
from iimt_search.kinds import Kind
from iimt_search.space.task_spec import TaskSpec

RNG = np.random.default_rng(0)


def made_task(kind: Kind, source: Samples, target: Samples, classes: int = 2) -> DomainTask:
    y = np.arange(len(source)) % classes
    names = tuple(f"class {label}" for label in range(classes))
    augmentation = {"image": "image", "series": "series", "vector": "noise"}[kind]
    part = Labelled(source, y)
    return DomainTask("a->b", names, kind, augmentation, part, part, Unlabelled(target), "")


def series(count: int, channels: int = 2, shift: float = 0.0) -> Samples:
    return (RNG.normal(size=(count, channels, 30)) + shift).astype(np.float32)


@pytest.fixture(scope="module")
def digits() -> DomainTask:
    return load_task(TaskSpec.model_validate("digits->digits-m"), 8)


def shares(row: PictureRow) -> np.ndarray:
    share = np.array([float(caption.removeprefix("λ′ ")) for caption in row.captions])
    return share.reshape(-1, *[1] * (row.x.ndim - 1))


def test_rows_of_images(digits: DomainTask) -> None:
    rows = picture_rows(digits)
    assert [row.label for row in rows] == [
        "source",
        "target",
        "augmented target",
        "mixed, source leads",
        "mixed, target leads",
    ]
    for row in rows:
        assert row.x.shape == (COLUMNS, 3, 8, 8) and row.x.dtype == np.uint8
        assert len(row.captions) == COLUMNS
    source, target, augmented, source_led, target_led = rows
    pool = digits.source_train.x.reshape(len(digits.source_train), -1)
    for x, caption in zip(source.x, source.captions, strict=True):
        (equal,) = np.nonzero((pool == x.reshape(-1)).all(axis=1))
        assert caption in {digits.classes[label] for label in digits.source_train.y[equal]}
    assert not np.array_equal(augmented.x, target.x)
    for row, first, second in ((source_led, source.x, target.x), (target_led, target.x, source.x)):
        share = shares(row)
        assert (share >= 0.5).all()
        # Rounded to whole values, and the captions to two places.
        assert np.abs(share * first + (1 - share) * second - row.x).max() < 0.5 + 0.005 * 255 + 1e-3


def test_source_row_shows_every_class_in_order(digits: DomainTask) -> None:
    captions = picture_rows(digits)[0].captions
    assert list(captions) == sorted(captions) and set(captions) == set("0123456789")
    many = made_task("vector", RNG.normal(size=(200, 2)).astype(np.float32), series(20)[:, :, 0], classes=50)
    assert len(set(picture_rows(many)[0].captions)) == COLUMNS


def test_rows_are_the_same_every_time_and_differ_by_seed(digits: DomainTask) -> None:
    first, again, other = picture_rows(digits), picture_rows(digits), picture_rows(digits, seed=1)
    for row, same in zip(first, again, strict=True):
        assert np.array_equal(row.x, same.x) and row.captions == same.captions
    assert not np.array_equal(first[1].x, other[1].x)


def test_no_strength_leaves_the_target(digits: DomainTask) -> None:
    _, target, augmented, *_ = picture_rows(digits, strength=0)
    assert np.array_equal(target.x, augmented.x)


def test_rows_of_series_are_in_the_datas_own_scale() -> None:
    task = made_task("series", series(40), series(30, shift=50.0))
    source, target, augmented, source_led, _ = picture_rows(task)
    assert source.x.dtype == np.float32 and source.x.shape == (COLUMNS, 2, 30)
    assert abs(augmented.x.mean() - target.x.mean()) < 10
    share = shares(source_led)
    assert source_led.x == pytest.approx(share * source.x + (1 - share) * target.x, abs=0.005 * 60)


def test_few_samples_are_repeated() -> None:
    rows = picture_rows(made_task("series", series(4), series(3)))
    assert all(len(row.x) == COLUMNS for row in rows)


def test_principal_plane_has_the_variance_of_the_correlations() -> None:
    source = RNG.normal(size=(50, 5)).astype(np.float32)
    target = RNG.normal(size=(40, 5)).astype(np.float32) * 3
    target[:, 0] += 100
    task = made_task("vector", source, target)
    plane = principal_plane(task)
    assert plane.source.shape == (50, 2) and plane.target.shape == (40, 2)
    assert np.array_equal(plane.source_labels, task.source_train.y) and plane.classes == task.classes
    spectrum = np.linalg.eigvalsh(np.corrcoef(np.concatenate([source, target]).T))[::-1]
    assert plane.explained == pytest.approx(spectrum[:2] / 5, abs=1e-5)


def test_principal_plane_of_two_features_keeps_distances() -> None:
    x = RNG.normal(size=(30, 2)).astype(np.float32) * [1, 1000] + [5, 0]
    plane = principal_plane(made_task("vector", x[:20].astype(np.float32), x[20:].astype(np.float32)))
    normalised = (x - x.mean(axis=0)) / x.std(axis=0)
    between = np.linalg.norm(normalised[:20, None] - normalised[None, 20:], axis=2)
    found = np.linalg.norm(plane.source[:, None] - plane.target[None], axis=2)
    assert found == pytest.approx(between, abs=1e-4)


@pytest.mark.parametrize("features", [1, 2])
def test_principal_plane_of_hardly_anything(features: int) -> None:
    x = RNG.normal(size=(20, features)).astype(np.float32)
    plane = principal_plane(made_task("vector", x, x[:10]))
    assert plane.source.shape == (20, 2) and sum(plane.explained) == pytest.approx(1)


def test_image_grid_shows_each_pixel_enlarged() -> None:
    x = RNG.integers(0, 255, (2, 3, 10, 10), dtype=np.uint8)
    rows = (PictureRow("one", x, ("a", "")), PictureRow("two", x[::-1], ("", "")))
    image = draw_images("title", rows)
    pixels = np.asarray(image)
    tile = x[0].repeat(5, axis=1).repeat(5, axis=2).transpose(1, 2, 0)
    windows = np.lib.stride_tricks.sliding_window_view(pixels, (50, 50, 3))[:, :, 0]
    corner = (windows[:, :, 0, 0] == tile[0, 0]).all(axis=-1)
    found = [tuple(at) for at in np.argwhere(corner) if np.array_equal(windows[tuple(at)], tile)]
    assert len(found) == 2 and found[0][0] < found[1][0] and found[0][1] < found[1][1]


@pytest.mark.parametrize(("channels", "side"), [(1, 8), (2, 8), (3, 60), (4, 8)])
def test_image_grid_of_other_channels_and_sizes(channels: int, side: int) -> None:
    x = RNG.integers(0, 255, (3, channels, side, side), dtype=np.uint8)
    image = draw_images(
        "a title that is much wider than its pictures " * 3, (PictureRow("r", x, ("é",) * 3),)
    )
    assert image.mode == "RGB" and image.width > 3 * max(48, side)


def test_series_figure_has_a_plot_for_each_row_and_channel() -> None:
    rows = picture_rows(made_task("series", series(20, 3), series(20, 3)))
    figure = draw_series("title", rows)
    assert len(figure.data) == 15
    assert list(figure.data[4].y) == pytest.approx(rows[1].x[0, 1].tolist())
    many = draw_series("title", picture_rows(made_task("series", series(20, 11), series(20, 11))))
    assert len(many.data) == 5 * 8 and "3 more channels" in many.layout.title.text


def test_scatter_figure_has_the_target_once_and_the_source_by_class() -> None:
    x = RNG.normal(size=(30, 4)).astype(np.float32)
    figure = draw_scatter("title", principal_plane(made_task("vector", x, x[:20], classes=3)))
    assert [trace.name for trace in figure.data] == [
        "target",
        "source, class 0",
        "source, class 1",
        "source, class 2",
    ]
    assert [len(trace.x) for trace in figure.data] == [20, 10, 10, 10]


def test_png_is_written_whole(digits: DomainTask, tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a.png"
    write_picture(digits, path)
    with Image.open(path) as image:
        assert image.format == "PNG" and image.width >= COLUMNS * 48
    first = path.read_bytes()
    write_picture(digits, path)
    assert path.read_bytes() == first
    assert [found.name for found in path.parent.iterdir()] == ["a.png"]
    assert picture_suffix(digits) == ".png"


@pytest.mark.parametrize("kind", ["series", "vector"])
def test_html_needs_no_other_file(kind: Kind, tmp_path: Path) -> None:
    x = series(20) if kind == "series" else series(20)[:, 0]
    task = made_task(kind, x, x)
    assert picture_suffix(task) == ".html"
    write_picture(task, tmp_path / "a.html")
    text = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert "a-&gt;b" in text or "a-\\u003eb" in text or "a->b" in text
    assert "Plotly.newPlot" in text and '<script src="http' not in text
