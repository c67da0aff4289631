"""Target series with what is predicted of them, as small lines."""

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from iimt_search.report.figures.drawing import COLOURS, Drawing, Table, plain
from iimt_search.report.shown_models import TargetSamples

_COLUMNS = 2
_MOST_CHANNELS = 4
_SHOWN = 6


def draw_series_samples(name: str, title: str, samples: TargetSamples) -> Drawing | None:
    """Draw the first few series, a small plot for each; None where there are none.

    ``name`` is of the figure's file, and ``title`` tells which samples these are.
    """
    texts = [f"{c} {p:.0%}" for c, p in zip(samples.predicted, samples.probability, strict=True)][:_SHOWN]
    if not texts:
        return None
    rows = -(-len(texts) // _COLUMNS)
    figure: go.Figure = make_subplots(
        rows=rows, cols=_COLUMNS, subplot_titles=[plain(text) for text in texts], vertical_spacing=0.12
    )
    channels = min(_MOST_CHANNELS, samples.x.shape[1])
    for at in range(len(texts)):
        for channel in range(channels):
            figure.add_scatter(
                y=samples.x[at, channel].round(3),
                mode="lines",
                line={"width": 1.2, "color": COLOURS[channel]},
                name=f"channel {channel}",
                legendgroup=str(channel),
                showlegend=at == 0,
                hoverinfo="skip",
                row=at // _COLUMNS + 1,
                col=at % _COLUMNS + 1,
            )
    figure.update_annotations(font_size=12)
    figure.update_xaxes(showticklabels=False).update_yaxes(showticklabels=False)
    left_out = samples.x.shape[1] - channels
    return Drawing(
        name,
        title,
        "Unlabelled target series with the predicted class and its probability."
        + (f" {left_out} more channels are not shown." if left_out else ""),
        figure,
        Table(("series", "predicted"), tuple((str(i + 1), text) for i, text in enumerate(texts))),
        height=80 + 130 * rows,
        small=True,
    )
