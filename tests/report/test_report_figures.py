"""What the report's figures show, on studies made by hand."""

from dataclasses import replace

import numpy as np
import plotly.io
import pytest
import torch

from iimt_search.data.task import DomainTask, Labelled, Unlabelled
from iimt_search.report.figures.audited import (
    audited_tasks,
    draw_accuracies,
    draw_confusion,
    draw_objective_and_accuracy,
)
from iimt_search.report.figures.contour import draw_contour, interpolated
from iimt_search.report.figures.curves import draw_curves
from iimt_search.report.figures.drawing import Drawing, number, plain, wrapped
from iimt_search.report.figures.embeddings import draw_embeddings, plane
from iimt_search.report.figures.importance import (
    LEAST_TRIALS,
    RESAMPLES,
    bootstrap_importances,
    draw_importance,
)
from iimt_search.report.figures.parameters import draw_parallel, draw_slices
from iimt_search.report.figures.progress import best_so_far, draw_progress
from iimt_search.report.figures.series_samples import draw_series_samples
from iimt_search.report.figures.tasks import draw_comparison, draw_matrix, task_scores
from iimt_search.report.figures.validators import draw_correlations
from iimt_search.report.record import StudyRecord
from iimt_search.report.shown_models import ShownModels, TargetSamples, certain_samples
from iimt_search.study.search.sampling import distributions
from iimt_search.study.search.trial_record import TrialRecord
from iimt_search.validators.contract import Predictions

TASKS = ("digits->digits-m", "syn-digits->digits")


def trial(number: int, value: float | None, **more: object) -> TrialRecord:
    state = "complete" if value is not None else "pruned"
    params = {"lambda_max": 1.0 + number, "alpha": 1.0, "temperature": 0.5, "k": 2}
    given = {"number": number, "state": state, "params": params, "value": value, **more}
    return TrialRecord(**given)  # type: ignore[arg-type]


def with_trials(record: StudyRecord, *trials: TrialRecord) -> StudyRecord:
    return replace(record, trials=trials, choice=None, fresh={})


def traces(drawing: Drawing | None) -> dict[str, object]:
    assert drawing is not None
    return {each.name: each for each in drawing.figure.data}


def test_best_so_far_climbs_and_passes_over_vetoed_trials(study) -> None:
    trials = [trial(0, 0.5), trial(1, 0.9, veto="collapsed"), trial(2, None), trial(3, 0.4), trial(4, 0.6)]
    assert best_so_far(with_trials(study(), *trials)) == [(0, 0.5), (3, 0.5), (4, 0.6)]


def test_best_so_far_falls_where_lower_is_better(study) -> None:
    record = with_trials(study(), trial(0, 0.5), trial(1, 0.7), trial(2, 0.2))
    lower = replace(record, space=record.space.model_copy(update={"objective": "entropy"}))
    assert best_so_far(lower) == [(0, 0.5), (1, 0.5), (2, 0.2)]
    assert [each.number for each in lower.ranked] == [2, 0, 1]


def test_every_outcome_has_a_sign_of_its_own_and_tells_why(study) -> None:
    record = with_trials(
        study(),
        trial(0, 0.5, curve={200: 0.5}),
        trial(1, 0.9, veto="digits->digits-m: collapsed", curve={200: 0.9}),
        trial(2, None, curve={40: 0.2, 80: 0.3}),
        trial(3, None, state="failed", error="not finite at step 3", curve={40: 0.1}),
    )
    for found in (traces(draw_progress(record)), traces(draw_curves(record))):
        signs = [found[outcome].marker.symbol for outcome in ("complete", "vetoed", "pruned", "failed")]
        assert len(set(signs)) == 4
        assert "collapsed" in found["vetoed"].hovertext[0]
        assert "pruned after step 80" in found["pruned"].hovertext[0]
        assert "not finite at step 3" in found["failed"].hovertext[0]
    pruned = traces(draw_curves(record))["pruned"]
    assert (pruned.x, pruned.y) == ((80,), (0.3,))


def test_importance_finds_what_matters_and_how_uncertain_that_is(study) -> None:
    record = study(trials=150)
    found = bootstrap_importances(record, distributions(record.space))
    assert all(len(values) == RESAMPLES for values in found.values())
    assert np.sum(list(found.values()), axis=0) == pytest.approx(np.ones(RESAMPLES))
    medians = {name: np.median(values) for name, values in found.items()}
    assert max(medians, key=medians.get) == "lambda_max"
    drawing = draw_importance(record)
    assert drawing.table.rows[0][0] == "lambda_max" and str(RESAMPLES) in drawing.caption
    bar = drawing.figure.data[0]
    assert all(bar.error_x.array[at] + bar.error_x.arrayminus[at] > 0 for at in range(4))


def test_importance_of_too_few_trials_is_not_told(study) -> None:
    record = study(trials=40)
    over = [each for each in record.trials if each.state in ("complete", "pruned")]
    assert draw_importance(with_trials(record, *over[: LEAST_TRIALS - 1])) is None
    assert draw_importance(with_trials(record, *over[:LEAST_TRIALS])) is not None


def test_pruned_trials_tell_what_is_bad(study) -> None:
    record = study(trials=150)
    good = [t for t in record.trials if t.value is not None and t.params["lambda_max"] < 1][:5]
    bad = [t for t in record.trials if t.state == "complete" and t.params["lambda_max"] > 10][:7]
    pruned = [replace(t, state="pruned", value=None, curve={2: 0.99}) for t in bad]
    assert len(good) == 5 and len(pruned) == 7
    found = bootstrap_importances(with_trials(record, *good, *pruned), distributions(record.space))
    medians = {name: np.median(values) for name, values in found.items()}
    assert max(medians, key=medians.get) == "lambda_max" and medians["lambda_max"] > 0.5


def test_slices_leave_out_what_does_not_differ(study) -> None:
    record = with_trials(study(), trial(0, 0.5), trial(1, 0.6))
    assert [drawing.name for drawing in draw_slices(record)] == ["slice-lambda_max"]
    assert draw_slices(record)[0].figure.layout.xaxis.type == "log"


def test_parallel_coordinates_put_each_value_between_the_ends(study) -> None:
    record = with_trials(study(), *(trial(number, 0.1 * number) for number in (0, 1, 3)))
    found = traces(draw_parallel(record))
    heights = sorted(each.y[0] for each in found.values())
    assert heights == pytest.approx([0, 0.5, 1])  # 1, 2, 4 on a logarithmic axis
    assert [list(each.x) for each in found.values()] == [[0, 1, 2, 3, None]] * 3


def test_a_contour_between_points_of_a_plane_is_that_plane() -> None:
    x, y = np.array([0.0, 1.0, 0.0, 1.0, 0.3]), np.array([0.0, 0.0, 2.0, 2.0, 1.1])
    across, along, z = interpolated(x, y, 3 * x - y, cells=5)
    assert z == pytest.approx(3 * across[None, :] - along[:, None])


def test_a_contour_needs_points_that_are_not_on_a_line(study) -> None:
    x = np.arange(9.0)
    assert interpolated(x, 2 * x, x) is None
    record = with_trials(study(), *(trial(number, 0.1 * number) for number in range(9)))
    assert draw_contour(record, ["lambda_max"]) is None  # the other parameters do not differ
    assert draw_contour(study(), ["temperature", "k"]).title == "temperature and k together"


def test_correlations_turn_validators_so_that_higher_is_better(study) -> None:
    def scored(number: int) -> TrialRecord:
        scores = {"composite": number, "entropy": -2.0 * number, "bnm": -1.0 * number, "snd": 1.0}
        return trial(number, float(number), scores={TASKS[0]: scores})

    drawing = draw_correlations(with_trials(study(), *(scored(number) for number in range(6))))
    heat = drawing.figure.data[0]
    assert heat.x == ("composite", "entropy", "bnm")  # snd scores all alike
    assert [list(row) for row in heat.z] == [[1, 1, -1], [1, 1, -1], [-1, -1, 1]]


def test_fresh_seeds_alone_count_once_there_are_any(study) -> None:
    record = study()
    assert set(task_scores(record)) == {"source-only", "trial-0", record.ranked[0].name}
    assert all(len(seeds) == 2 for scores in task_scores(record).values() for seeds in scores.values())
    before = task_scores(study(chosen=False))
    assert "source-only" in before and all(len(s) == 1 for each in before.values() for s in each.values())


def test_the_matrix_is_the_gain_over_source_only(study) -> None:
    def scores(a: float, b: float) -> dict[str, dict[str, float]]:
        return {TASKS[0]: {"composite": a}, TASKS[1]: {"composite": b}}

    fresh = {
        "source-only": (scores(0.5, 0.5), scores(0.7, 0.5)),
        "trial-0": (scores(0.8, 0.4), scores(0.8, 0.2)),
    }
    record = replace(study(), fresh=fresh, choice=None)
    heat = draw_matrix(record).figure.data[0]
    assert heat.y == ("source-only", "trial 0 (default)")
    assert [list(row) for row in heat.z] == [[0, 0], pytest.approx([0.2, -0.2])]
    assert [list(row) for row in heat.text] == [["0.600", "0.500"], ["0.800", "0.300"]]
    assert draw_comparison(record) is not None
    assert draw_comparison(replace(record, fresh={"source-only": fresh["source-only"]})) is None


def predictions(source: np.ndarray, target: np.ndarray, target_logits: np.ndarray) -> Predictions:
    def tensor(x: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(x.astype(np.float32))

    labels = torch.arange(len(source)) % target_logits.shape[1]
    logits = torch.nn.functional.one_hot(labels, target_logits.shape[1]).float()
    weight = torch.zeros(target_logits.shape[1], source.shape[1])
    return Predictions(logits, labels, tensor(source), tensor(target_logits), tensor(target), weight)


def test_embeddings_lie_in_the_plane_in_which_both_domains_spread_most() -> None:
    rng = np.random.default_rng(0)
    points = np.stack([10 * rng.normal(size=60), rng.normal(size=60), 1e-6 * rng.normal(size=60)], axis=1)
    found = predictions(points[:30], points[30:], rng.normal(size=(30, 3)))
    source, _, target, labels, explained = plane(found)
    first = np.concatenate([source, target])[:, 0]
    assert abs(np.corrcoef(first, points[:, 0])[0, 1]) > 0.999 and sum(explained) == pytest.approx(1)
    assert labels.tolist() == found.target_logits.argmax(dim=-1).tolist()


@pytest.mark.parametrize("width", [1, 4])
def test_collapsed_embeddings_are_drawn_at_one_place(width: int) -> None:
    same = np.ones((5, width))
    source, _, target, _, explained = plane(predictions(same, same, np.eye(5)))
    assert not source.any() and not target.any() and explained == (0.0, 0.0)


def test_at_most_400_points_of_each_domain_and_no_legend_for_many_classes() -> None:
    rng = np.random.default_rng(0)
    found = predictions(rng.normal(size=(900, 4)), rng.normal(size=(1500, 4)), rng.normal(size=(1500, 13)))
    drawing = draw_embeddings("a->b", tuple(f"c{i}" for i in range(13)), found, "after", "trial 3")
    assert sum(len(each.x) for each in drawing.figure.data) == 800
    assert not any(each.showlegend for each in drawing.figure.data)


def a_task(kind: str = "image") -> DomainTask:
    x = np.arange(20, dtype=np.uint8).reshape(20, 1, 1, 1)
    labelled = Labelled(x, np.arange(20) % 2)
    return DomainTask("a->b", ("odd", "even"), kind, "none", labelled, labelled, Unlabelled(x), "")  # type: ignore[arg-type]


def test_the_most_and_the_least_certain_samples_are_those_that_were_evaluated(study) -> None:
    # 20 target samples of which 5 are evaluated: 0, 5, 10, 14, 19.
    logits = np.array([[0.0, 1.0], [4.0, 0.0], [0.0, 2.0], [0.1, 0.0], [3.0, 0.0]])
    shown = ShownModels(study().tasks[0], None, (predictions(np.ones((2, 2)), np.ones((5, 2)), logits),), ())
    most, least = certain_samples(shown, a_task(), evaluated=5, count=2)
    assert most.x.ravel().tolist() == [5, 19] and most.predicted == ("odd", "odd")
    assert least.x.ravel().tolist() == [14, 0] and least.predicted == ("odd", "even")
    assert most.probability[0] > most.probability[1] > least.probability[1] > least.probability[0] > 0.5
    assert certain_samples(shown, a_task(), evaluated=6) is None  # not the samples that were kept
    assert certain_samples(shown, a_task("vector"), evaluated=5) is None


def test_of_an_ensemble_the_mean_probability_counts(study) -> None:
    one = predictions(np.ones((2, 2)), np.ones((1, 2)), np.array([[0.0, 0.0]]))
    other = predictions(np.ones((2, 2)), np.ones((1, 2)), np.array([[50.0, 0.0]]))
    assert ShownModels(study().tasks[0], None, (one, other), ()).probabilities[0, 0] == pytest.approx(0.75)


def test_series_are_small_lines_with_their_predicted_class() -> None:
    x = np.arange(3 * 6 * 10, dtype=np.float32).reshape(3, 6, 10)
    samples = TargetSamples(x, ("walk", "<b>run", "sit"), (0.9, 0.8, 0.5))
    drawing = draw_series_samples("samples-most", "a", samples)
    assert len(drawing.figure.data) == 3 * 4 and "2 more channels" in drawing.caption
    assert list(drawing.figure.data[5].y) == x[1, 1].tolist()
    titles = [each.text for each in drawing.figure.layout.annotations]
    assert titles == ["walk 90%", "&lt;b&gt;run 80%", "sit 50%"]
    assert draw_series_samples("samples-least", "a", TargetSamples(x[:0], (), ())) is None


def test_confusion_counts_and_audited_figures(study) -> None:
    drawing = draw_confusion("a->b", ("cat", "dog"), [[8, 2], [0, 5]])
    heat = drawing.figure.data[0]
    assert [list(row) for row in heat.z] == [[0.8, 0.2], [0, 1]] and drawing.caption.startswith("13 of 15 ")
    assert drawing.table.rows == (("cat", "8", "2"), ("dog", "0", "5"))
    record = study(audited=True)
    accuracies = traces(draw_accuracies(audited_tasks(record)))
    assert accuracies["what is handed out"].x == (88.0, 88.0)
    assert "best there is (oracle)" in accuracies
    known = traces(draw_objective_and_accuracy(record))
    assert len(known["digits → digits-m"].x) == sum(each.value is not None for each in record.trials)
    assert draw_accuracies(audited_tasks(study())) is None and draw_objective_and_accuracy(study()) is None


def test_all_figures_are_json_that_plotly_reads(study) -> None:
    record = study(audited=True)
    order = ["lambda_max", "alpha"]
    drawings = [draw(record) for draw in (draw_progress, draw_curves, draw_importance, draw_parallel)]
    for drawing in [*drawings, draw_contour(record, order), *draw_slices(record), draw_matrix(record)]:
        assert plotly.io.from_json(plotly.io.to_json(drawing.figure)).data


def test_texts() -> None:
    assert plain("<a href='x'>&") == "&lt;a href='x'&gt;&amp;"
    assert number(None) == "–" and number(-0.001, ".2f") == "0.00" and number(0.5, ".0%") == "50%"
    assert wrapped("a " * 50).count("<br>") == 1 and wrapped("<b>") == "&lt;b&gt;"
