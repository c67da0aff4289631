import re
from pathlib import Path

import pytest

from iimt_search.data.registry import DOMAINS
from iimt_search.errors import SpaceError, UsageError
from iimt_search.settings import TrainSettings
from iimt_search.space import Choices, KnownNames, NumberRange, Space, load_space, space_from_text
from iimt_search.space.load import nearest
from iimt_search.validators.registry import VALIDATORS

KNOWN = KnownNames(DOMAINS, VALIDATORS)
HEAD = """\
schema: 1
study: tiny
tasks: [digits->digits-m]
"""  # what follows it begins on line 4
SHIPPED = Path(__file__).parents[2] / "spaces" / "digits.yaml"


def load(extra: str = "", head: str = HEAD) -> Space:
    return space_from_text(head + extra, KNOWN)


def test_shipped_space() -> None:
    space = load_space(SHIPPED, KNOWN)
    assert space.study == "digits"
    assert [task.name for task in space.tasks] == [
        "digits->digits-m",
        "syn-digits->digits",
        "syn-digits->digits-m",
    ]
    assert space.search == load().search  # it writes the defaults out
    assert (space.train.steps, space.retrain.steps, space.budget.trials) == (200, 500, 16)
    assert Space.model_validate(space.canonical()) == space


def test_smallest_space() -> None:
    space = load()
    assert set(space.search) == {"lambda_max", "alpha", "temperature", "k"}
    assert space.train == TrainSettings()


@pytest.mark.parametrize(("given", "meant"), [("w.pth", "/w.pth"), ("none", ""), ("imagenet", "")])
def test_weights_are_seen_from_the_files_folder(given: str, meant: str, tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(HEAD + f"train: {{weights: {given}}}\n")
    wanted = f"{tmp_path}{meant}" if meant else given
    assert load_space(tmp_path / "own.yaml", KNOWN).train.weights == wanted


def test_everything_that_may_be_searched() -> None:
    space = load(
        """\
search:
  learning_rate: {low: 1.0e-4, high: 0.1, log: true}
  k: {low: 1, high: 5, step: 2}
  lambda_max: {low: 1, high: 9, type: int}
  network: {choices: [small]}
  ramp: {choices: [true, false]}
  width: {choices: [8, 16]}
"""
    )
    assert space.search["k"] == NumberRange(low=1, high=5, step=2)
    assert space.search["network"] == Choices(choices=("small",))
    assert space.search["ramp"] == Choices(choices=(True, False))


def test_numbers_and_durations_as_people_write_them() -> None:
    space = load(
        """\
search:
  learning_rate: {choices: [1e-3, 3e-3]}
  alpha: {low: 1e-1, high: 2E0, log: true}
  k: {choices: [2, 04, 1e1]}
first: [{learning_rate: 3e-3}]
budget: {steps: 2e4, timeout: 1:30, trials: 1e1}
train: {batch_size: 1.6e1, weight_decay: 1e-4}
retrain: {steps: 1_000}
seed: 010
"""
    )
    assert space.search["learning_rate"] == Choices(choices=(0.001, 0.003))
    assert space.search["alpha"] == NumberRange(low=0.1, high=2, log=True)
    assert repr(space.search["k"]) == "Choices(choices=(2, 4, 10))"
    assert space.first == ({"learning_rate": 0.003},)
    assert (space.budget.steps, space.budget.timeout, space.budget.trials) == (20_000, 5400, 10)
    assert (space.train.batch_size, space.train.weight_decay) == (16, 1e-4)
    assert (space.retrain.steps, space.seed) == (1000, 10)


@pytest.mark.parametrize(
    ("text", "seconds"), [("1:30:00", 5400), ("90", 90), ("1h30m", 5400), ("1e3", 1000), ("'1:30'", 5400)]
)
def test_timeouts_of_a_file(text: str, seconds: float) -> None:
    assert load(f"budget: {{timeout: {text}}}\n").budget.timeout == seconds


def test_names_and_paths_that_look_like_numbers() -> None:
    head = (
        "schema: 1\nstudy: 2026-11-25\ntasks:\n"
        "- {name: 1e3, source: {folder: 007}, target: {folder: 2026-11-25, test: no}}\n"
    )
    space = load(head=head)
    (task,) = space.tasks
    assert (space.study, task.name, task.source[0].folder) == ("2026-11-25", "1e3", "007")
    assert (task.target.folder, task.target.test) == ("2026-11-25", "no")


# (what stands after HEAD, line of the error, message)
WRONG = {
    "unknown key": ("seach: {}\n", 4, "unknown key 'seach'; did you mean 'search'?"),
    "unknown key, nothing near": (
        "xyzzy: 1\n",
        4,
        "unknown key 'xyzzy'; valid: budget, confirm, cost, first, keep, objective, pruner, reference, "
        "resources, retrain, sampler, schema, scope, search, seed, study, tasks, track, train, validators",
    ),
    "unknown key in train": (
        "train:\n  steps: 3\n  learning_rat: 1\n",
        6,
        "unknown key 'train.learning_rat'; did you mean 'learning_rate'?",
    ),
    "unknown key in budget": (
        "budget: {trails: 3}\n",
        4,
        "unknown key 'budget.trails'; did you mean 'trials'?",
    ),
    "unknown key in confirm": ("confirm:\n  tops: 3\n", 5, "unknown key 'confirm.tops'; did you mean 'top'?"),
    "unknown key in sampler": (
        "sampler: {name: tpe,\n  startup: 3}\n",
        5,
        "unknown key 'sampler.startup'; did you mean 'startup_trials'?",
    ),
    "unknown key in a range": (
        "search:\n  k:\n    low: 1\n    high: 2\n    stepp: 1\n",
        8,
        "unknown key 'search.k.stepp'; did you mean 'step'?",
    ),
    "duplicate key": ("seed: 1\nseed: 2\n", 5, "key 'seed' stands twice, first on line 4"),
    "duplicate nested key": (
        "search:\n  k: {low: 1, high: 2}\n  k: {low: 1, high: 3}\n",
        6,
        "key 'k' stands twice, first on line 5",
    ),
    "bad YAML": ("train: {steps: 3\nseed: 1\n", 5, "not YAML: "),
    "missing key": ("search:\n  k: {low: 1}\n", 5, "missing key 'search.k.high'"),
    "wrong type": ("train:\n  steps: many\n", 5, "train.steps: Input should be a valid integer"),
    "out of range": (
        "train:\n  k: 0\nsearch: {}\n",
        5,
        "train.k: Input should be greater than or equal to 1, got 0",
    ),
    "section that is no mapping": ("budget: 3\n", 4, "budget: Input should be a valid dictionary"),
    "search that is a number": ("search: {k: 3}\n", 4, "search.k: Input should be a valid dictionary"),
    "low above high": (
        "search:\n  alpha: {low: 2, high: 1}\n",
        5,
        "search.alpha: `low <= high` must hold, got low=2, high=1",
    ),
    "log from zero": (
        "search:\n  lambda_max: {low: 0, high: 1, log: true}\n",
        5,
        "search.lambda_max: `low > 0` must hold when log is true, got low=0",
    ),
    "log with step": (
        "search: {alpha: {low: 1, high: 2, log: true, step: 1}}\n",
        4,
        "search.alpha: `step` and `log` exclude each other",
    ),
    "fractional bound": (
        "search:\n  k: {low: 1, high: 4.5}\n",
        5,
        "search.k.high must be an integer, got 4.5",
    ),
    "fractional step": (
        "search:\n  k: {low: 1, high: 4, step: 0.5}\n",
        5,
        "search.k.step must be an integer, got 0.5",
    ),
    "fractional bound of type int": (
        "search: {alpha: {low: 0.1, high: 2, type: int}}\n",
        4,
        "search.alpha.low must be an integer, got 0.1",
    ),
    "integer setting as float": (
        "search: {k: {low: 1, high: 4, type: float}}\n",
        4,
        "search.k is an integer setting; give type: int",
    ),
    "bound outside the setting": (
        "search:\n  k: {low: 1, high: 100}\n",
        5,
        "search.k: high 100 cannot be: Input should be less than or equal to 64",
    ),
    "bound on an excluded end": (
        "search:\n  temperature: {low: 0, high: 1}\n",
        5,
        "search.temperature: low 0.0 cannot be: Input should be greater than 0",
    ),
    "searched and fixed": (
        "train: {alpha: 1}\nsearch:\n  k: {low: 1, high: 2}\n  alpha: {low: 0.1, high: 1}\n",
        7,
        "'alpha' is searched and fixed; take it out of search or of train",
    ),
    "unknown setting": (
        "search:\n  k: {low: 1, high: 2}\n  alfa: {low: 0.1, high: 1}\n",
        6,
        "search: unknown setting 'alfa'; did you mean 'alpha'?",
    ),
    "range of a name": (
        "search: {network: {low: 1, high: 2}}\n",
        4,
        "search.network is not a number; give {choices: [...]}",
    ),
    "range of a switch": (
        "search: {ramp: {low: 0, high: 1}}\n",
        4,
        "search.ramp is not a number; give {choices: [...]}",
    ),
    "wrong choice": (
        "search:\n  network: {choices: [small, big]}\n",
        5,
        "search.network: choice 'big' cannot be: Input should be 'auto', 'small'",
    ),
    "choice of another type": (
        "search: {k: {choices: [1, '2']}}\n",
        4,
        "search.k: choice '2' cannot be: Input should be a valid integer",
    ),
    "switch for a number": (
        "search: {k: {choices: [true]}}\n",
        4,
        "search.k: choice True cannot be: Input should be a valid integer",
    ),
    "choice out of range": (
        "search: {dropout: {choices: [0.5, 1.0]}}\n",
        4,
        "search.dropout: choice 1.0 cannot be: Input should be less than 1",
    ),
    "choice that is NaN": ("search: {alpha: {choices: [.nan]}}\n", 4, "search.alpha: choice nan cannot be: "),
    "no choices": ("search: {k: {choices: []}}\n", 4, "search.k: Tuple should have at least 1 item"),
    "unknown objective": (
        "objective: entrop\n",
        4,
        "objective: unknown validator 'entrop'; did you mean 'entropy'?",
    ),
    "unknown validator": (
        "validators:\n- entropy\n- entrpy\n",
        6,
        "validators: unknown validator 'entrpy'; did you mean 'entropy'?",
    ),
    "unknown sampler": (
        "sampler: tpee\n",
        4,
        "sampler.name: Input should be 'tpe', 'random', 'qmc', 'gp' or 'nsga2'",
    ),
    "budget without end": ("budget: {trials: null}\n", 4, "budget: a budget needs at least one of "),
    "wrong timeout": (
        "budget:\n  timeout: soon\n",
        5,
        "budget.timeout: a duration is seconds, or a text such as 90s",
    ),
}


@pytest.mark.parametrize(("extra", "line", "message"), WRONG.values(), ids=WRONG.keys())
def test_wrong(extra: str, line: int, message: str, tmp_path: Path) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(HEAD + extra, encoding="utf-8")
    with pytest.raises(SpaceError, match=re.escape(message)) as caught:
        load_space(path, KNOWN)
    assert str(caught.value).startswith(f"{path}:{line}: {message}")
    assert (caught.value.path, caught.value.line) == (path, line)


WRONG_HEAD = {
    "missing schema": ("study: s\ntasks: [digits->digits-m]\n", 1, "missing key 'schema'"),
    "missing study": ("schema: 1\ntasks: [digits->digits-m]\n", 1, "missing key 'study'"),
    "wrong schema": (
        "study: s\nschema: 2\ntasks: [digits->digits-m]\n",
        2,
        "schema: Input should be 1, got 2",
    ),
    "empty": ("", 1, "a space file is a mapping that begins with 'schema: 1'"),
    "only a comment": ("# later\n", 1, "a space file is a mapping that begins with 'schema: 1'"),
    "a list": ("- schema: 1\n", 1, "a space file is a mapping that begins with 'schema: 1'"),
    "a text": ("schema\n", 1, "a space file is a mapping that begins with 'schema: 1'"),
    "unknown domain": (
        "schema: 1\nstudy: s\ntasks:\n- digits->digits-m\n- digit->digits-m\n",
        5,
        "tasks: unknown domain 'digit'; did you mean 'digits'?",
    ),
    "unknown domain, nothing near": (
        "schema: 1\nstudy: s\ntasks: [digits->xyzzy]\n",
        3,
        "tasks: unknown domain 'xyzzy'; valid: cifar10, digits, digits-m, mnist",
    ),
    "task without arrow": (
        "schema: 1\nstudy: s\ntasks: [digits]\n",
        3,
        "tasks.0: a task is named 'source->target', got 'digits'",
    ),
    "task twice": (
        "schema: 1\nstudy: s\ntasks: [digits->digits-m, digits → digits-m]\n",
        3,
        "tasks: two tasks are named 'digits->digits-m'",
    ),
    "study with a slash": (
        "schema: 1\nstudy: a/b\ntasks: [digits->digits-m]\n",
        2,
        "study: String should match pattern",
    ),
}


@pytest.mark.parametrize(("text", "line", "message"), WRONG_HEAD.values(), ids=WRONG_HEAD.keys())
def test_wrong_head(text: str, line: int, message: str) -> None:
    with pytest.raises(SpaceError) as caught:
        load(head=text)
    assert str(caught.value).startswith(message)
    assert (caught.value.path, caught.value.line) == (None, line)


def test_domain_with_no_name_near_lists_the_registry() -> None:
    with pytest.raises(SpaceError, match=f"valid: {', '.join(sorted(DOMAINS))}"):
        load(head="schema: 1\nstudy: s\ntasks: [digits->xyzzy]\n")


def test_not_utf_8(tmp_path: Path) -> None:
    path = tmp_path / "latin.yaml"
    path.write_bytes("study: é".encode("latin-1"))
    with pytest.raises(SpaceError, match=re.escape(f"{path}: cannot read the space file: not UTF-8")):
        load_space(path, KNOWN)


def test_missing_file(tmp_path: Path) -> None:
    path = tmp_path / "nowhere.yaml"
    message = re.escape(f"{path}: cannot read the space file: No such file or directory")
    with pytest.raises(SpaceError, match=message) as caught:
        load_space(path, KNOWN)
    assert caught.value.line is None


def test_folder(tmp_path: Path) -> None:
    with pytest.raises(SpaceError, match="cannot read the space file: Is a directory"):
        load_space(tmp_path, KNOWN)


def test_a_wrong_space_is_the_callers_mistake() -> None:
    assert issubclass(SpaceError, UsageError)
    assert SpaceError.exit_code == 2


def test_byte_order_mark_is_allowed() -> None:
    assert load(head="\ufeff" + HEAD) == load()


def test_names_come_from_the_caller() -> None:
    known = KnownNames(("x", "y"), ("composite", "mine"))
    space = space_from_text("schema: 1\nstudy: s\ntasks: [x->y]\nobjective: mine\n", known)
    assert space.objective == "mine"


def test_canonical_round_trip_through_a_file() -> None:
    space = load("search: {ramp: {choices: [true, false]}, k: {low: 1, high: 2}}\ntrain: {steps: 3}\n")
    assert Space.model_validate(space.canonical()) == space


def test_nearest() -> None:
    assert nearest("alfa", ["alpha", "k"]) == "did you mean 'alpha'?"
    assert nearest("xyzzy", ["k", "alpha"]) == "valid: alpha, k"


def test_misspelt_required_key() -> None:
    with pytest.raises(SpaceError, match=re.escape("unknown key 'search.k.lo'; did you mean 'low'?")):
        load("search: {k: {lo: 1, high: 2}}\n")


def test_misspelt_schema() -> None:
    with pytest.raises(SpaceError, match=re.escape("unknown key 'shema'; did you mean 'schema'?")):
        load(head="shema: 1\nstudy: s\ntasks: [digits->digits-m]\n")


def test_key_of_a_range_beside_choices() -> None:
    with pytest.raises(SpaceError, match=r"unknown key 'search\.k\.low'") as caught:
        load("search: {k: {choices: [1, 2], low: 1}}\n")
    assert "did you mean 'low'" not in str(caught.value)


def test_what_is_fixed_is_not_searched_by_default() -> None:
    space = load("train:\n  k: 3\n")
    assert set(space.search) == {"lambda_max", "alpha", "temperature"}
    assert space.train.k == 3


@pytest.mark.parametrize("key", ["1", "yes"])
def test_key_that_is_no_text(key: str) -> None:
    with pytest.raises(SpaceError, match="Keys should be strings") as caught:
        load(f"{key}: 2\n")
    assert caught.value.line == 4
