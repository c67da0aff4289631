"""Pieces of HTML. Every text that they take is escaped here, and nowhere else."""

import base64
import io
import json
from collections.abc import Iterable, Sequence
from html import escape

import numpy as np
import plotly.io
from numpy.typing import NDArray
from PIL import Image

from iimt_search.report.figures.drawing import Drawing, Table, arrow
from iimt_search.report.sections import SampleGrid
from iimt_search.report.shown_models import TargetSamples

# Larger images are made smaller, so that the report stays small.
_THUMBNAIL = 64
_JPEG_FROM = 40
# A cell with more signs is broken into lines.
_LONG = 40


def text(value: object) -> str:
    """Return a text escaped, pieces between backquotes as code."""
    parts = escape(str(value)).split("`")
    if len(parts) % 2 == 0:
        return "`".join(parts)
    return "".join(part if at % 2 == 0 else f"<code>{part}</code>" for at, part in enumerate(parts))


def _cell(content: str) -> str:
    return f'<td class="long">{text(content)}</td>' if len(content) > _LONG else f"<td>{text(content)}</td>"


def table(content: Table, label: str) -> str:
    """Return a table that scrolls in a container of its own.

    Args:
        content: its cells.
        label: what it shows, for who cannot see it.
    """
    head = "".join(f'<th scope="col">{text(title)}</th>' for title in content.head)
    rows = "".join(
        f'<tr><th scope="row">{text(row[0])}</th>' + "".join(_cell(cell) for cell in row[1:]) + "</tr>"
        for row in content.rows
    )
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(label)}">'
        f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def details(summary: str, content: str) -> str:
    """Return content that is shown when asked for."""
    return f"<details><summary>{text(summary)}</summary>{content}</details>"


def items(texts: Iterable[str], kind: str = "") -> str:
    """Return a list, "" of nothing."""
    found = "".join(f"<li>{text(each)}</li>" for each in texts)
    return f'<ul class="{kind}">{found}</ul>' if found else ""


def pairs(content: Sequence[tuple[str, str]]) -> str:
    """Return names with their values."""
    return "<dl>" + "".join(f"<div><dt>{text(k)}</dt><dd>{text(v)}</dd></div>" for k, v in content) + "</dl>"


def in_script(content: object) -> str:
    """Return JSON that can stand within a script element."""
    found = json.dumps(content, separators=(",", ":"), ensure_ascii=False)
    return found.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def figure(drawing: Drawing, part: str) -> str:
    """Return a figure with caption and table; the page's script draws it.

    Args:
        drawing: the figure.
        part: what makes its name unique on the page.
    """
    name, label = f"{part}{drawing.name}", f"{drawing.title}. {drawing.caption}"
    content = json.loads(plotly.io.to_json(drawing.figure, validate=False))
    content["layout"].pop("template", None)  # the page has one of its own, light or dark
    return (
        f'<figure id="{escape(name)}" class="{"small" if drawing.small else "wide"}">'
        f"<h3>{text(drawing.title)}</h3>"
        f'<div class="sideways"><div class="plot" role="img" aria-label="{escape(label)}"'
        f' style="height:{drawing.height}px;min-width:{drawing.least_width}px"></div></div>'
        f'<script type="application/json">{in_script(content)}</script>'
        f"<figcaption>{text(drawing.caption)}</figcaption>"
        + details("Numbers", table(drawing.table, f"Numbers of: {drawing.title}"))
        + "</figure>"
    )


def data_uri(x: NDArray[np.uint8]) -> str:
    """Return an image (channels, H, W), of which 1 or 3 channels are shown, as a data URI."""
    pixels = np.ascontiguousarray(x.transpose(1, 2, 0)) if len(x) == 3 else x[0]
    image = Image.fromarray(pixels).convert("RGB")
    image.thumbnail((_THUMBNAIL, _THUMBNAIL))
    kind = "jpeg" if min(image.size) > _JPEG_FROM else "png"
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **({"quality": 85} if kind == "jpeg" else {"optimize": True}))
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _images(samples: TargetSamples, which: str) -> str:
    found = []
    for x, name, probability in zip(samples.x, samples.predicted, samples.probability, strict=True):
        says = f"{name}, {probability:.0%}"
        found.append(
            f'<li><img src="{data_uri(x)}" width="64" height="64" alt="predicted as {escape(says)}">'
            f"<span>{text(name)} <b>{probability:.0%}</b></span></li>"
        )
    return f'<h4>{text(which)}</h4><ul class="images">{"".join(found)}</ul>'


def image_grid(grid: SampleGrid) -> str:
    """Return target images with their predicted classes and probabilities."""
    title = f"{arrow(grid.task)}: target images with their predicted class"
    return (
        f'<figure class="wide"><h3>{text(title)}</h3>'
        + _images(grid.most, "Most certain")
        + (_images(grid.least, "Least certain") if len(grid.least.x) else "")
        + "<figcaption>Unlabelled target images, the predicted class and its probability. Wrong ones "
        "among the "
        "most certain mean that the probabilities cannot be trusted; the least certain show what the model "
        "finds hard.</figcaption></figure>"
    )
