"""``iimt-search data``, in process."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from iimt_search.cli.main import cli
from iimt_search.data.registry import DOMAINS

RNG = np.random.default_rng(0)


def invoke(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, ["data", *map(str, arguments)])


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for prepared domains."""
    monkeypatch.setenv("IIMT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("IIMT_DATA", str(tmp_path / "data"))
    return tmp_path / "cache"


@pytest.fixture
def own_space(tmp_path: Path) -> Path:
    """A space of a task of vectors and one of series, relative to its folder."""
    y = np.arange(40) % 2
    np.savez(tmp_path / "v.npz", x=RNG.normal(size=(40, 3)).astype(np.float32), y=y)
    np.savez(tmp_path / "w.npz", x=RNG.normal(size=(30, 3)).astype(np.float32))
    np.savez(tmp_path / "s.npz", x=RNG.normal(size=(40, 2, 9)).astype(np.float32), y=y)
    np.savez(tmp_path / "t.npz", x=RNG.normal(size=(30, 2, 9)).astype(np.float32))
    path = tmp_path / "own.yaml"
    path.write_text(
        "schema: 1\nstudy: own\ntasks:\n"
        "- {name: v to w, source: [{arrays: v.npz}], target: {arrays: w.npz}}\n"
        "- {name: s to t, source: [{arrays: s.npz}], target: {arrays: t.npz}}\n"
        "search: {batch_size: {low: 8, high: 31}}\n"
    )
    return path


def listed() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(invoke("list", "--json").stdout)
    return content


def test_list(cache: Path) -> None:
    content = listed()
    assert [row["name"] for row in content["domains"]] == list(DOMAINS)
    assert all(row["prepared"] == [] for row in content["domains"])
    assert content["prepared_root"] == str(cache) and content["data_root"] == str(cache.parent / "data")
    assert not cache.exists()
    invoke("prepare", "digits-m", "--size", "8")
    invoke("prepare", "digits-m")
    prepared = {row["name"]: row["prepared"] for row in listed()["domains"]}
    assert prepared["digits-m"] == [8, 16] and prepared["digits"] == []
    text = invoke("list").output
    assert "8 px, 16 px" in text and str(cache) in text and "made here" in text


def test_list_does_not_count_other_versions_and_half_made_ones(cache: Path) -> None:
    version = DOMAINS["digits"].version
    for name in (f"digits-v{version - 1}-16px", f"digits-v{version}-16px.tmp", "digits-vx"):
        (cache / name).mkdir(parents=True)
    assert all(row["prepared"] == [] for row in listed()["domains"])


def test_prepare_names(cache: Path) -> None:
    first = invoke("prepare", "digits", "digits-m", "--size", "8")
    assert first.exit_code == 0 and "preparing digits-m (8 px)\n" in first.output
    folder = cache / f"digits-v{DOMAINS['digits'].version}-8px"
    assert "digits (8 px): 1347 samples + 450 test, made in " in first.output
    assert first.output.count(f": {folder}\n") == 1 and folder.is_dir()
    again = invoke("prepare", "digits", "--size", "8")
    assert f"digits (8 px): 1347 samples + 450 test, already there: {folder}\n" in again.output


def test_prepare_makes_damaged_ones_again(cache: Path) -> None:
    invoke("prepare", "digits", "--size", "8")
    (found,) = cache.glob("digits-*px")
    (found / "train_x.npy").write_bytes(b"short")
    assert "made in" in invoke("prepare", "digits", "--size", "8").output
    assert "already there" in invoke("prepare", "digits", "--size", "8").output


def test_prepare_a_space_prepares_each_domain_once(cache: Path, tiny_space: Path) -> None:
    result = invoke("prepare", "--space", tiny_space)
    assert result.exit_code == 0
    assert [line for line in result.output.splitlines() if line.startswith("preparing")] == [
        "preparing digits (8 px)",
        "preparing digits-m (8 px)",
        "preparing syn-digits (8 px)",
    ]
    assert "made in" not in invoke("prepare", "--space", tiny_space).output


def test_prepare_a_space_in_every_size_that_is_searched(cache: Path, tmp_path: Path) -> None:
    space = tmp_path / "sizes.yaml"
    space.write_text(
        "schema: 1\nstudy: s\ntasks: [digits->digits-m]\nsearch: {image_size: {choices: [8, 12]}}\n"
    )
    output = invoke("prepare", "--space", space).output
    assert [f"digits ({size} px): 1347" in output for size in (8, 12)] == [True, True]


def test_prepare_own_arrays(cache: Path, own_space: Path) -> None:
    result = invoke("prepare", "--space", own_space)
    assert "v: 40 samples, made in " in result.output and str(cache / "arrays-") in result.output
    assert "t: 30 samples, already there" in invoke("prepare", "--space", own_space).output


def test_prepare_a_python_domain(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "made_by_test.py").write_text(
        "import numpy as np\nfrom iimt_search.data.task import Domain, Labelled\n"
        "def build():\n"
        "    x = np.random.default_rng(0).normal(size=(6, 2)).astype('f4')\n"
        "    return Domain(Labelled(x, np.arange(6) % 2), None, ('a', 'b'), 'vector', 'noise')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    space = tmp_path / "p.yaml"
    space.write_text(
        "schema: 1\nstudy: p\ntasks: "
        "[{name: p, source: [{python: 'made_by_test:build'}], target: {python: 'made_by_test:build'}}]"
    )
    result = invoke("prepare", "--space", space)
    assert result.exit_code == 0 and "build: 6 samples, made anew by each process, not kept" in result.output


def test_prepare_ends_with_the_data_error(cache: Path, tmp_path: Path) -> None:
    space = tmp_path / "absent.yaml"
    space.write_text(
        "schema: 1\nstudy: a\ntasks: [{name: a, source: [{folder: absent}], target: {folder: b}}]"
    )
    result = invoke("prepare", "--space", space)
    assert result.exit_code == 1
    assert f"  there is no folder {tmp_path / 'absent'}\n" in result.output


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["prepare"], "give either --space FILE or names"),
        (["prepare", "digits", "--space", "x.yaml"], "give either --space FILE or names"),
        (["prepare", "--space", "x.yaml", "--size", "8"], "--size goes with names"),
        (["prepare", "digts"], "unknown domain 'digts'; did you mean 'digits'?"),
        (["prepare", "digits", "--size", "0"], "0 is not in the range"),
        (["check"], "give either --space FILE or a task such as 'digits->digits-m'"),
        (["check", "digits->digits-m", "--space", "x.yaml"], "give either --space"),
        (["check", "digits"], "a task is named 'source->target', got 'digits'"),
        (["check", "digits->digits"], "source and target must differ"),
        (["check", "digits->digts-m"], "unknown domain 'digts-m'; did you mean 'digits-m'?"),
        (["check", "--space", "absent.yaml"], "cannot read the space file"),
        (["show"], "give either --space FILE or a task"),
        (["show", "digits"], "a task is named 'source->target'"),
        (["show", "digits->digits-m", "--out", "a.html"], "of kind image is a .png file"),
    ],
)
def test_wrong_usage(arguments: list[str], told: str) -> None:
    result = invoke(*arguments)
    assert result.exit_code == 2 and told in result.output, result.output


def test_check() -> None:
    result = invoke("check", "digits->digits-m", "digits→syn-digits")
    assert result.exit_code == 0
    assert "digits->digits-m: image of 3 × 16 × 16, augmentation digits" in result.output
    assert "digits->syn-digits: " in result.output and result.output.count("no warnings") == 2
    assert "10 classes, source samples of each: 0 133, 1 136" in result.output
    assert "source val" in result.output and "target test" in result.output


def test_check_json_of_a_space(tiny_space: Path) -> None:
    tasks = json.loads(invoke("check", "--space", tiny_space, "--json").stdout)["tasks"]
    assert [row["task"] for row in tasks] == ["digits->digits-m", "digits->syn-digits"]
    assert tasks[0]["sample_shape"] == [3, 8, 8] and tasks[0]["target"]["train"] == 1347
    assert "classes" not in tasks[0]["target"]


def test_check_warns_by_the_largest_searched_batch_and_exits_with_0(own_space: Path) -> None:
    result = invoke("check", "--space", own_space)
    assert result.exit_code == 0
    assert "warning: target has 30 training samples, fewer than a batch of 31" in result.output
    own_space.write_text(own_space.read_text().replace("{low: 8, high: 31}", "{choices: [40, 8]}"))
    assert "fewer than a batch of 40" in invoke("check", "--space", own_space).output
    fixed = own_space.read_text().replace(
        "search: {batch_size: {choices: [40, 8]}}", "train: {batch_size: 8}"
    )
    own_space.write_text(fixed)
    assert "no warnings" in invoke("check", "--space", own_space).output


def test_check_ends_with_the_data_error(own_space: Path) -> None:
    np.savez(own_space.parent / "w.npz", x=np.zeros((30, 4), dtype=np.float32))
    result = invoke("check", "--space", own_space)
    assert result.exit_code == 1 and "error: v to w: source samples are (3,)" in result.output
    assert "s to t: series" in result.output  # the tasks after it are looked at, too
    np.savez(own_space.parent / "t.npz", x=np.full((30, 2, 9), np.nan))
    result = invoke("check", "--space", own_space, "--json")
    assert json.loads(result.stdout) == {"tasks": []}
    assert (
        "error: 2 things are wrong with the data\n  v to w: " in result.stderr
        and "t.npz (x): sample 0" in result.stderr
    )
    result = invoke("prepare", "--space", own_space)
    assert (
        result.exit_code == 1 and "v: 40 samples" in result.output and "t.npz (x): sample 0" in result.output
    )


def test_show_a_task_in_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = invoke("show", "digits->digits-m")
    assert result.exit_code == 0 and result.output == "digits_to_digits-m.png\n"
    with Image.open(tmp_path / "digits_to_digits-m.png") as image:
        assert image.width > 600


def test_show_to_a_file_or_into_a_folder(tmp_path: Path) -> None:
    file = tmp_path / "new" / "a.png"
    assert invoke("show", "digits->digits-m", "--out", file).output == f"{file}\n"
    assert file.is_file()
    into = invoke("show", "digits->digits-m", "--out", tmp_path)
    assert into.output == f"{tmp_path / 'digits_to_digits-m.png'}\n"


def test_show_a_space_into_a_folder(own_space: Path, tmp_path: Path) -> None:
    out = tmp_path / "pictures"
    result = invoke("show", "--space", own_space, "--out", out)
    assert result.output.splitlines() == [str(out / "v_to_w.html"), str(out / "s_to_t.html")]
    assert {path.name for path in out.iterdir()} == {"v_to_w.html", "s_to_t.html"}
    taken = tmp_path / "taken"
    taken.write_text("mine")
    refused = invoke("show", "--space", own_space, "--out", taken)
    assert refused.exit_code == 2 and "there are 2 tasks, give a folder" in refused.output
    assert taken.read_text() == "mine"


@pytest.mark.parametrize(
    "arguments", [["data", "--help"], ["data", "check", "--help"], ["data", "list", "--json"]]
)
def test_help_and_list_load_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys\nfrom iimt_search.cli.main import cli\n"
        f"cli({arguments!r}, standalone_mode=False)\n"
        "print('LOADED', sorted({'torch', 'ray', 'optuna', 'sklearn', 'plotly', 'PIL'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.rstrip().endswith("LOADED []")
