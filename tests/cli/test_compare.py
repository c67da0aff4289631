"""Two studies side by side, and watching one."""

import json
import math
import threading
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from iimt_search.cli.main import cli
from iimt_search.cli.progress import sparkline
from iimt_search.data.registry import DOMAINS
from iimt_search.space import KnownNames, Space, load_space
from iimt_search.study.compare import differences, incomparable
from iimt_search.study.executors.inline import InlineExecutor
from iimt_search.study.folder import StudyFolder
from iimt_search.study.open import open_study
from iimt_search.study.progress import Silent
from iimt_search.study.run import RunOptions, run_study
from iimt_search.validators.registry import VALIDATORS


def invoke(*words: str) -> Result:
    return CliRunner().invoke(cli, words)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, tiny_space_text: str) -> Path:
    """Studies a and b, which differ in their seed, c, which has another objective, and d another task."""
    found = tmp_path_factory.mktemp("studies")
    path = found / "tiny.yaml"
    path.write_text(tiny_space_text)
    content = load_space(path, KnownNames(DOMAINS, VALIDATORS)).canonical()
    for name, changes in (
        ("a", {}),
        ("b", {"seed": 7}),
        ("c", {"objective": "entropy"}),
        ("d", {"tasks": content["tasks"][:1]}),
    ):
        space = Space.model_validate({**content, **changes, "study": name})
        folder = StudyFolder(found / name)
        options = RunOptions(folder.choose_storage(None))
        run_study(space, folder, options, InlineExecutor, Silent(), threading.Event())
    return found


def compared(root: Path, *names: str) -> dict[str, Any]:
    result = invoke("compare", *names, "--studies-dir", str(root), "--json")
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_two_studies_side_by_side(root: Path) -> None:
    found = compared(root, "a", "b")
    assert [study["study"] for study in found["studies"]] == ["a", "b"]
    assert found["space"] == {"study": ["a", "b"], "seed": [0, 7]}
    assert found["incomparable"] == []
    for study in found["studies"]:
        (part,) = study["parts"]
        assert sum(part["trials"].values()) == 3
        assert math.isfinite(part["score"])
        assert set(part["scores"]) == {"digits->digits-m", "digits->syn-digits"}


def test_other_objectives_are_not_compared(root: Path) -> None:
    assert compared(root, "a", "c")["incomparable"] == ["other objective"]
    text = invoke("compare", "a", "c", "--studies-dir", str(root)).output
    assert "cannot be compared: other objective" in text
    assert "consensus" in text and "entropy" in text


def test_other_tasks_are_shown_as_the_space_file_has_them(root: Path) -> None:
    text = invoke("compare", "a", "d", "--studies-dir", str(root)).output
    assert "cannot be compared: other tasks" in text and "syn-digits" in text


def test_a_study_of_an_earlier_version_has_the_defaults_that_were_added_since(root: Path) -> None:
    first, second = (open_study(root, name) for name in ("a", "b"))
    earlier = {key: value for key, value in second.space["train"].items() if key != "lambda_schedule"}
    second.studies[0].set_user_attr("space", {**second.space, "train": earlier})
    assert incomparable(first, open_study(root, "b")) == []


def test_the_table_has_both(root: Path) -> None:
    text = invoke("compare", "a", "b", "--studies-dir", str(root)).output
    assert "seed" in text and "cannot be compared" not in text
    trials = next(line for line in text.splitlines() if line.strip().startswith("trials"))
    assert trials.count("complete") == 2


def test_a_study_is_not_compared_with_itself(root: Path) -> None:
    result = invoke("compare", "a", "a", "--studies-dir", str(root))
    assert result.exit_code == 2
    assert "twice" in result.output


def test_an_unknown_study_is_named(root: Path) -> None:
    result = invoke("compare", "a", "nowhere", "--studies-dir", str(root))
    assert result.exit_code == 1
    assert "'nowhere'" in result.output


def test_differences_go_into_mappings() -> None:
    first = {"same": 1, "train": {"steps": 1, "k": 2}, "only": 3}
    second = {"same": 1, "train": {"steps": 5, "k": 2}}
    assert differences(first, second) == {"train.steps": [1, 5], "only": [3, None]}


def test_watching_ends_where_nobody_runs_the_study(root: Path) -> None:
    result = invoke("status", "--study", "a", "--studies-dir", str(root), "--watch", "0.1")
    assert result.exit_code == 0
    assert result.output == invoke("status", "--study", "a", "--studies-dir", str(root)).output


def test_watching_goes_on_while_somebody_does(root: Path) -> None:
    folder, results = StudyFolder(root / "a"), []
    with folder.driver_lock():
        thread = threading.Thread(
            target=lambda: results.append(
                invoke("status", "--study", "a", "--studies-dir", str(root), "--watch", "0.1")
            )
        )
        thread.start()
        thread.join(1.5)
        assert thread.is_alive()
    thread.join(10)
    assert results[0].output.count("run by process") >= 2
    assert results[0].output.count("not running") == 1


def test_watch_and_json_exclude_each_other(root: Path) -> None:
    assert invoke("status", "--studies-dir", str(root), "--watch", "--json").exit_code == 2


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0, 0.5, 1.0], "▁▅█"),
        ([3.0, 3.0], "▅▅"),
        ([1.0, math.nan, 0.0], "█?▁"),
        ([math.nan], "?"),
        ([], ""),
    ],
)
def test_sparkline(values: list[float], expected: str) -> None:
    assert sparkline(values) == expected
