"""The house: imports go downwards only, and the target labels stay sealed."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import iimt_search

PACKAGE = Path(__file__).parents[1] / "iimt_search"
FLOORS = [
    {"errors", "files", "seeding", "records", "settings", "task_name", "space"},
    {"iimt", "models", "data", "validators"},
    {"training"},
    {"study", "report"},
    {"script_guard", "api"},
    {"cli"},
]
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
# Within a floor: who may look at whom. Floor 0 is one family; the report reads the study.
SAME_FLOOR = {(a, b) for a in FLOORS[0] for b in FLOORS[0]} | {("report", "study"), ("api", "script_guard")}
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE or path.stem in FLOOR_OF)


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    """Return the full names of our modules that a file imports, inside functions too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {name for name in found if name.startswith("iimt_search.")}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_downwards(path: Path) -> None:
    room = room_of(path)
    for name in imported(path):
        other = name.split(".")[1]
        if other in iimt_search.__all__ or other == room:
            continue
        below = FLOOR_OF[other] < FLOOR_OF[room]
        assert below or (room, other) in SAME_FLOOR, f"{room} imports {name}, which is not below it"


def test_every_room_has_a_floor() -> None:
    rooms = {room_of(path) for path in PACKAGE.rglob("*.py") if path.stem not in ("__init__", "__main__")}
    assert rooms == set(FLOOR_OF)


def test_only_the_audit_reads_sealed_labels() -> None:
    readers = {p.relative_to(PACKAGE).as_posix() for p in MODULES if "iimt_search.data.sealed" in imported(p)}
    assert readers == {"auditing/measure.py"}


def test_ray_is_looked_at_in_its_own_room_only() -> None:
    for path in PACKAGE.rglob("*.py"):
        lines = [line.split() for line in path.read_text().splitlines()]
        named = any(
            words[:1] in (["import"], ["from"]) and words[1].split(".")[0] == "ray" for words in lines
        )
        assert not named or path.parent.name == "ray", path


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
