"""What is done with kept checkpoints on the command line, in process, on one tiny study."""

import json
import math
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result
from torch import Tensor

import iimt_search
from iimt_search.cli.main import cli
from iimt_search.data.assemble import load_task
from iimt_search.space.task_spec import TaskSpec
from iimt_search.study.open import OpenStudy, open_study
from iimt_search.study.selection.choice import note_change, read_mark
from iimt_search.task_name import slug
from iimt_search.training.kept import load_kept_model
from iimt_search.validators.registry import VALIDATORS, default_validators

TASKS = ("digits->digits-m", "digits->syn-digits")
NEEDY = {"few_shot", "reverse_validation", "reverse_validation_short"}


def invoke(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, [str(a) for a in arguments])


def read(*arguments: str | Path) -> dict[str, Any]:
    result = invoke(*arguments, "--json")
    assert result.exit_code == 0, result.output
    content: dict[str, Any] = json.loads(result.stdout)
    return content


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, tiny_space_text: str) -> Iterator[Path]:
    """The studies folder of the tiny study, run once for this module."""
    folder = tmp_path_factory.mktemp("score")
    text = tiny_space_text.replace("evaluations: 2", "evaluations: 2, evaluation_samples: 200")
    (folder / "tiny.yaml").write_text(text.replace("retrain: {steps: 5}", "retrain: {steps: 5, seeds: 2}"))
    options = ["--workers", "0", "--device", "cpu", "--studies-dir", folder / "s"]
    result = invoke("run", "--space", folder / "tiny.yaml", *options)
    assert result.exit_code == 0, result.output
    yield folder / "s"


@pytest.fixture(scope="module")
def scored(root: Path) -> dict[str, Any]:
    """Every validator's score of the last kept checkpoint of each job and task."""
    return read("score", "--studies-dir", root)


@pytest.fixture
def copy(root: Path, tmp_path: Path) -> Path:
    """A studies folder of one's own."""
    shutil.copytree(root, tmp_path / "s")
    return tmp_path / "s"


def kept_file(root: Path, job: str, task: str, step: int) -> Path:
    return root / "tiny" / "kept" / job / slug(task) / f"{step}.safetensors"


def kept_steps(root: Path) -> dict[tuple[str, str], list[int]]:
    """Return the steps that are kept of each job and task, as the folder has them."""
    slugs = {slug(task): task for task in TASKS}
    found: dict[tuple[str, str], list[int]] = {}
    for path in (root / "tiny" / "kept").glob("*/*/*.safetensors"):
        found.setdefault((path.parts[-3], slugs[path.parts[-2]]), []).append(int(path.stem))
    return found


def study_of(root: Path) -> OpenStudy:
    return open_study(root, "tiny")


def samples(task: str) -> Tensor:
    return torch.from_numpy(load_task(TaskSpec.model_validate(task), 8).target.x[:100])


def kept_logits(root: Path, job: str, task: str) -> Tensor:
    step = max(kept_steps(root)[job, task])
    with torch.no_grad():
        logits: Tensor = load_kept_model(kept_file(root, job, task, step)).model(samples(task))
    return logits


def exported_logits(folder: str, task: str) -> Tensor:
    with torch.no_grad():
        logits: Tensor = iimt_search.load_model(folder)(samples(task))
    return logits


def test_every_job_has_its_last_checkpoint_scored(root: Path, scored: dict[str, Any]) -> None:
    found = {(each["job"], each["task"]): each["step"] for each in scored["checkpoints"]}
    assert len(found) == len(scored["checkpoints"])
    assert found == {key: max(steps) for key, steps in kept_steps(root).items()}
    assert {"source-only", "trial-0", "trial-1", "trial-2", "confirm-source-only-0"} <= {j for j, _ in found}
    assert scored["study"] == "tiny"
    assert all(list(each["scores"]) == list(VALIDATORS) for each in scored["checkpoints"])


def test_what_its_validator_needs_is_not_kept_has_no_score(scored: dict[str, Any]) -> None:
    for each in scored["checkpoints"]:
        assert {name for name, value in each["scores"].items() if value is None} >= NEEDY
    for task in TASKS:
        assert {name for name, found in scored["preferred"][task].items() if found is None} == NEEDY


def test_each_validator_prefers_what_it_scores_best(scored: dict[str, Any]) -> None:
    assert set(scored["preferred"]) == set(TASKS)
    for task in TASKS:
        mine = [each for each in scored["checkpoints"] if each["task"] == task]
        for name, validator in VALIDATORS.items():
            values = [each["scores"][name] for each in mine if each["scores"][name] is not None]
            found = scored["preferred"][task][name]
            if values:
                best = max(values) if validator.higher_is_better else min(values)
                assert found["scores"][name] == best and found["task"] == task and found in mine
            else:
                assert found is None


def test_scores_are_those_that_the_study_holds(root: Path, scored: dict[str, Any]) -> None:
    (study,) = study_of(root).studies
    by_key = {(each["job"], each["task"]): each["scores"] for each in scored["checkpoints"]}
    compared = 0
    for trial in study.get_trials():
        for task in TASKS:
            for name in default_validators():
                held = trial.user_attrs["scores"][task][name]
                found = by_key[f"trial-{trial.number}", task][name]
                assert found == (held if math.isfinite(held) else None), (trial.number, task, name)
                compared += 1
    assert compared == 3 * 2 * len(default_validators())
    for key, value in study.user_attrs.items():
        if key.startswith("job "):
            for task, scores in value["scores"].items():
                assert by_key[key.removeprefix("job "), task]["entropy"] == scores["entropy"]


def test_every_step(root: Path) -> None:
    content = read("score", "--studies-dir", root, "--every-step", "--validator", "consensus")
    found = {(each["job"], each["task"], each["step"]): each["scores"] for each in content["checkpoints"]}
    assert set(found) == {(*key, step) for key, steps in kept_steps(root).items() for step in steps}
    assert len(found) > len(kept_steps(root))
    assert all(list(scores) == ["consensus"] for scores in found.values())
    (study,) = study_of(root).studies
    for trial in study.get_trials():
        for step, value in trial.intermediate_values.items():
            mean = sum(found[f"trial-{trial.number}", task, step]["consensus"] for task in TASKS) / 2
            assert mean == pytest.approx(value, rel=1e-12)


def test_several_validators_by_name(root: Path) -> None:
    names = ["--validator", "bnm", "--validator", "ens_v"]
    content = read("score", "--studies-dir", root, "--study", "tiny", *names)
    assert all(list(each["scores"]) == ["bnm", "ens_v"] for each in content["checkpoints"])
    assert set(content["preferred"][TASKS[0]]) == {"bnm", "ens_v"}
    assert all(0 <= each["scores"]["ens_v"] <= 1 for each in content["checkpoints"])
    text = invoke("score", "--studies-dir", root, *names).output
    for task in TASKS:
        assert task in text and f"{content['preferred'][task]['bnm']['scores']['bnm']:.4f}" in text


def test_export_writes_the_preferred_models(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    content = read("score", "--studies-dir", root, "--validator", "source_risk", "--export", out)
    assert content["exported"] == {task: str(out / slug(task)) for task in TASKS}
    for task in TASKS:
        found = content["preferred"][task]["source_risk"]
        folder = content["exported"][task]
        with torch.no_grad():
            model = load_kept_model(kept_file(root, found["job"], task, found["step"])).model
            assert torch.equal(exported_logits(folder, task), model(samples(task)))
        described = json.loads((Path(folder) / "model.json").read_text())
        assert described["scores"] == found["scores"] and described["step"] == found["step"]
        assert described["task"] == task
    jobs = {each["job"] for each in content["checkpoints"]} - {found["job"]}
    assert any(
        not torch.equal(exported_logits(folder, task), kept_logits(root, job, task))
        for job in jobs
        if (job, task) in kept_steps(root)
    )
    text = invoke("score", "--studies-dir", root, "--validator", "source_risk", "--export", out).output
    assert f"exported {TASKS[0]} to {out / slug(TASKS[0])}/" in text


def test_an_earlier_step_can_be_exported_too(copy: Path, tmp_path: Path) -> None:
    for (job, task), steps in kept_steps(copy).items():
        kept_file(copy, job, task, max(steps)).write_bytes(
            kept_file(copy, job, task, min(steps)).read_bytes()  # a tie: the earlier one comes first
        )
    options = ["--every-step", "--validator", "source_risk", "--export", tmp_path / "out"]
    content = read("score", "--studies-dir", copy, *options)
    for task in TASKS:
        assert content["preferred"][task]["source_risk"]["step"] == 2
        described = json.loads((Path(content["exported"][task]) / "model.json").read_text())
        assert described["step"] == 2


def test_nothing_to_export(root: Path, tmp_path: Path) -> None:
    result = invoke(
        "score", "--studies-dir", root, "--validator", "few_shot", "--export", tmp_path / "out", "--json"
    )
    assert result.exit_code == 1
    assert "few_shot prefers nothing for digits->digits-m: what it needs was not kept" in result.output
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("names", [[], ["bnm", "entropy"]], ids=["none", "two"])
def test_export_needs_one_validator(root: Path, tmp_path: Path, names: list[str]) -> None:
    given = [word for name in names for word in ("--validator", name)]
    result = invoke("score", "--studies-dir", root, *given, "--export", tmp_path / "out")
    assert result.exit_code == 2 and "--export needs exactly one --validator" in result.output
    assert not (tmp_path / "out").exists()


def test_an_unknown_validator(root: Path) -> None:
    result = invoke("score", "--studies-dir", root, "--validator", "entropi")
    assert result.exit_code == 2 and "there is no validator 'entropi'" in result.output


def test_a_study_that_has_kept_nothing(copy: Path) -> None:
    shutil.rmtree(copy / "tiny" / "kept")
    result = invoke("score", "--studies-dir", copy)
    assert result.exit_code == 1
    (line,) = result.output.splitlines()
    assert line.startswith("error: study 'tiny' has no kept checkpoints in ")


def test_a_damaged_checkpoint_is_told_by_its_name(copy: Path) -> None:
    path = kept_file(copy, "trial-1", TASKS[0], max(kept_steps(copy)["trial-1", TASKS[0]]))
    path.write_bytes(path.read_bytes()[:100])
    result = invoke("score", "--studies-dir", copy, "--validator", "bnm")
    (line,) = result.output.splitlines()
    assert result.exit_code == 1 and f"{path} is not a whole kept checkpoint" in line


def test_the_validators_as_text() -> None:
    result = invoke("validators")
    assert result.exit_code == 0
    text = result.output
    for name, validator in VALIDATORS.items():
        assert name in text and f"fails: {validator.failure}" in text and validator.reference in text
    assert "trained: intra-domain mixup of the target" in text


def test_the_validators_as_json() -> None:
    content = read("validators")
    assert list(content) == list(VALIDATORS)
    for name, validator in VALIDATORS.items():
        assert content[name]["failure"] == validator.failure != ""
        assert content[name]["higher_is_better"] is validator.higher_is_better
        assert content[name]["needs"] == list(validator.needs)
    assert {name for name, each in content.items() if each["default"]} == set(default_validators())


def test_what_is_handed_out_averages_the_probabilities_of_all_retrainings(root: Path, tmp_path: Path) -> None:
    content = read("best", "--studies-dir", root, "--export", str(tmp_path / "out"))
    (choice,) = study_of(root).made_choices()
    name = choice.candidate
    assert choice.caveats == tuple(content["caveats"])
    for task in TASKS:
        jobs = choice.members[task]
        assert set(jobs) <= {f"retrain-{name}-{slug(task)}", f"retrain-{name}-{slug(task)}-1"}
        each = torch.stack([kept_logits(root, job, task).softmax(dim=1) for job in jobs])
        found = exported_logits(content["exported"][task], task).softmax(dim=1)
        assert torch.allclose(found, each.mean(dim=0), atol=1e-6)
        assert len(iimt_search.load_model(content["exported"][task]).members) == len(jobs)
        assert len(jobs) == 1 or not any(torch.allclose(found, one, atol=1e-4) for one in each)
    assert max(map(len, choice.members.values())) == 2


def test_single_is_one_of_them(root: Path, tmp_path: Path) -> None:
    content = read("best", "--studies-dir", root, "--export", str(tmp_path / "out"), "--single")
    (choice,) = study_of(root).made_choices()
    name = choice.candidate
    for task in TASKS:
        folder = Path(content["exported"][task])
        assert {path.name for path in folder.iterdir()} == {
            "model.safetensors",
            "model.json",
            "MODEL_CARD.md",
        }
        found = exported_logits(content["exported"][task], task)
        jobs = (f"retrain-{name}-{slug(task)}", f"retrain-{name}-{slug(task)}-1")
        assert sum(torch.equal(found, kept_logits(root, job, task)) for job in jobs) == 1
        assert json.loads((folder / "model.json").read_text())["scores"] == content["retrained"][task]


def test_single_goes_with_export(root: Path) -> None:
    result = invoke("best", "--studies-dir", root, "--single")
    assert result.exit_code == 2 and "--single goes with --export" in result.output


def test_an_audit_marks_the_study_and_changes_no_choice(copy: Path) -> None:
    before = read("best", "--studies-dir", copy)
    assert read_mark(study_of(copy).studies[0]) is None
    content = read("audit", "--studies-dir", copy, "--no-train")
    opened = study_of(copy)
    (study,), (choice,) = opened.studies, opened.made_choices()
    assert read("best", "--studies-dir", copy) == before
    mark = read_mark(study)
    assert mark is not None and mark.digest == choice.digest
    assert note_change(study, choice) == choice
    other = note_change(study, replace(choice, params={**choice.params, "alpha": 0.123}))
    assert other.caveats[-1].startswith(f"changed after the audit of {mark.at}")

    assert set(content["tasks"]) == set(TASKS)
    accuracies = json.loads((copy / "tiny" / "audit.json").read_text())["accuracies"]
    preferred = read("score", "--studies-dir", copy)["preferred"]
    for task, row in content["tasks"].items():
        assert row["default"] is None and row["ceiling"] is None
        assert row["models"] == sum(name == TASKS[0] for _, name in kept_steps(copy)) == len(accuracies[task])
        assert set(row["validators"]) == set(VALIDATORS) - NEEDY
        best = max(*accuracies[task].values(), row["choice"]["target_accuracy"], row["source_only"])
        assert row["oracle"] == best
        for name, picked in row["validators"].items():
            # What `score` prefers without labels is what the audit has measured with them.
            accuracy = accuracies[task][preferred[task][name]["job"]]
            assert picked["target_accuracy"] == accuracy
            assert picked["oracle_gap"] == pytest.approx(best - accuracy)
    picture = (copy / "tiny" / "audit.html").read_text(encoding="utf-8")
    assert "neighbour_agreement" in picture and 'src="http' not in picture

    text = invoke("audit", "--studies-dir", copy, "--no-train").output
    assert str(copy / "tiny" / "audit.html") in text.replace("\n", "")
    assert read_mark(study_of(copy).studies[0]) == mark  # the first audit's stays
