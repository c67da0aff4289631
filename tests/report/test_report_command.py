"""``iimt-search report`` on a tiny study that was really run."""

import json
import shutil
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import optuna
import plotly.io
import pytest
from click.testing import CliRunner, Result
from optuna.artifacts import FileSystemArtifactStore

from iimt_search.auditing.measure import TaskAudit, audit_json
from iimt_search.auditing.record import read_audit, write_audit
from iimt_search.cli.main import cli
from iimt_search.dashboard.artifacts import artifact_store, put_artifact
from iimt_search.dashboard.publish import publish, publish_after_run
from iimt_search.errors import ModelFileError
from iimt_search.report.record import read_records
from iimt_search.study.folder import StudyFolder
from iimt_search.study.open import open_study
from iimt_search.study.selection.choice import read_choice

TASK = "digits->digits-m"
CONFUSION = tuple(tuple(5 * (i == j) + i for j in range(10)) for i in range(10))


def invoke(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, ["report", *map(str, arguments)])


@pytest.fixture
def studies(tiny_studies: Path, tmp_path: Path) -> Path:
    """A copy of the tiny study that a test may change."""
    return Path(shutil.copytree(tiny_studies, tmp_path / "s"))


def read(*arguments: str | Path) -> dict[str, Any]:
    result = invoke(*arguments, "--json")
    assert result.exit_code == 0, result.output
    content: dict[str, Any] = json.loads(result.stdout)
    return content


@pytest.mark.long
def test_it_writes_one_file_and_each_figure_that_reads_back(studies: Path, tmp_path: Path) -> None:
    content = read("--studies-dir", studies, "--figures", tmp_path / "figures")
    path = Path(content["report"])
    assert path == studies / "tiny" / "report.html" and content["bytes"] == path.stat().st_size < 6_000_000
    page = path.read_text(encoding="utf-8")
    assert "Study tiny" in page and page.count('<img src="data:image/png;base64,') == 2 * 24
    assert {"progress", "learning-curves", "comparison", "task-matrix"} <= set(content["figures"])
    files = sorted((tmp_path / "figures").glob("*.json"))
    assert [file.stem for file in files] == sorted(content["figures"])
    assert all(plotly.io.from_json(file.read_text(encoding="utf-8")).data for file in files)
    drawn = [Path(each) for each in content["png"]]
    assert all(each.read_bytes().startswith(b"\x89PNG") for each in drawn)
    if find_spec("kaleido") is not None and shutil.which("chromium") is not None:
        assert sorted(each.stem for each in drawn) == sorted(content["figures"])


def test_without_kept_checkpoints_and_data_it_is_a_report_still(studies: Path) -> None:
    shutil.rmtree(studies / "tiny" / "kept")
    content = read("--studies-dir", studies)
    assert not [name for name in content["figures"] if name.startswith("embeddings")]
    assert "No kept checkpoint of a model for digits" in Path(content["report"]).read_text(encoding="utf-8")


def test_a_damaged_checkpoint_is_as_none(studies: Path) -> None:
    for file in (studies / "tiny" / "kept").rglob("*.safetensors"):
        file.write_bytes(b"{}")
    assert not [f for f in read("--studies-dir", studies)["figures"] if f.startswith("embeddings")]


def test_while_a_driver_runs_it_writes_the_report_and_leaves_the_study_alone(studies: Path) -> None:
    with StudyFolder(studies / "tiny").driver_lock():
        content = read("--studies-dir", studies)
    assert content["dashboard"] == "dashboard: unchanged while the study runs"
    assert "The search runs now" in Path(content["report"]).read_text(encoding="utf-8")


def test_an_unknown_study_is_one_line(tmp_path: Path) -> None:
    result = invoke("--studies-dir", tmp_path, "--study", "nope")
    assert result.exit_code == 1 and result.stderr.startswith("error: there is no study 'nope'")


def figures_of(study: optuna.Study) -> set[str]:
    attributes = study._storage.get_study_system_attrs(study._study_id)
    return {key.split(":")[2] for key in attributes if key.startswith("dashboard:plot_data:")}


def artifacts_of(study: optuna.Study, prefix: str) -> list[dict[str, Any]]:
    attributes = study._storage.get_study_system_attrs(study._study_id)
    return [json.loads(value) for key, value in attributes.items() if key.startswith(prefix)]


def test_publishing_twice_leaves_one_of_each(studies: Path) -> None:
    first = publish(open_study(studies, "tiny"))
    assert publish(open_study(studies, "tiny")) == first and first.startswith("dashboard: ")
    study = open_study(studies, "tiny").studies[0]
    assert {"comparison", "task-matrix", "learning-curves"} <= figures_of(study)
    names = [meta["filename"] for meta in artifacts_of(study, "artifacts:")]
    wanted = ["samples-digits_to_digits-m.png", "samples-digits_to_syn-digits.png"]
    assert sorted(names) == wanted
    files = {file.name: file.read_bytes() for file in (studies / "tiny" / "artifacts").iterdir()}
    assert {meta["artifact_id"] for meta in artifacts_of(study, "artifacts:")} <= set(files)
    assert all(content.startswith(b"\x89PNG") for content in files.values())


def test_a_run_does_not_fail_because_of_its_pictures(studies: Path) -> None:
    assert publish_after_run(open_study(studies, "tiny")) == publish(open_study(studies, "tiny"))
    (studies / "tiny" / "audit.json").write_text("{")
    said = publish_after_run(open_study(studies, "tiny"))
    assert said.startswith("dashboard: unchanged, ModelFileError: ") and "audit.json is damaged" in said


def test_an_artifact_that_was_deleted_in_the_dashboard_comes_again(studies: Path, tmp_path: Path) -> None:
    opened = open_study(studies, "tiny")
    study, store = opened.studies[0], artifact_store(opened.folder)
    assert isinstance(store, FileSystemArtifactStore)
    png = tmp_path / "a.png"
    png.write_bytes(b"one")
    put_artifact(study, store, png)

    def named() -> list[dict[str, str]]:
        """Return this file's, beside which the run has put its own."""
        return [meta for meta in artifacts_of(study, "artifacts:") if meta and meta["filename"] == "a.png"]

    (known,) = (meta["artifact_id"] for meta in named())
    study._storage.set_study_system_attr(study._study_id, f"artifacts:{known}", json.dumps(None))
    png.write_bytes(b"two")
    put_artifact(study, store, png)
    put_artifact(study, store, png, trial_id=study.trials[0]._trial_id)
    found = named()
    assert len(found) == 1 and found[0]["artifact_id"] != known
    assert (studies / "tiny" / "artifacts" / found[0]["artifact_id"]).read_bytes() == b"two"
    of_trial = artifacts_of(study, f"dashboard:artifacts:{study.trials[0]._trial_id}:")
    assert (studies / "tiny" / "artifacts" / of_trial[0]["artifact_id"]).read_bytes() == b"two"


def test_a_stored_audit_is_read_back(studies: Path) -> None:
    folder = studies / "tiny"
    choice = read_choice(open_study(studies, "tiny").studies[0])
    assert choice is not None and read_audit(folder) is None
    audit = TaskAudit(60.0, 85.0, 82.0, 90.0, None, None, 7, 450, True, {}, {"trial-0": 70.0}, CONFUSION)
    audits = {TASK: audit, "digits->syn-digits": replace(audit, confusion=())}
    write_audit(folder, audit_json("tiny", audits), audits, [choice])
    (record,) = read_records(open_study(studies, "tiny"))
    assert record.audit is not None and record.audit.digests == (choice.digest,)
    assert record.audit.accuracies[TASK] == {"trial-0": 70.0}
    assert record.audit.confusion == {TASK: [list(row) for row in CONFUSION]}
    assert "accuracies" in read("--studies-dir", studies)["figures"]
    (folder / "audit.json").write_text('{"schema": 1}')
    with pytest.raises(ModelFileError, match="audit.json is damaged"):
        read_audit(folder)


@pytest.mark.long
def test_of_each_task_of_a_per_task_study_it_shows_its_own(tmp_path: Path, tiny_space_text: str) -> None:
    text = tiny_space_text.replace("budget: {trials: 3}", "scope: per_task\nbudget: {trials: 1}")
    (tmp_path / "tiny.yaml").write_text(text)
    run = ["run", "--space", str(tmp_path / "tiny.yaml"), "--workers", "0", "--device", "cpu"]
    result = CliRunner().invoke(cli, [*run, "--studies-dir", str(tmp_path / "s")])
    assert result.exit_code == 0, result.output
    first, second = read_records(open_study(tmp_path / "s", "tiny"))
    assert [task.name for task in first.tasks] == [TASK] and len(second.tasks) == 1
    assert first.prefix == "digits_to_digits-m-" and set(first.fresh) == set(second.fresh) == {
        "source-only",
        "trial-0",
    }
    content = read("--studies-dir", tmp_path / "s", "--figures", tmp_path / "f")
    assert {path.name for path in (tmp_path / "f").iterdir()} == {
        "digits_to_digits-m",
        "digits_to_syn-digits",
    }
    assert "embeddings-before-digits_to_syn-digits" in content["figures"]
