"""How much each parameter decides, with the uncertainty of the few trials that this is seen from."""

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
from iimt_search.report.study_record import StudyRecord
from iimt_search.study.proposals import distributions

LEAST_TRIALS = 10
RESAMPLES = 50


def _importances(
    trials: Sequence[FrozenTrial], higher: bool, names: Sequence[str]
) -> dict[str, float] | None:
    """Return parameter → importance, summing to 1; None where the trials do not tell them apart."""
    study = optuna.create_study(direction="maximize" if higher else "minimize")
    study.add_trials(trials)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = PedAnovaImportanceEvaluator().evaluate(study, params=list(names))
    total = sum(found.values())
    return {name: value / total for name, value in found.items()} if total > 0 else None


def bootstrap_importances(
    record: StudyRecord, searched: dict[str, BaseDistribution], seed: int = 0
) -> dict[str, list[float]]:
    """Return parameter → importance in each of :data:`RESAMPLES` resamples of the complete trials.

    Args:
        record: the study.
        searched: its parameters' distributions.
        seed: of the resampling.

    Returns:
        PED-ANOVA importances (Watanabe et al. 2023), which sum to 1 in each resample; fewer resamples
        where one holds trials that are all alike.
    """
    kept = [trial for trial in record.trials if trial.state == "complete" and trial.value is not None]
    names = [name for name, dist in searched.items() if not dist.single()]
    kept = [trial for trial in kept if all(name in trial.params for name in names)]
    trials = [
        create_trial(
            state=TrialState.COMPLETE,
            params={name: trial.params[name] for name in names},
            distributions={name: searched[name] for name in names},
            value=trial.value,
        )
        for trial in kept
    ]
    rng = np.random.default_rng(seed)
    found: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(RESAMPLES):
        drawn = [trials[at] for at in rng.integers(0, len(trials), len(trials))]
        importances = _importances(drawn, record.sign > 0, names)
        for name, value in (importances or {}).items():
            found[name].append(value)
    return found


def _bars(order: Sequence[str], quantiles: Mapping[str, NDArray[np.float64]]) -> go.Figure:
    middle = [float(quantiles[name][1]) for name in order]
    return go.Figure(
        go.Bar(
            x=middle,
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
    """Draw the parameters' importance; None with fewer than :data:`LEAST_TRIALS` complete trials."""
    complete = [trial for trial in record.trials if trial.value is not None]
    searched = distributions(record.space)
    if len(complete) < LEAST_TRIALS or sum(not dist.single() for dist in searched.values()) < 2:
        return None
    found = {name: values for name, values in bootstrap_importances(record, searched).items() if values}
    if not found:
        return None
    order = sorted(found, key=lambda name: float(np.median(found[name])))
    quantiles = {
        name: np.asarray(np.quantile(found[name], (0.1, 0.5, 0.9)), dtype=np.float64) for name in order
    }
    figure = _bars(order, quantiles)
    figure.update_xaxes(title="share of the importance", range=[0, 1], tickformat=".0%")
    rows = tuple((name, *(f"{value:.0%}" for value in quantiles[name])) for name in reversed(order))
    return Drawing(
        "importance",
        "Importance of the parameters",
        "PED-ANOVA: how far the best tenth of the trials differs from all of them in each parameter. The "
        "bar "
        f"is the median over {RESAMPLES} resamples of the {len(complete)} complete trials, the line runs "
        "from "
        "the 10th to the 90th percentile. Where the lines overlap, the order means nothing.",
        figure,
        Table(("parameter", "10th percentile", "median", "90th percentile"), rows),
        height=120 + 46 * len(order),
    )
