import ast
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import iimt_search
from iimt_search.data.assemble import load_task
from iimt_search.data.open import open_domain, open_with_labels
from iimt_search.data.registry import load_domain
from iimt_search.data.sealed import open_sealed_target
from iimt_search.data.task import Labelled, Unlabelled
from iimt_search.errors import DataError
from iimt_search.space.task_spec import DomainSpec, TaskSpec


def test_labels_belong_to_the_samples_that_training_saw() -> None:
    spec = TaskSpec.model_validate("digits->digits-m")
    task = load_task(spec, 8)
    sealed = open_sealed_target(spec, task.classes, 8)
    domain = load_domain("digits-m", 8)
    assert sealed.train is not None and sealed.unseen
    assert np.array_equal(sealed.train.x, task.target.x)
    assert np.array_equal(sealed.train.y, domain.train.y)
    assert np.array_equal(sealed.test.x, domain.test.x) and np.array_equal(sealed.test.y, domain.test.y)


def write(path: Path, seed: int, y: list[str] | None) -> str:
    x = np.random.default_rng(seed).normal(size=(len(y or "12345678"), 5)).astype(np.float32)
    np.savez(path, x=x, **({} if y is None else {"y": np.array(y)}))
    return str(path)


def test_target_classes_are_put_into_the_sources_order(tmp_path: Path) -> None:
    source = write(tmp_path / "s.npz", 1, ["walk", "sit", "run", "sit", "run", "walk"] * 2)
    target = write(tmp_path / "t.npz", 2, ["walk", "walk", "sit", "walk"])
    spec = TaskSpec.model_validate({"source": {"arrays": source}, "target": {"arrays": target}})
    classes = load_task(spec).classes
    sealed = open_sealed_target(spec, classes)
    assert [classes[label] for label in sealed.test.y] == ["walk", "walk", "sit", "walk"]
    assert not sealed.unseen and sealed.train is sealed.test


def test_an_unlabelled_target_cannot_be_audited_unless_its_test_part_is(tmp_path: Path) -> None:
    source = write(tmp_path / "s.npz", 1, ["b", "a"] * 4)
    blind = write(tmp_path / "t.npz", 2, None)
    spec = TaskSpec.model_validate({"source": {"arrays": source}, "target": {"arrays": blind}})
    with pytest.raises(DataError, match="the target has no labels, there is nothing to audit with"):
        open_sealed_target(spec, ("a", "b"))
    test = write(tmp_path / "test.npz", 3, ["b", "b", "a"])
    spec = TaskSpec.model_validate({"source": {"arrays": source}, "target": {"arrays": blind, "test": test}})
    sealed = open_sealed_target(spec, ("a", "b"))
    assert sealed.train is None and sealed.unseen and sealed.test.y.tolist() == [1, 1, 0]


def test_open_domain_has_no_label(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for at, folder in enumerate(("own/cat", "own/dog", "test/cat")):
        (tmp_path / folder).mkdir(parents=True)
        Image.fromarray(np.full((8, 8, 3), at * 9, np.uint8)).save(tmp_path / folder / "1.png")
    arrays, test = write(tmp_path / "a.npz", 1, ["a", "b"]), write(tmp_path / "b.npz", 2, ["a", "b"])
    (tmp_path / "own_domain.py").write_text(
        "import numpy as np\nfrom iimt_search.data.task import Domain, Labelled\n"
        "def made():\n    part = Labelled(np.ones((4, 5), np.float32), np.array([0, 1, 0, 1]))\n"
        "    return Domain(part, part, ('a', 'b'), 'vector', 'noise')\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    for content in (
        {"named": "digits-m"},
        {"folder": str(tmp_path / "own"), "test": str(tmp_path / "test")},
        {"arrays": arrays, "test": test},
        {"python": "own_domain:made"},
    ):
        spec = DomainSpec.model_validate(content)
        domain, labelled = open_domain(spec, 8), open_with_labels(spec, 8)
        assert type(domain.train) is Unlabelled and type(domain.test) is Unlabelled
        assert isinstance(labelled.train, Labelled) and isinstance(labelled.test, Labelled)
        assert np.array_equal(domain.train.x, labelled.train.x)


def test_what_has_labels_is_imported_for_sources_and_the_audit_alone() -> None:
    package = Path(iimt_search.__file__).parent
    found = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom)
        and any(alias.name in ("open_with_labels", "load_domain") for alias in node.names)
    }
    assert found == {"data/assemble.py", "data/sealed.py", "data/open.py"}
