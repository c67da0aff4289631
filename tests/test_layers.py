"""Imports go downwards only, the target labels stay sealed, and the map of the packages is true."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "iimt_search"
MODULES = sorted(PACKAGE.rglob("*.py"))
MOST_FILES = 13
# Registries of like things, and the verbs.
MAY_HAVE_MORE = {"validators", "cli"}


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the contracts of pyproject.toml on the package in a folder."""
    code = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    command = [sys.executable, "-c", code, "--no-cache"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("data/store.py", "from iimt_search.study.folder import StudyFolder", "Imports go downwards"),
        ("study/run.py", "from iimt_search.data.sealed import open_sealed_target", "sealed target labels"),
        (
            "judging/judge.py",
            "from iimt_search.data.sealed import open_sealed_target",
            "sealed target labels",
        ),
        ("training/predict.py", "import ray", "Ray is imported"),
        ("study/search/budget.py", "from iimt_search.study.selection.decide import decide", "Within a study"),
    ],
)
def test_a_contract_can_break(module: str, line: str, contract: str, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(PACKAGE, copy / "iimt_search", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", copy)
    with (copy / "iimt_search" / module).open("a", encoding="utf-8") as file:
        file.write(f"\n{line}\n")
    found = lint_imports(copy)
    assert found.returncode == 1
    assert re.search(f"^{contract}.* BROKEN|{contract}.* BROKEN", found.stdout, flags=re.M)


def packages() -> list[Path]:
    """Return the folders of the package, itself first."""
    return [path.parent for path in MODULES if path.name == "__init__.py"]


def test_the_map_names_every_package() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    named = set(re.findall(r"^\| `([a-z_/]+)/` \|", page, flags=re.M))
    assert named == {path.relative_to(PACKAGE).as_posix() for path in packages()[1:]}


def test_the_map_names_files_that_exist() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    files = re.findall(r"`([a-z_/]+\.py)`", page)
    assert len(files) > 20
    assert [name for name in files if not (PACKAGE / name).exists() and not (ROOT / name).exists()] == []


@pytest.mark.parametrize("package", packages(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_packages_are_told_and_small(package: Path) -> None:
    text = (package / "__init__.py").read_text(encoding="utf-8")
    assert len(text.split('"""')[1]) > 40, "its docstring says what belongs there"
    modules = [path for path in package.glob("*.py") if path.name != "__init__.py"]
    assert len(modules) <= MOST_FILES or package.name in MAY_HAVE_MORE


def test_no_pickle_on_disk() -> None:
    for path in MODULES:
        text = path.read_text()
        assert "pickle.dump" not in text and "pickle.load" not in text, path
        for line in text.splitlines():
            assert "torch.load(" not in line or "weights_only=True" in line, f"{path}: {line}"


@pytest.mark.parametrize(
    ("arguments", "absent"),
    [
        (["--help"], {"torch", "ray", "optuna", "sklearn"}),
        (["--version"], {"torch", "ray", "optuna", "sklearn"}),
        (["run", "--help"], {"torch", "ray", "optuna", "sklearn"}),
        (["best", "--help"], {"torch", "ray"}),
        (["predict", "--help"], {"torch", "ray", "optuna", "sklearn"}),
        (["status", "--help"], {"torch", "ray"}),
        (["choose", "--help"], {"torch", "ray", "optuna", "sklearn"}),
    ],
)
def test_help_loads_nothing_heavy(arguments: list[str], absent: set[str]) -> None:
    code = (
        "import sys\nfrom iimt_search.cli.main import cli\n"
        f"cli({arguments!r}, standalone_mode=False)\n"
        f"print('LOADED', sorted({absent!r} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.rstrip().endswith("LOADED []")


def test_the_library_loads_nothing_heavy_before_it_is_used() -> None:
    code = (
        "import sys\nimport iimt_search\n"
        "iimt_search.load_space(sys.argv[1]), iimt_search.run, iimt_search.best, iimt_search.audit\n"
        "print(sorted({'torch', 'ray', 'optuna', 'sklearn'} & set(sys.modules)))"
    )
    space = PACKAGE.parent / "spaces" / "digits.yaml"
    out = subprocess.run([sys.executable, "-c", code, str(space)], capture_output=True, text=True, check=True)
    assert out.stdout == "[]\n"
