from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from iimt_search.errors import UsageError
from iimt_search.space import KnownNames, load_space
from iimt_search.space.task_spec import DomainSpec, TaskSpec

HEAD = "schema: 1\nstudy: s\ntasks:\n"


def task(content: Any) -> TaskSpec:
    return TaskSpec.model_validate(content)


def test_named_domains_in_one_line() -> None:
    found = task("a -> b")
    assert (found.name, found.slug) == ("a->b", "a_to_b")
    assert found.source == (DomainSpec(named="a"),) and found.target == DomainSpec(named="b")
    assert found.model_dump() == "a->b"


def test_own_data_and_its_default_name() -> None:
    found = task({"source": {"folder": "lab/"}, "target": {"arrays": "x/field.npz"}})
    assert found.name == "lab->field"
    several = task({"source": ["mnist", {"python": "own.data:usps"}], "target": "svhn"})
    assert several.name == "mnist+usps->svhn"
    assert several.source[0].named == "mnist"


def test_round_trip() -> None:
    for content in ("a->b", {"name": "mine", "source": ["a"], "target": {"folder": "/b", "test": "/t"}}):
        assert task(task(content).model_dump()) == task(content)
    assert task({"name": "mine", "source": "a", "target": "b"}).model_dump()["name"] == "mine"


@pytest.mark.parametrize(
    ("domain", "message"),
    [
        ({}, "give exactly one of named, arrays, folder, list, python, got none"),
        ({"arrays": "a.npz", "folder": "b"}, "got arrays, folder"),
        ({"named": "a", "test": "b"}, "`test` goes with arrays, folder or list, not with named"),
        ({"folder": "a", "labels": "b"}, "`labels` goes with arrays, not with folder"),
        ({"folder": "a", "names": "b"}, "`names` goes with list, not with folder"),
        ({"list": "a", "count": 200}, "`count` goes with named, not with list"),
        ({"arrays": "a.npy", "test_labels": "b"}, "`test_labels` goes with test"),
        ({"python": "no colon"}, "should match pattern"),
        ({"arrays": "a.npy", "kind": "video"}, "Input should be 'image', 'series' or 'vector'"),
    ],
)
def test_wrong_domains(domain: dict[str, str], message: str) -> None:
    with pytest.raises(ValidationError, match=message.replace("(", r"\(")):
        task({"source": "a", "target": domain})


def test_a_list_and_what_goes_with_it(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(
        HEAD
        + "  - source: {list: lists/amazon.txt, root: 007, names: names.txt}\n    target: {list: b.txt}\n"
    )
    (found,) = load_space(path, KnownNames((), ("consensus",))).tasks
    (source,) = found.source
    assert found.name == "amazon->b" and source.list == str(tmp_path / "lists" / "amazon.txt")
    assert (source.root, source.names) == (str(tmp_path / "007"), str(tmp_path / "names.txt"))
    assert task(found.model_dump()) == found and set(found.target.model_dump()) == {"list"}


def test_paths_are_seen_from_the_space_file(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "own.yaml"
    path.parent.mkdir()
    path.write_text(HEAD + "  - {source: {folder: lab/}, target: {arrays: ../t.npz, test: /abs/t.npz}}\n")
    (found,) = load_space(path, KnownNames((), ("consensus",))).tasks
    assert found.source[0].folder == str(tmp_path / "deep" / "lab")
    assert Path(found.target.arrays or "").resolve() == tmp_path / "t.npz"
    assert found.target.test == "/abs/t.npz"


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("  - {source: a, target: b}\n  - {source: {foldr: x}, target: b}\n", 5, "did you mean 'folder'?"),
        ("  - source: a\n    targt: b\n", 5, "unknown key 'tasks.0.targt'; did you mean 'target'?"),
        ("  - source: a\n    target: zzz\n", 4, "unknown domain 'zzz'; did you mean|valid: a, b"),
    ],
)
def test_errors_say_where(tmp_path: Path, text: str, line: int, message: str) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(HEAD + text)
    with pytest.raises(Exception, match=message.replace("?", r"\?")) as caught:
        load_space(path, KnownNames(("a", "b"), ("consensus",)))
    assert str(caught.value).startswith(f"{path}:{line}: ")


PAIRS = HEAD + "  domains:\n    a: {folder: x/a}\n    Real World: {folder: x/rw}\n    c: b\n"


def names(tmp_path: Path, text: str) -> list[str]:
    path = tmp_path / "own.yaml"
    path.write_text(text)
    return [found.name for found in load_space(path, KnownNames(("a", "b"), ("consensus",))).tasks]


def test_tasks_of_every_pair_of_domains(tmp_path: Path) -> None:
    apart = ["a->Real World", "a->c", "Real World->a", "Real World->c", "c->a", "c->Real World"]
    together = ["Real World+c->a", "a+c->Real World", "a+Real World->c"]
    assert names(tmp_path, PAIRS) == apart
    assert names(tmp_path, PAIRS + "  several_sources: true\n") == [*apart, *together]
    assert names(tmp_path, PAIRS + "  pairs: []\n  several_sources: true\n") == together
    listed = PAIRS + "  pairs: [a -> Real World, a + c->Real World]\n"
    assert names(tmp_path, listed) == ["a->Real World", "a+c->Real World"]
    one, two = load_space(tmp_path / "own.yaml", KnownNames(("b",), ("consensus",))).tasks
    assert one.target == two.target == DomainSpec(folder=str(tmp_path / "x" / "rw"))
    assert two.source == (DomainSpec(folder=str(tmp_path / "x" / "a")), DomainSpec(named="b"))
    assert task(two.model_dump()) == two


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        (
            PAIRS.replace("folder: x/rw", "foldr: x"),
            6,
            "'tasks.domains.Real World.foldr'; did you mean 'folder'",
        ),
        (PAIRS + "  pair: all\n", 8, "unknown key 'tasks.pair'; did you mean 'pairs'"),
        (PAIRS + "  pairs: [a->d]\n", 3, "`pairs`: there is no domain 'd' among a, Real World, c"),
        (PAIRS + "  pairs: [a+c->c]\n", 3, "`pairs`: a+c->c has a domain twice"),
        (PAIRS + "  pairs: [a]\n", 3, "a task is named 'source->target', got 'a'"),
        (PAIRS + "  pairs: []\n", 3, "`pairs` is empty: there is no task"),
        (
            PAIRS.replace("    c: b\n", "  several_sources: true\n"),
            3,
            "`several_sources` needs at least 3 domains",
        ),
        (PAIRS.replace(" c: b", " c+d: b"), 4, "a domain's name has no `+` and no arrow, got 'c+d'"),
        (PAIRS.replace(" c: b", " c: zzz"), 3, "unknown domain 'zzz'"),
        ("schema: 1\nstudy: s\ntasks: {pairs: all}\n", 3, "missing key 'tasks.domains'"),
    ],
)
def test_wrong_pairs(tmp_path: Path, text: str, line: int, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        names(tmp_path, text)
    assert str(caught.value).startswith(f"{tmp_path}/own.yaml:{line}: ") and message in str(caught.value)
