from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from iimt_search.records import Job
from iimt_search.settings import TrainSettings
from iimt_search.space.task_spec import TaskSpec
from iimt_search.study.folder import StudyFolder
from iimt_search.study.kept import KeptLimit, bound_kept, kept_checkpoints, last_checkpoints
from iimt_search.training.kept import KeptCheckpoint

TASKS = ("a->b", "c->d")
SIZE = 100


def keep(folder: StudyFolder, job: str, task: str, steps: Sequence[int], size: int = SIZE) -> None:
    spec = TaskSpec.model_validate(task)
    made = Job(job, (spec,), TrainSettings(), 0, (), "", kept=str(folder.kept / job))
    for step in steps:
        path = made.kept_file(task, step)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(size))


def names(kept: Sequence[KeptCheckpoint]) -> list[str]:
    return [f"{each.job} {each.task} {each.step}" for each in kept]


def left(folder: StudyFolder) -> list[str]:
    return names(kept_checkpoints(folder, TASKS))


@pytest.fixture
def study(tmp_path: Path) -> StudyFolder:
    folder = StudyFolder(tmp_path / "s")
    for job in ("trial-0", "trial-1", "source-only"):
        for task in TASKS:
            keep(folder, job, task, (2, 4))
    return folder


def test_every_checkpoint_by_job_task_and_step(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    keep(folder, "trial-1", "c->d", (10, 2))
    keep(folder, "trial-1", "a->b", (100,))
    keep(folder, "source-only", "a->b", (4,))
    keep(folder, "source-only", "e->f", (4,))
    found = kept_checkpoints(folder, TASKS)
    assert names(found) == ["source-only a->b 4", "trial-1 a->b 100", "trial-1 c->d 2", "trial-1 c->d 10"]
    assert found[2].path == tmp_path / "kept" / "trial-1" / "c_to_d" / "2.safetensors"
    assert names(kept_checkpoints(folder, ["c->d"])) == ["trial-1 c->d 2", "trial-1 c->d 10"]


def test_what_is_half_written_is_no_checkpoint(study: StudyFolder) -> None:
    before = left(study)
    (study.kept / "trial-0" / "a_to_b" / "6.123.tmp").write_bytes(b"half")
    assert left(study) == before and len(before) == 12


def test_a_study_that_has_kept_nothing(tmp_path: Path) -> None:
    assert kept_checkpoints(StudyFolder(tmp_path / "none"), TASKS) == []


def test_the_last_of_each_job_and_task(study: StudyFolder) -> None:
    keep(study, "trial-1", "a->b", (12,))
    found = last_checkpoints(kept_checkpoints(study, TASKS))
    assert names(found) == [
        "source-only a->b 4",
        "source-only c->d 4",
        "trial-0 a->b 4",
        "trial-0 c->d 4",
        "trial-1 a->b 12",
        "trial-1 c->d 4",
    ]
    assert names(last_checkpoints(reversed(found))) == names(found[::-1])
    assert last_checkpoints([]) == []


def bound(folder: StudyFolder, files: int, worst_first: Sequence[str]) -> int:
    return bound_kept(kept_checkpoints(folder, TASKS), files * SIZE, lambda: worst_first)


def test_within_the_limit_nothing_goes_and_nobody_is_asked(study: StudyFolder) -> None:
    def ask() -> list[str]:
        raise AssertionError("asked")

    assert bound_kept(kept_checkpoints(study, TASKS), 12 * SIZE, ask) == 0
    assert bound_kept([], 0, ask) == 0
    assert len(left(study)) == 12


def test_one_byte_too_many_costs_one_checkpoint(study: StudyFolder) -> None:
    kept = kept_checkpoints(study, TASKS)
    assert bound_kept(kept, 12 * SIZE - 1, lambda: ["trial-1"]) == 1
    assert set(names(kept)) - set(left(study)) == {"trial-1 a->b 2"}


# What goes, one after the other: earlier ones of the worst job, of the next; then last ones likewise.
ORDER = [
    {"trial-1 a->b 2", "trial-1 c->d 2"},
    {"trial-0 a->b 2", "trial-0 c->d 2"},
    {"trial-1 a->b 4", "trial-1 c->d 4"},
    {"trial-0 a->b 4", "trial-0 c->d 4"},
]


@pytest.mark.parametrize("steps", [1, 2, 3, 4])
def test_the_worst_jobs_earlier_checkpoints_go_first(study: StudyFolder, steps: int) -> None:
    before = set(left(study))
    assert bound(study, 12 - 2 * steps, ["trial-1", "trial-0"]) == 2 * steps
    assert before - set(left(study)) == set.union(*ORDER[:steps])


def test_earlier_steps_go_before_later_ones(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    keep(folder, "trial-0", "a->b", (2, 4, 6, 10))
    assert bound(folder, 2, ["trial-0"]) == 2
    assert left(folder) == ["trial-0 a->b 6", "trial-0 a->b 10"]


def test_other_jobs_lose_none(study: StudyFolder) -> None:
    assert bound(study, 0, ["trial-0", "trial-1"]) == 8
    assert left(study) == [f"source-only {task} {step}" for task in TASKS for step in (2, 4)]
    assert bound(study, 0, []) == 0
    assert len(left(study)) == 4


def test_empty_folders_go_and_others_stay(study: StudyFolder) -> None:
    keep(study, "trial-0", "e->f", (4,))
    bound(study, 0, ["trial-0", "trial-1"])
    assert sorted(path.name for path in study.kept.iterdir()) == ["source-only", "trial-0"]
    assert [path.name for path in (study.kept / "trial-0").iterdir()] == ["e_to_f"]


def test_large_files_count_for_more(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    keep(folder, "trial-0", "a->b", (2,), size=50)
    keep(folder, "trial-0", "a->b", (4,), size=500)
    keep(folder, "trial-1", "a->b", (2, 4), size=100)
    assert bound(folder, 7, ["trial-1", "trial-0"]) == 1
    assert bound(folder, 2, ["trial-0", "trial-1"]) == 2
    assert left(folder) == ["trial-1 a->b 4"]


def test_a_file_that_somebody_else_deletes_meanwhile_is_no_error(study: StudyFolder) -> None:
    kept = kept_checkpoints(study, TASKS)
    gone = next(each for each in kept if names([each]) == ["trial-1 a->b 2"])

    def ask() -> list[str]:
        gone.path.unlink()
        return ["trial-1"]

    assert bound_kept(kept, 11 * SIZE, ask) == 1
    assert replace(gone, step=4) in [replace(each, path=gone.path) for each in kept_checkpoints(study, TASKS)]


def test_the_limit_holds_while_trials_end(study: StudyFolder) -> None:
    limit = KeptLimit(study, TASKS, 20 * SIZE)
    assert limit.ended("trial-1", lambda: []) == 0  # 12 are there
    keep(study, "trial-2", "a->b", (2, 4))
    keep(study, "trial-3", "a->b", range(2, 14, 2))
    assert limit.ended("trial-2", lambda: []) == 0
    assert limit.ended("trial-3", lambda: []) == 0  # 20 now
    keep(study, "trial-4", "c->d", (2,))
    # A little below the limit, so that it does not happen again at each trial's end.
    assert limit.ended("trial-4", lambda: ["trial-3", "trial-0"]) == 2
    assert len(left(study)) == 19 and "trial-3 a->b 4" not in left(study)
    keep(study, "trial-5", "c->d", (2,))
    assert limit.ended("trial-5", lambda: []) == 0
