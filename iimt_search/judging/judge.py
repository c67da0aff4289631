"""The choice among models that others trained: the rules of a study's, on files of predictions."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import chain
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from iimt_search.errors import DataError, UsageError
from iimt_search.files import atomic_write, shown, strict_json
from iimt_search.judging.files import ENDINGS, arrays_of, read_predictions
from iimt_search.models.device import on_all_cores
from iimt_search.pooling.agreement import mean_agreement
from iimt_search.pooling.labels import PooledModel
from iimt_search.records import Candidate
from iimt_search.study.scope import SOURCE_ONLY_KEY
from iimt_search.study.search.reference import CONSENSUS
from iimt_search.study.selection.caveats import shifted_shares
from iimt_search.study.selection.decide import Agreement, decide
from iimt_search.study.selection.trained import ModelsTogether, class_shares
from iimt_search.study.veto import CHECKS, reasons_against
from iimt_search.validators.contract import (
    Predictions,
    all_finite,
    lacking,
    score_all,
    score_candidates,
)
from iimt_search.validators.registry import VALIDATORS, default_validators

# Fewer models with adaptation have no majority that could tell one of them to be wrong.
LEAST_REFERENCE = 3
_ANSWERS: dict[str, Literal["model", "baseline", "none"]] = {
    "trial": "model",
    "source-only": "baseline",
    "none": "none",
}


@dataclass(frozen=True)
class JudgedModel:
    """One file.

    Attributes:
        candidate: whose it is.
        path: the file.
        scores: validator → score; NaN where it is undefined.
        weight: how much it counts in the ensemble; 0 without adaptation, or where a value is not finite.
        probabilities: float64 (N, C), of the target samples.
    """

    candidate: str
    path: Path
    scores: Mapping[str, float]
    weight: float
    probabilities: Tensor = field(compare=False, repr=False)


@dataclass(frozen=True)
class ModelChoice:
    """What is answered of models that others trained.

    Attributes:
        answer: ``model``; ``baseline`` where no model scored better than those without adaptation, or where
            adaptation is not to be trusted; or ``none``, no confident choice.
        candidate: the name of what is chosen; with ``none`` the safest.
        reason: why, for people.
        objective: the validator that decided.
        score: the chosen candidate's, mean over its files.
        scores: candidate → validator → mean over its files.
        candidates: all, best first, each with a score for each of its files.
        baselines: names of those without adaptation.
        caveats: what to know before trusting it.
        unscored: validator → what it lacks of which file.
        agreement: as Cohen's κ, of the better half of the models with adaptation (``adapted``), and of those
            without (``source_only``).
        shares: class → its share of the source, where source labels are there, its estimated share of the
            target, and how far the models differ in it.
        models: every file.
        ensemble: float64 (N, C), labels of the target that all models give together; None
            where there is none.
    """

    answer: Literal["model", "baseline", "none"]
    candidate: str
    reason: str
    objective: str
    score: float
    scores: dict[str, dict[str, float]]
    candidates: tuple[Candidate, ...]
    baselines: tuple[str, ...]
    caveats: tuple[str, ...]
    unscored: dict[str, str]
    agreement: dict[str, float | None]
    shares: dict[str, dict[str, float]]
    models: tuple[JudgedModel, ...]
    ensemble: Tensor | None = field(compare=False, repr=False)

    @property
    def title(self) -> str:
        """The answer in a few words, for people."""
        if self.answer == "none":
            return f"no confident choice, {self.candidate} is the safest"
        return f"{self.candidate}, without adaptation" if self.answer == "baseline" else self.candidate

    @property
    def probabilities(self) -> Tensor:
        """What the chosen candidate says of the target, mean over its files: float64 (N, C)."""
        return torch.stack([m.probabilities for m in self.models if m.candidate == self.candidate]).mean(
            dim=0
        )

    @property
    def digest(self) -> str:
        """A hash of what was chosen among what."""
        content = [self.answer, self.candidate, [[c.name, c.scores, c.veto] for c in self.candidates]]
        return hashlib.sha256(json.dumps(strict_json(content)).encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values; null for NaN."""
        content = {name: value for name, value in vars(self).items() if name not in ("models", "ensemble")}
        content["candidates"] = [{**asdict(c), "mean": c.mean} for c in self.candidates]
        content["models"] = [
            {"candidate": m.candidate, "file": shown(m.path), "weight": m.weight, "scores": dict(m.scores)}
            for m in self.models
        ]
        content["digest"] = self.digest
        return dict(strict_json(content))


def find_models(paths: Sequence[Path]) -> dict[str, tuple[Path, ...]]:
    """Return candidate → its files: a file is one, and a folder of trainings that differ in their seeds only.

    Args:
        paths: files and folders; one folder alone holds the candidates.

    Raises:
        DataError: there is no file, or two candidates have one name.
    """
    if len(paths) == 1 and paths[0].is_dir():
        inner = [p for p in sorted(paths[0].iterdir()) if p.is_dir() or p.suffix.lower() in ENDINGS]
        folder, paths = paths[0], [p for p in inner if not p.name.startswith(".")]
        if not paths:
            raise DataError(f"no {' or '.join(ENDINGS)} file in {shown(folder)}/")
    found: dict[str, tuple[Path, ...]] = {}
    for path in paths:
        files: tuple[Path, ...] = (path,)
        if path.is_dir():
            files = tuple(p for p in sorted(path.iterdir()) if p.suffix.lower() in ENDINGS)
        elif path.suffix.lower() not in ENDINGS:
            raise DataError(f"{shown(path)}: a model's file ends in {' or '.join(ENDINGS)}")
        if not files:
            raise DataError(f"no {' or '.join(ENDINGS)} file in {shown(path)}/")
        name = path.name if path.is_dir() else path.stem
        if name in found:
            raise DataError(f"two candidates are named {name!r}: {shown(found[name][0])} and {shown(path)}")
        found[name] = files
    return found


def _read(files: Mapping[str, Sequence[Path]]) -> dict[Path, Predictions]:
    """Read all; raises DataError where they are not of the same samples and classes."""
    read = {path: read_predictions(path) for path in chain.from_iterable(files.values())}
    first, *others = read
    for path in others:
        shapes = [tuple(read[each].target_logits.shape) for each in (first, path)]
        if shapes[0] != shapes[1]:
            raise DataError(
                f"{shown(path)} predicts {shapes[1]} (samples, classes) of the target, {shown(first)} "
                f"{shapes[0]}: all have to predict the same samples in one order"
            )
    return read


def _unscored(
    names: Sequence[str], read: Mapping[Path, Predictions], whose: Mapping[Path, str]
) -> dict[str, str]:
    """Return validator → what it lacks of which files, where it lacks something."""

    def told(paths: Sequence[Path]) -> str:
        if len(paths) == len(read):
            return "all files"
        return ", ".join(
            shown(path.name if path.stem == whose[path] else f"{whose[path]}/{path.name}") for path in paths
        )

    found = {}
    for name in names:
        by_field: dict[str, list[Path]] = {}
        for path, predictions in read.items():
            for lacked in lacking(name, predictions):
                by_field.setdefault(lacked, []).append(path)
        texts = [
            f"{LEAST_REFERENCE} models with adaptation, all their values finite"
            if lacked == "reference"
            else f"{arrays_of(lacked)} of {told(paths)}"
            for lacked, paths in by_field.items()
        ]
        if texts:
            found[name] = "; ".join(texts)
    return found


def _score(names: Sequence[str], read: Mapping[Path, Predictions]) -> dict[Path, dict[str, float]]:
    of_pool = [name for name in names if VALIDATORS[name].cost == "pool"]
    alone = [name for name in names if name not in of_pool]
    found = on_all_cores(lambda p: score_all(alone, p), read.values(), lambda _done: None)
    for name in of_pool:
        for scores, value in zip(
            found, score_candidates(name, [p.target_logits for p in read.values()]), strict=True
        ):
            scores[name] = value
    return dict(zip(read, found, strict=True))


def _mean(scores: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: fmean(each[name] for each in scores) for name in scores[0]}


def _candidate(
    name: str,
    objective: str,
    scores: Sequence[Mapping[str, float]],
    baseline: Mapping[str, float],
    predictions: Sequence[Predictions],
) -> Candidate:
    values = tuple(each[objective] for each in scores)
    reasons = [reason for each in scores for reason in reasons_against(each, baseline)]
    if not reasons and not all(map(math.isfinite, values)):
        reasons = [f"{objective} is not finite"]
    logits = [p.target_logits for p in predictions]
    kappa = mean_agreement([x.argmax(dim=-1) for x in logits], logits[0].shape[1])
    known = math.isfinite(kappa) and all_finite(*logits)
    return Candidate(name, values, kappa if known else None, "; ".join(dict.fromkeys(reasons)))


def _check_names(names: Sequence[str], baselines: Sequence[str], files: Mapping[str, Any]) -> None:
    for name in names:
        if name not in VALIDATORS:
            raise UsageError(f"there is no validator {name!r}; see `iimt-search validators`")
    for name in baselines:
        if name not in files:
            raise UsageError(f"`baseline={name}` is not among the candidates: {', '.join(files)}")


def choose(
    models: str | Path | Sequence[str | Path],
    *,
    baselines: Sequence[str] = (),
    objective: str = CONSENSUS,
    validators: Sequence[str] = (),
) -> ModelChoice:
    """Choose among models of any framework by what they predict, without a target label.

    The rules are a study's: vetoes, the objective, agreement; see ``docs/other-frameworks.md``, also for the
    files.

    Args:
        models: files, ``.npz`` or ``.safetensors``, each a candidate, and folders of files, each a candidate
            that was trained several times; or one folder that holds them.
        baselines: names of the candidates without adaptation: a file's without its ending, a folder's. By
            default ``source-only``, where there is one.
        objective: the validator that decides.
        validators: others to score by; by default the quick ones for which all files have what they need.

    Raises:
        DataError: a file is missing, damaged or wrong, or the files do not fit together.
        UsageError: there is no such validator or baseline, or files lack what it needs: says which, and what.
    """
    paths = [Path(p) for p in ([models] if isinstance(models, (str, Path)) else models)]
    files = dict(sorted(find_models(paths).items()))  # sums do not depend on the order
    named = tuple(dict.fromkeys([objective, *validators]))
    _check_names(named, baselines, files)
    without = tuple(baselines) or tuple(name for name in files if name == SOURCE_ONLY_KEY)
    read = _read(files)
    whose = {path: name for name, of_name in files.items() for path in of_name}
    views = {
        path: PooledModel(p.target_logits, p.target_embeddings)
        for path, p in read.items()
        if all_finite(p.target_logits, p.target_embeddings)
    }
    adapted = [path for path in views if whose[path] not in without]
    together = ModelsTogether(
        [views[path] for path in adapted], [view for path, view in views.items() if whose[path] in without]
    )
    pool = together.pool
    labels = None if pool is None else pool.labels()
    if len(adapted) >= LEAST_REFERENCE:
        read = {path: replace(p, reference=labels) for path, p in read.items()}

    wanted = tuple(dict.fromkeys([*named, *CHECKS, *(() if validators else default_validators())]))
    unscored = _unscored(wanted, read, whose)
    if told := [f"{name} needs {unscored[name]}" for name in named if name in unscored]:
        raise UsageError("; ".join(told) + ". Leave it out, or give another `objective`")
    scores = _score([name for name in wanted if name not in unscored], read)
    means = {name: _mean([scores[path] for path in of_name]) for name, of_name in files.items()}
    accuracies = [a for b in without if math.isfinite(a := means[b].get("source_accuracy", math.nan))]
    known = {"source_accuracy": max(accuracies)} if accuracies else {}
    candidates = [
        _candidate(name, objective, [scores[p] for p in of_name], known, [read[p] for p in of_name])
        for name, of_name in files.items()
    ]
    entry = VALIDATORS[objective]
    decision = decide(
        candidates,
        objective,
        entry.higher_is_better,
        together.agreement,
        baselines=without,
        seeds="",
        no_baseline="no model without adaptation is named as a baseline",
    )
    shares = {}
    y = next((p.source_labels for p in read.values() if len(p.source_labels)), None)
    if pool is not None and y is not None:
        shares = class_shares(
            pool, y, [str(at) for at in range(read[next(iter(read))].target_logits.shape[1])]
        )
    weights = {} if pool is None else dict(zip(adapted, pool.weights.tolist(), strict=True))
    sign = -1 if entry.higher_is_better else 1
    return ModelChoice(
        answer=_ANSWERS[decision.answer],
        candidate=decision.winner.name,
        reason=decision.reason,
        objective=objective,
        score=decision.winner.mean,
        scores=means,
        candidates=tuple(sorted(candidates, key=lambda c: (math.isnan(c.mean), sign * c.mean))),
        baselines=without,
        caveats=(
            *(f"no veto by {name}: it needs {unscored[name]}" for name in CHECKS if name in unscored),
            *_about_agreement(without, whose, views, len(adapted), objective, together.agreement),
            *(shifted_shares({"target": shares}) if shares else ()),
        ),
        unscored=unscored,
        agreement=together.agreement.known(),
        shares=shares,
        models=tuple(
            JudgedModel(whose[path], path, scores[path], weights.get(path, 0.0), p.target_probabilities)
            for path, p in read.items()
        ),
        ensemble=labels,
    )


# So many trials make the reference of a study.
_USUAL_REFERENCE = 5
# Below it agreement is called slight (Landis and Koch 1977).
LEAST_AGREEMENT = 0.2


def _about_agreement(
    without: Sequence[str],
    whose: Mapping[Path, str],
    views: Mapping[Path, Any],
    adapted: int,
    objective: str,
    agreement: Agreement,
) -> list[str]:
    texts = []
    if without and sum(whose[path] in without for path in views) < 2:
        texts.append(
            "one model without adaptation: whether such models agree more than those with it is not known; "
            "give a folder of two that differ in their seeds"
        )
    if objective == CONSENSUS and adapted < _USUAL_REFERENCE:
        texts.append(f"{CONSENSUS} is with what {adapted} models say together: where most are wrong, it is")
    if agreement.adapted < LEAST_AGREEMENT:
        texts.append(
            f"the models with adaptation hardly agree on the target (κ = {agreement.adapted:z.2f} of their "
            f"better half): what they say together means little"
        )
    return texts


def save_predictions(choice: ModelChoice, path: Path) -> None:
    """Write what is said of the target samples as an ``.npz``, beside and renamed; its folder is made.

    Its arrays are float32 (N, C): ``probabilities`` of what is chosen, ``ensemble`` of all models
    together, where there is one with adaptation.
    """
    arrays: dict[str, Any] = {"probabilities": choice.probabilities.float().numpy()}
    if choice.ensemble is not None:
        arrays["ensemble"] = choice.ensemble.float().numpy()
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as beside, beside.open("wb") as file:
        np.savez(file, **arrays)
