"""The validators against each other: do different views on a model agree?"""

import math
from collections.abc import Sequence

import numpy as np
from scipy.stats import spearmanr

from iimt_search.report.figures.drawing import DIVERGING, Drawing, Table, heatmap, number
from iimt_search.report.record import StudyRecord
from iimt_search.study.search.trial_record import TrialRecord
from iimt_search.validators.registry import VALIDATORS

LEAST_TRIALS = 5


def _columns(record: StudyRecord, trials: Sequence[TrialRecord]) -> dict[str, list[float]]:
    """Return validator → its score of each trial, higher is better; those that tell trials apart."""
    names = (name for trial in trials for scores in trial.scores.values() for name in scores)
    columns: dict[str, list[float]] = {}
    for name in dict.fromkeys([record.objective, *names]):
        if name not in VALIDATORS:
            continue  # of another version
        sign = 1 if VALIDATORS[name].higher_is_better else -1
        means = [trial.mean(name) for trial in trials]
        values = [sign * value for value in means if value is not None and math.isfinite(value)]
        if len(values) == len(trials) and len(set(values)) > 1:
            columns[name] = values
    return columns


def draw_correlations(record: StudyRecord) -> Drawing | None:
    """Draw the validators' rank correlations; None with too few complete trials or validators."""
    trials = [trial for trial in record.trials if trial.state == "complete"]
    columns = _columns(record, trials)
    if len(trials) < LEAST_TRIALS or len(columns) < 2:
        return None
    names = list(columns)
    ranks = [[float(spearmanr(columns[a], columns[b]).statistic) for b in names] for a in names]
    figure = heatmap(
        np.round(ranks, 3).tolist(),
        names,
        names,
        zmin=-1,
        zmax=1,
        colorscale=DIVERGING,
        texttemplate="%{z:.1f}",
        textfont={"size": 10},
        hovertemplate="%{y} and %{x}: %{z:.2f}<extra></extra>",
    )
    figure.update_yaxes(dtick=1).update_xaxes(tickangle=-60, dtick=1)
    rows = tuple((a, *(number(value, ".2f") for value in row)) for a, row in zip(names, ranks, strict=True))
    return Drawing(
        "validators",
        "Validators against each other",
        f"Rank correlation over {len(trials)} complete trials, each validator turned so that higher is "
        f"better. Where most of the row of {record.objective} is near 1, different views agree; a validator "
        "that disagrees with all the others, or an objective that does, is a reason to look closer.",
        figure,
        Table(("", *names), rows),
        height=190 + 26 * len(names),
        least_width=190 + 30 * len(names),
    )
