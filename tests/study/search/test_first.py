"""The configurations that come first survive a kill at any moment."""

from pathlib import Path

import optuna
import pytest

from iimt_search.space import Space
from iimt_search.study.folder import StudyFolder
from iimt_search.study.scope import Scope
from iimt_search.study.search.trials import TrialSource

CONTENT = {
    "schema": 1,
    "study": "s",
    "tasks": ["digits->digits-m"],
    "search": {"alpha": {"low": 0.1, "high": 2.0}},
    "first": [{"alpha": 0.2}, {"alpha": 0.3}, {"alpha": 0.4}],
}
EXPECTED = [("default", 1.0), ("space file", 0.2), ("space file", 0.3), ("space file", 0.4)]


class KilledError(BaseException):
    """What ends the process."""


def source(study: optuna.Study, folder: Path) -> TrialSource:
    space = Space.model_validate(CONTENT)
    scope = Scope(space, space.tasks, study, StudyFolder(folder), "cpu")
    return TrialSource(scope, lambda _: None, lambda: False, lambda _: None)


def queued(study: optuna.Study) -> list[tuple[str, float]]:
    return [
        (trial.user_attrs["origin"], trial.system_attrs["fixed_params"]["alpha"])
        for trial in study.get_trials()
    ]


@pytest.mark.parametrize("survived", range(5))
def test_what_a_kill_has_cut_off_is_queued_at_the_next_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, survived: int
) -> None:
    study = optuna.create_study()  # of a storage that has no transactions
    left, enqueue = [survived], optuna.Study.enqueue_trial

    def killed(self: optuna.Study, *args: object, **more: object) -> None:
        if not left[0]:
            raise KilledError
        left[0] -= 1
        enqueue(self, *args, **more)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(optuna.Study, "enqueue_trial", killed)
        if survived < 4:
            with pytest.raises(KilledError):
                source(study, tmp_path)
        else:
            source(study, tmp_path)
    assert queued(study) == EXPECTED[:survived]
    source(study, tmp_path)
    assert queued(study) == EXPECTED
    source(study, tmp_path)
    assert queued(study) == EXPECTED


def test_the_first_that_has_begun_comes_with_the_others(tmp_path: Path) -> None:
    study = optuna.create_study()
    study.enqueue_trial({"alpha": 1.0}, user_attrs={"origin": "default"})
    study.ask()  # killed by then, and the others lost by an earlier version
    source(study, tmp_path)
    assert queued(study) == EXPECTED


def test_a_search_that_has_gone_on_is_left_as_it_is(tmp_path: Path) -> None:
    study = optuna.create_study()
    study.enqueue_trial({"alpha": 1.0}, user_attrs={"origin": "default"})
    study.ask()
    study.ask()
    source(study, tmp_path)
    assert len(study.get_trials()) == 2
