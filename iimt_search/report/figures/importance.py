"""How much each parameter decides, with the uncertainty of the few trials that this is seen from."""

import math
import warnings
from collections.abc import Mapping, Sequence

import numpy as np
import optuna
import plotly.graph_objects as go
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution
from optuna.importance import PedAnovaImportanceEvaluator
from optuna.trial import FrozenTrial, TrialState, create_trial

from iimt_search.report.figures.drawing import COLOURS, Drawing, Table, plain
from iimt_search.report.record import StudyRecord
from iimt_search.study.search.sampling import distributions

LEAST_TRIALS = 10
RESAMPLES = 50
# The best of the trials, which are compared with all: a tenth (PED-ANOVA's own share), but at least so many.
_BEST_SHARE, _LEAST_BEST = 0.1, 4


def _best(trials: int) -> int:
    """Return how many of so many trials are the best ones."""
    return min(max(_LEAST_BEST, math.ceil(_BEST_SHARE * trials)), trials)


def _values(record: StudyRecord) -> dict[int, float]:
    """Return trial number → what it is ranked by: the objective, and for a pruned one something worse.

    Pruned trials come after all complete ones, those that came further first: their last values are of an
    earlier step, and do not compare.
    """
    complete = {trial.number: trial.value for trial in record.trials if trial.value is not None}
    pruned = [t for t in record.trials if t.state == "pruned" and t.reached is not None]
    pruned.sort(key=lambda t: (max(t.curve), record.sign * (t.reached or 0.0)), reverse=True)
    worst = min((record.sign * value for value in complete.values()), default=0.0)
    ranked = {t.number: record.sign * (worst - place) for place, t in enumerate(pruned, 1)}
    return {**complete, **ranked}


def _importances(
    trials: Sequence[FrozenTrial], higher: bool, names: Sequence[str]
) -> dict[str, float] | None:
    """Return parameter → importance, summing to 1; None where the trials do not tell them apart."""
    study = optuna.create_study(direction="maximize" if higher else "minimize")
    study.add_trials(trials)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        evaluator = PedAnovaImportanceEvaluator(target_quantile=_best(len(trials)) / len(trials))
        shares = evaluator.evaluate(study, params=list(names))
    total = sum(shares.values())
    return {name: value / total for name, value in shares.items()} if total > 0 else None


def bootstrap_importances(
    record: StudyRecord, searched: dict[str, BaseDistribution], seed: int = 0
) -> dict[str, list[float]]:
    """Return parameter → importance in each of :data:`RESAMPLES` resamples of the finished trials.

    These are PED-ANOVA importances (Watanabe et al. 2023), which sum to 1 in each resample; there are fewer
    resamples where one holds trials that are all alike. ``seed`` is of the resampling.
    """
    values = _values(record)
    names = [name for name, dist in searched.items() if not dist.single()]
    trials = [
        create_trial(
            state=TrialState.COMPLETE,
            params={name: trial.params[name] for name in names},
            distributions={name: searched[name] for name in names},
            value=values[trial.number],
        )
        for trial in record.trials
        if trial.number in values and all(name in trial.params for name in names)
    ]
    rng = np.random.default_rng(seed)
    resampled: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(RESAMPLES):
        drawn = [trials[at] for at in rng.integers(0, len(trials), len(trials))]
        for name, value in (_importances(drawn, record.sign > 0, names) or {}).items():
            resampled[name].append(value)
    return resampled


def _bars(order: Sequence[str], quantiles: Mapping[str, NDArray[np.float64]]) -> go.Figure:
    return go.Figure(
        go.Bar(
            x=[float(quantiles[name][1]) for name in order],
            y=[plain(name) for name in order],
            orientation="h",
            marker={"color": COLOURS[0]},
            error_x={
                "type": "data",
                "symmetric": False,
                "array": [float(quantiles[name][2] - quantiles[name][1]) for name in order],
                "arrayminus": [float(quantiles[name][1] - quantiles[name][0]) for name in order],
                "color": COLOURS[1],
                "thickness": 2,
                "width": 6,
            },
            hoverinfo="x+y",
        )
    )


def draw_importance(record: StudyRecord) -> Drawing | None:
    """Draw the parameters' importance; None with fewer than :data:`LEAST_TRIALS` finished trials."""
    count = len(_values(record))
    searched = distributions(record.space)
    if count < LEAST_TRIALS or sum(not dist.single() for dist in searched.values()) < 2:
        return None
    quantiles = {
        name: np.asarray(np.quantile(values, (0.1, 0.5, 0.9)), dtype=np.float64)
        for name, values in bootstrap_importances(record, searched).items()
        if values
    }
    if not quantiles:
        return None
    order = sorted(quantiles, key=lambda name: float(quantiles[name][1]))
    figure = _bars(order, quantiles)
    figure.update_xaxes(title="share of the importance", range=[0, 1], tickformat=".0%")
    rows = tuple((name, *(f"{value:.0%}" for value in quantiles[name])) for name in reversed(order))
    return Drawing(
        "importance",
        "Importance of the parameters",
        f"PED-ANOVA: how far the best {_best(count)} trials differ from all {count} in each parameter; "
        "pruned ones count as worse than complete ones. The bar is the median over "
        f"{RESAMPLES} resamples of the trials, the line runs from the 10th to the 90th percentile. "
        "Where the lines overlap, the order means nothing.",
        figure,
        Table(("parameter", "10th percentile", "median", "90th percentile"), rows),
        height=120 + 46 * len(order),
    )
