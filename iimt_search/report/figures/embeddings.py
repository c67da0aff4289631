"""Where the models put both domains: embeddings in two dimensions, before and after adaptation."""

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray
from sklearn.decomposition import PCA

from iimt_search.report.figures.drawing import COLOURS, Drawing, Table, arrow, plain
from iimt_search.training.batches import evenly_spaced
from iimt_search.validators.contract import Predictions

# Of each domain, in one panel.
_MOST_POINTS = 400
# More classes get no legend of their own.
_MOST_CLASSES = 12
# The domains' signs; beyond as many classes as there are colours the next ones.
_SYMBOLS = {"source": ("circle-open", "square-open", "diamond-open"), "target": ("x", "cross", "star")}

Points = NDArray[np.float32]
Labels = NDArray[np.int64]


def plane(predictions: Predictions) -> tuple[Points, Labels, Points, Labels, tuple[float, float]]:
    """Project both domains of finite predictions on the plane in which they together spread most.

    Returns:
        Source points (N, 2) and their classes, target points (M, 2) and their predicted classes, and the
        share of the variance along either axis.
    """
    source, target = predictions.source_embeddings.numpy(), predictions.target_embeddings.numpy()
    of_source, of_target = (evenly_spaced(len(points), _MOST_POINTS) for points in (source, target))
    source, target = source[of_source], target[of_target]
    both = np.concatenate([source, target]).astype(np.float64)
    points, explained = np.zeros((len(both), 2), dtype=np.float32), (0.0, 0.0)
    if both.shape[1] > 1 and both.std() > 0:
        fitted = PCA(n_components=2, random_state=0).fit(both)
        points = fitted.transform(both).astype(np.float32)
        explained = (float(fitted.explained_variance_ratio_[0]), float(fitted.explained_variance_ratio_[1]))
    return (
        points[: len(source)],
        predictions.source_labels.numpy()[of_source],
        points[len(source) :],
        predictions.target_logits.argmax(dim=-1).numpy()[of_target],
        explained,
    )


def _add(figure: go.Figure, points: Points, labels: Labels, classes: tuple[str, ...], domain: str) -> None:
    symbols, kind = _SYMBOLS[domain], "true" if domain == "source" else "predicted"
    for label, name in enumerate(classes):
        own = points[labels == label].round(3)
        figure.add_scatter(
            x=own[:, 0] if len(own) else [None],
            y=own[:, 1] if len(own) else [None],
            mode="markers",
            marker={
                "color": COLOURS[label % len(COLOURS)],
                "symbol": symbols[label // len(COLOURS) % len(symbols)],
                "size": 7,
                "opacity": 0.75,
            },
            name=plain(name),
            legendgroup=str(label),
            showlegend=domain == "target" and len(classes) <= _MOST_CLASSES,
            hoverinfo="text",
            hovertext=f"{domain}, {kind} class {plain(name)}",
        )


def draw_embeddings(
    task: str, classes: tuple[str, ...], predictions: Predictions, when: str, model: str
) -> Drawing:
    """Draw the embeddings of both domains, of finite predictions ``before`` or ``after`` adaptation.

    ``model`` tells people whose they are.
    """
    source, source_labels, target, target_labels, explained = plane(predictions)
    figure = go.Figure()
    _add(figure, source, source_labels, classes, "source")
    _add(figure, target, target_labels, classes, "target")
    figure.update_xaxes(title=f"first principal component ({explained[0]:.0%})", zeroline=False)
    figure.update_yaxes(title=f"second ({explained[1]:.0%})", zeroline=False)
    rows = tuple(
        (name, str(int((source_labels == at).sum())), str(int((target_labels == at).sum())))
        for at, name in enumerate(classes)
    )
    return Drawing(
        f"embeddings-{when}",
        f"{arrow(task)}, {when} adaptation: {model}",
        "Open signs are source samples by their true class, filled ones target samples by the predicted "
        "one. Adapted well, the filled signs of a class lie on its open ones, and classes lie apart. Two "
        "dimensions hide much: the axes tell how much of the variance they show.",
        figure,
        Table(("class", "source samples", "target samples predicted"), rows),
        height=460,
        small=True,
    )
