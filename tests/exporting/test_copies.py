import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from iimt_search.data.task import DomainTask, Labelled, Unlabelled
from iimt_search.errors import StudyError, UsageError
from iimt_search.exporting.export_models import copy_models
from iimt_search.exporting.load import load_model
from iimt_search.exporting.model_folder import add_members, export_model
from iimt_search.models.network import Architecture, Model
from iimt_search.records import Choice
from iimt_search.settings import TrainSettings
from iimt_search.task_name import slug

ARCHITECTURE = Architecture("auto", "vector", (5,), 3, 8, 0.0)
TASKS = ("a->b", "c->d")
CHOICE = Choice(
    study="s",
    tasks=TASKS,
    answer="trial",
    trial=1,
    params={},
    objective="composite",
    score=0.5,
    scores={},
    candidates=(),
    reason="best",
)
X = torch.randn(40, 5, generator=torch.Generator().manual_seed(0))
SINGLE = {"model.safetensors", "model.json"}


def make_model(seed: int, architecture: Architecture = ARCHITECTURE) -> Model:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = Model(architecture).eval()
    with torch.no_grad():
        model.classifier.weight.mul_(20)  # sure of itself, so that means of logits and probabilities differ
    return model


def make_task(name: str) -> DomainTask:
    part = Labelled(np.zeros((4, 5), np.float32), np.array([0, 1, 2, 0]))
    return DomainTask(name, ("x", "y", "z"), "vector", "none", part, part, Unlabelled(part.x), "mark")


def export(folder: Path, task: str, seeds: Sequence[int]) -> None:
    export_model(
        folder,
        model=make_model(seeds[0]),
        task=make_task(task),
        settings=TrainSettings(),
        seed=seeds[0],
        step=200,
        scores={"composite": 0.5},
    )
    add_members(folder, [make_model(seed) for seed in seeds[1:]])


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A study's models: of each task an ensemble of three."""
    for number, task in enumerate(TASKS):
        export(tmp_path / "s" / "trial-1" / slug(task), task, [10 * number + index for index in range(3)])
    return tmp_path / "s"


def predicted(folder: Path) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = load_model(folder)(X)
    return found


def logits(seeds: Sequence[int]) -> torch.Tensor:
    with torch.no_grad():
        return torch.stack([make_model(seed)(X) for seed in seeds])


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.*")}


def test_the_ensemble_of_each_task(models: Path, tmp_path: Path) -> None:
    written = copy_models([CHOICE], models, tmp_path / "out")
    assert written == {"a->b": tmp_path / "out" / "a_to_b", "c->d": tmp_path / "out" / "c_to_d"}
    assert contents(tmp_path / "out") == contents(models / "trial-1")
    assert {path.name for path in written["a->b"].iterdir()} == {
        *SINGLE,
        "member-1.safetensors",
        "member-2.safetensors",
    }


def test_its_probabilities_are_the_mean_of_its_members(models: Path, tmp_path: Path) -> None:
    written = copy_models([CHOICE], models, tmp_path / "out")
    for number, task in enumerate(TASKS):
        each = logits([10 * number + index for index in range(3)])
        mean = each.softmax(dim=2).mean(dim=0)
        found = predicted(written[task]).softmax(dim=1)
        assert torch.allclose(found, mean, atol=1e-6)
        # Neither the first alone nor the mean of the logits is anywhere near.
        assert not torch.allclose(each[0].softmax(dim=1), mean, atol=0.05)
        assert not torch.allclose(each.mean(dim=0).softmax(dim=1), mean, atol=0.05)
        members = load_model(written[task]).members
        with torch.no_grad():
            assert torch.equal(torch.stack([member(X) for member in members]), each)


def test_single_is_the_first_member_alone(models: Path, tmp_path: Path) -> None:
    before = contents(models)
    written = copy_models([CHOICE], models, tmp_path / "out", single=True)
    for number, task in enumerate(TASKS):
        assert {path.name for path in written[task].iterdir()} == SINGLE
        assert torch.equal(predicted(written[task]), logits([10 * number])[0])
        content = json.loads((written[task] / "model.json").read_text())
        assert (content["seed"], content["others"]) == (10 * number, [])
    assert contents(models) == before


def test_what_was_handed_out_before_is_replaced_whole(models: Path, tmp_path: Path) -> None:
    copy_models([CHOICE], models, tmp_path / "out")
    written = copy_models([CHOICE], models, tmp_path / "out", single=True)
    assert {path.name for path in written["a->b"].iterdir()} == SINGLE
    copy_models([CHOICE], models, tmp_path / "out")
    assert contents(tmp_path / "out") == contents(models / "trial-1")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a_to_b", "c_to_d"]


def test_choices_of_one_task_each(models: Path, tmp_path: Path) -> None:
    export(models / "source-only" / "c_to_d", "c->d", [7])
    first = Choice(**{**vars(CHOICE), "tasks": TASKS[:1]})
    second = Choice(**{**vars(CHOICE), "tasks": TASKS[1:], "answer": "source-only", "trial": None})
    written = copy_models([first, second], models, tmp_path / "out")
    assert list(written) == list(TASKS)
    assert torch.equal(predicted(written["c->d"]), logits([7])[0])
    assert len(load_model(written["a->b"]).members) == 3


def test_what_is_no_exported_model_is_left_alone(models: Path, tmp_path: Path) -> None:
    mine = tmp_path / "out" / "c_to_d"
    mine.mkdir(parents=True)
    (mine / "precious.txt").write_text("mine")
    with pytest.raises(UsageError, match="c_to_d exists and is no exported model"):
        copy_models([CHOICE], models, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").rglob("*")] == ["c_to_d", "precious.txt"]


def test_a_model_that_is_gone_is_told_before_anything_is_written(models: Path, tmp_path: Path) -> None:
    (models / "trial-1" / "c_to_d" / "model.json").unlink()
    with pytest.raises(StudyError, match="the model of c->d is not in .*trains it again"):
        copy_models([CHOICE], models, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_members_can_be_exchanged_and_dropped(models: Path) -> None:
    folder = models / "trial-1" / "a_to_b"
    add_members(folder, [make_model(5)])
    assert torch.allclose(
        predicted(folder).softmax(dim=1), logits([0, 5]).softmax(dim=2).mean(dim=0), atol=1e-6
    )
    assert {path.name for path in folder.iterdir()} == {*SINGLE, "member-1.safetensors"}
    add_members(folder, [])
    assert {path.name for path in folder.iterdir()} == SINGLE
    assert torch.equal(predicted(folder), logits([0])[0])


def test_a_member_of_another_architecture_changes_nothing(models: Path) -> None:
    before = contents(models)
    with pytest.raises(ValueError, match="members of one architecture"):
        add_members(
            models / "trial-1" / "a_to_b", [make_model(3), make_model(4, ARCHITECTURE._replace(width=16))]
        )
    assert contents(models) == before


def test_a_pretrained_network_that_was_not_trained_is_written_once(tmp_path: Path) -> None:
    architecture = Architecture("torchvision:shufflenet_v2_x0_5", "image", (3, 64, 64), 3, 0, 0.0)
    first, other, trained = (make_model(seed, architecture) for seed in range(3))
    for model, of in ((other, first), (trained, first)):
        model.encoder.load_state_dict(of.encoder.state_dict())
    next(trained.encoder.parameters()).data += 1
    x = np.zeros((4, 3, 64, 64), np.uint8)
    part = Labelled(x, np.array([0, 1, 2, 0]))
    export_model(
        tmp_path,
        model=first,
        task=DomainTask("a->b", ("x", "y", "z"), "image", "none", part, part, Unlabelled(x), "mark"),
        settings=TrainSettings(network=architecture.network),
        seed=0,
        step=1,
        scores={},
    )
    add_members(tmp_path, [other, trained])
    whole, heads, own = (
        (tmp_path / name).stat().st_size
        for name in ("model.safetensors", "member-1.safetensors", "member-2.safetensors")
    )
    assert heads < whole / 50 and own == whole
    for loaded, model in zip(load_model(tmp_path).members, (first, other, trained), strict=True):
        assert all(torch.equal(v, model.state_dict()[name]) for name, v in loaded.state_dict().items())
