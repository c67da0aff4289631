"""Scores of the pool's models, computed once and kept beside them."""

import json
import math
import multiprocessing
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch

from benchmarks.pool import Member, accuracy, load_member, test_predictions
from iimt_search.study.scoring import computable
from iimt_search.validators.composite import combine
from iimt_search.validators.contract import score_all, score_candidates
from iimt_search.validators.registry import VALIDATORS

Scores = dict[str, float]


def _path(member: Member, root: Path) -> Path:
    return member.files(root)[-1].with_suffix(".scores.json")


def _score(at: tuple[Member, Path]) -> Scores:
    member, root = at
    torch.set_num_threads(1)
    path = _path(member, root)
    known: Scores = json.loads(path.read_text()) if path.exists() else {}
    predictions = load_member(member, root)
    names = [name for name in VALIDATORS if VALIDATORS[name].cost != "pool" and computable(name, predictions)]
    missing = [name for name in names if name not in known]
    if missing:
        known |= score_all(missing, predictions)
        path.write_text(json.dumps(known))
    return known | {"accuracy": accuracy(*test_predictions(member, root))}


def score_pool(pool: Iterable[Member], root: Path, workers: int) -> dict[Member, Scores]:
    """Return every model's score by every validator that needs no others, and its test ``accuracy``."""
    wanted = list(pool)
    with multiprocessing.get_context("spawn").Pool(workers) as processes:
        return dict(zip(wanted, processes.map(_score, [(m, root) for m in wanted], chunksize=4), strict=True))


# Other objectives that were tried: geometric means of scores in [0, 1].
TRIED: dict[str, tuple[str, ...]] = {
    "source_accuracy × reverse_probe × diversity": ("source_accuracy", "reverse_probe", "diversity"),
    "class_ami × diversity": ("class_ami", "diversity"),
    "composite × neighbour_agreement": ("composite", "neighbour_agreement"),
    "class_ami × neighbour_agreement × diversity": ("class_ami", "neighbour_agreement", "diversity"),
    "composite × ens_v": ("composite", "ens_v"),
    "composite × bnm": ("composite", "bnm"),
}


def add_tried(scores: Mapping[Member, Scores]) -> None:
    """Add the scores of :data:`TRIED`."""
    for found in scores.values():
        for name, parts in TRIED.items():
            found[name] = combine(*(found[part] for part in parts))


def add_pool_scores(scores: Mapping[Member, Scores], root: Path) -> None:
    """Add the scores of validators that compare the models of one task and seed."""
    for key in dict.fromkeys((member.task, member.seed) for member in scores):
        mine = [member for member in scores if (member.task, member.seed) == key]
        logits = [load_member(member, root).target_logits for member in mine]
        for name in (name for name in VALIDATORS if VALIDATORS[name].cost == "pool"):
            for member, value in zip(mine, score_candidates(name, logits), strict=True):
                scores[member][name] = value if math.isfinite(value) else math.nan
