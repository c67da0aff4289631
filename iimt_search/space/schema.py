"""The space file's schema."""

import re
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ByteSize,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    field_validator,
    model_validator,
)

from iimt_search.errors import UsageError
from iimt_search.methods import used_settings
from iimt_search.settings import TrainSettings, with_new_names
from iimt_search.space.task_spec import TaskPairs, TaskSpec

Scalar = bool | int | float | str

# Unit → its spellings and seconds, the longest first.
_UNITS = {"d|days?": 86400, "h|hrs?|hours?": 3600, "m|mins?|minutes?": 60, "s|secs?|seconds?": 1}
_BY_UNITS = re.compile(
    r"\s*".join(rf"(?:(\d+(?:\.\d*)?|\.\d+)\s*(?:{unit}))?" for unit in _UNITS), re.IGNORECASE
)
_BY_CLOCK = re.compile(r"(?:(\d+)-)?(\d+)[:h]([0-5]\d)(?::([0-5]\d(?:\.\d*)?))?")
_NUMBER = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)(e[-+]?\d+)?|nan", re.IGNORECASE)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class NumberRange(_Strict):
    """A searched number between two bounds, both included.

    Attributes:
        low: lower bound.
        high: upper bound.
        log: search on a logarithmic scale; then ``low > 0``.
        step: grid width; not together with ``log``.
        type: ``float`` or ``int``; by default what the setting itself is.
    """

    low: float = Field(allow_inf_nan=False)
    high: float = Field(allow_inf_nan=False)
    log: bool = False
    step: float | None = Field(None, gt=0)
    type: Literal["float", "int"] | None = None

    @model_validator(mode="after")
    def _bounds(self) -> Self:
        if self.low > self.high:
            raise ValueError(f"`low <= high` must hold, got low={self.low:g}, high={self.high:g}")
        if self.log and self.low <= 0:
            raise ValueError(f"`low > 0` must hold when log is true, got low={self.low:g}")
        if self.log and self.step is not None:
            raise ValueError("`step` and `log` exclude each other")
        return self


class Choices(_Strict):
    """A searched setting with a fixed list of values.

    Attributes:
        choices: the values, at least one.
    """

    choices: tuple[Scalar, ...] = Field(min_length=1)


def _range_kind(value: Any) -> str:
    has_choices = "choices" in value if isinstance(value, dict) else isinstance(value, Choices)
    return "choices" if has_choices else "number"


SearchRange = Annotated[
    Annotated[NumberRange, Tag("number")] | Annotated[Choices, Tag("choices")], Discriminator(_range_kind)
]


def default_search(settings: TrainSettings | None = None) -> dict[str, NumberRange | Choices]:
    """Return what is searched where a space file does not say.

    The method's four parameters, or those of them that mean something to the active terms of ``settings``.
    """
    used = used_settings(settings or TrainSettings())
    ranges: dict[str, NumberRange | Choices] = {
        "lambda_max": NumberRange(low=0.01, high=100, log=True),
        "alpha": NumberRange(low=0.1, high=2.0, log=True),
        "temperature": NumberRange(low=0.1, high=1.0),
        "k": NumberRange(low=1, high=4, type="int"),
    }
    return {name: searched for name, searched in ranges.items() if name in used}


def seconds_of(text: str) -> float:
    """Return the seconds of a duration as people write it.

    Args:
        text: seconds (``90``), amounts with units (``90s``, ``1h30m``, ``1.5 hours``), or hours and
            minutes (``1:30``, ``1:30:00``), after days and a dash (``2-12:00``).

    Raises:
        ValueError: it is none of these.
    """
    text = text.strip()
    if len(text) > 100:  # the patterns below take their time over a long one
        raise ValueError("a duration has at most 100 letters")
    if _NUMBER.fullmatch(text):
        return float(text)
    if found := _BY_CLOCK.fullmatch(text) or (text and _BY_UNITS.fullmatch(text)):
        return sum(
            float(amount or 0) * unit for amount, unit in zip(found.groups(), _UNITS.values(), strict=True)
        )
    raise ValueError(
        f"a duration is seconds, or a text such as 90s, 30m, 1h30m, 1:30 (hours:minutes) or 1:30:00, "
        f"got {text!r}"
    )


class Budget(_Strict):
    """When the search ends: at whichever comes first.

    Attributes:
        trials: finished trials (complete, pruned or failed); for ``per_task``, of each task.
        steps: training steps of all trials and tasks together; for ``per_task``, of each task.
        timeout: seconds of search in one run (for ``per_task``, for each task: tasks that share the workers
            are each charged their share of the time), or a text such as ``90s``, ``30m``, ``1h30m``,
            ``1:30`` (hours:minutes) or ``1:30:00``.
    """

    trials: int | None = Field(16, ge=1)
    steps: int | None = Field(None, ge=1)
    timeout: float | None = Field(None, gt=0, allow_inf_nan=False)

    @field_validator("timeout", mode="before")
    @classmethod
    def _seconds(cls, value: Any) -> Any:
        return seconds_of(value) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _some_end(self) -> Self:
        if self.trials is None and self.steps is None and self.timeout is None:
            raise ValueError("a budget needs at least one of trials, steps and timeout")
        return self


class SamplerSettings(_Strict):
    """Which Optuna sampler proposes configurations.

    Attributes:
        name: ``tpe``, ``random``, ``qmc``, ``gp`` or ``nsga2``.
        startup_trials: trials drawn at random before a model is fitted (``tpe``, ``gp``); of ``nsga2`` the
            trials of a generation, at least 2.
    """

    name: Literal["tpe", "random", "qmc", "gp", "nsga2"] = "tpe"
    startup_trials: int = Field(8, ge=0)


class PrunerSettings(_Strict):
    """Which pruner ends hopeless trials early: one of Optuna's, or of Ray Tune's schedules.

    Attributes:
        name: ``median``, ``percentile``, ``successive_halving``, ``hyperband`` or ``none``; with the Ray
            backend ``asha``, or ``pbt``, which goes on from a better trial with another ``lambda_max``.
        startup_trials: finished trials before any is pruned (``median``, ``percentile``).
        warmup: share of the training steps before any trial is pruned (``median``, ``percentile``,
            ``asha``, ``pbt``).
            Before more than half of the ramp of w_t a high ``lambda_max`` has not shown itself:
            ``docs/performance.md`` tells what is ended by mistake.
        percentile: trials below this percentile of the others are pruned (``percentile``).
    """

    name: Literal["median", "percentile", "successive_halving", "hyperband", "asha", "pbt", "none"] = "median"
    startup_trials: int = Field(4, ge=0)
    warmup: float = Field(0.6, ge=0, le=1)
    percentile: float = Field(25.0, gt=0, lt=100)

    @property
    def of_ray(self) -> bool:
        """Whether it is one of Ray Tune's schedules."""
        return self.name in ("asha", "pbt")

    def check_without_ray(self) -> None:
        """Check that it is there without Ray.

        Raises:
            UsageError: it is one of Ray Tune's schedules.
        """
        if self.of_ray:
            raise UsageError(
                f"pruner {self.name} is Ray Tune's: give `backend=ray`, or choose successive_halving"
            )


class CostSettings(_Strict):
    """Whether what a training costs is a second objective: the search is Optuna's multi-objective one then.

    Attributes:
        name: ``seconds`` that its steps take, on a processor of processor time; or ``operations``, the
            floating-point operations of its steps, the same on every machine. ``none``: the objective alone.
        tolerance: the cheapest confirmed candidate is handed out whose objective is worse than the best
            one's by at most so much, in the objective's unit.
    """

    name: Literal["none", "seconds", "operations"] = "none"
    tolerance: float = Field(0.02, ge=0, allow_inf_nan=False)

    @property
    def is_objective(self) -> bool:
        """Whether cost is an objective."""
        return self.name != "none"


class ConfirmSettings(_Strict):
    """How the best few configurations are run again before one is named best.

    Attributes:
        top: how many configurations; source-only and the default configuration are run besides.
        seeds: fresh seeds for each.
    """

    top: int = Field(3, ge=1)
    seeds: int = Field(2, ge=1)


class RetrainSettings(_Strict):
    """How the chosen configuration is retrained.

    Attributes:
        steps: training steps; by default ``train.steps``.
        seeds: trainings of each task; more than one make an ensemble.
        teach: with the labels that all trained models together give the target, as virtual labels.
        freeze: where ``train.freeze`` is ``all``, the layers of the pretrained network that stay as they are
            when the retrained model is trained further, from the images: ``nothing`` or ``first_half``. What
            comes of it is handed out only where it scores better. ``all``: it is not.
        fine_steps: training steps of that; by default a tenth of ``steps``.
    """

    steps: int | None = Field(None, ge=1)
    seeds: int = Field(2, ge=1)
    teach: bool = True
    freeze: Literal["nothing", "first_half", "all"] = "all"
    fine_steps: int | None = Field(None, ge=1)


class ReferenceSettings(_Strict):
    """What the objective ``consensus`` compares with.

    Attributes:
        trials: the first trials, whose labels of the target together are the reference. None of them is
            pruned, and all are scored when they have ended.
        shares: whether trainings draw the source's classes in the shares that the reference estimates of the
            target, as far as its models agree, and until it is there equally often; not source-only's. False:
            as ``train.class_balance`` says.
    """

    trials: int = Field(5, ge=1)
    shares: bool = True


class KeepSettings(_Strict):
    """How much of what was trained is kept, to be scored later.

    Attributes:
        megabytes: of predictions, embeddings and weights of evaluated checkpoints. Above it the trials
            with the worst objective lose theirs, their earlier checkpoints first; source-only, the
            confirmed and the retrained models are kept in any case.
    """

    megabytes: int = Field(2000, ge=0)


class Resources(_Strict):
    """What each trial takes of a machine, with the Ray backend.

    Attributes:
        cpus: processors; its whole part, at least 1, is the number of threads.
        gpus: GPUs, or a share of one: 0.25 puts four trials on each.
        memory: bytes, or a text such as ``2GB`` or ``500MiB``; None asks for none.
        custom: amounts of resources that the cluster's nodes were started with, by name.
    """

    cpus: float = Field(1.0, gt=0, le=4096, allow_inf_nan=False)
    gpus: float = Field(0.0, ge=0, le=4096, allow_inf_nan=False)
    memory: ByteSize | None = Field(None, ge=1)
    custom: dict[str, Annotated[float, Field(gt=0, allow_inf_nan=False)]] = {}

    @model_validator(mode="after")
    def _whole(self) -> Self:
        # Ray's own rule: a share is of one device.
        for name, amount in (("cpus", self.cpus), ("gpus", self.gpus)):
            if amount > 1 and not amount.is_integer():
                raise ValueError(f"`{name}` above 1 must be a whole number, got {amount:g}")
        return self

    def by_ray_name(self) -> dict[str, float]:
        """Return name → amount, by the names that Ray gives a machine's resources."""
        found = {"CPU": self.cpus, "GPU": self.gpus, "memory": float(self.memory or 0), **self.custom}
        return {name: amount for name, amount in found.items() if amount > 0}

    def __str__(self) -> str:
        return ", ".join(f"{amount:g} {name}" for name, amount in self.by_ray_name().items())


class Space(_Strict):
    """A whole space file. See ``docs/space-file.md``."""

    schema_version: Literal[1] = Field(alias="schema")
    study: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")
    tasks: tuple[TaskSpec, ...] = Field(min_length=1)
    search: dict[str, SearchRange] = Field(default_factory=default_search)
    first: tuple[dict[str, Scalar], ...] = ()
    train: TrainSettings = TrainSettings()
    objective: str = "consensus"
    cost: CostSettings = CostSettings()
    validators: tuple[str, ...] | None = None
    scope: Literal["joint", "per_task"] = "joint"
    budget: Budget = Budget()
    reference: ReferenceSettings = ReferenceSettings()
    sampler: SamplerSettings = SamplerSettings()
    pruner: PrunerSettings = PrunerSettings()
    confirm: ConfirmSettings = ConfirmSettings()
    retrain: RetrainSettings = RetrainSettings()
    keep: KeepSettings = KeepSettings()
    resources: Resources = Resources()
    track: tuple[Literal["mlflow", "tensorboard", "wandb"], ...] = ()
    seed: int = Field(0, ge=0, lt=2**31)

    @model_validator(mode="before")
    @classmethod
    def _by_new_names(cls, content: Any) -> Any:
        """Replace the old names of settings that are searched or listed."""
        if not isinstance(content, dict):
            return content
        content = {
            **content,
            **({"search": with_new_names(content["search"])} if "search" in content else {}),
        }
        if isinstance(first := content.get("first"), (list, tuple)):
            content["first"] = [with_new_names(row) for row in first]
        return content

    @model_validator(mode="before")
    @classmethod
    def _default_search(cls, content: Any) -> Any:
        """Search the method's parameters where nothing is said, less those that are fixed."""
        if not isinstance(content, dict) or "search" in content:
            return content
        train = content.get("train", {})
        try:
            settings = TrainSettings.model_validate(train)
        except ValidationError:
            settings = None  # what is wrong with them is told by their own errors
        fixed = train if isinstance(train, dict) else {}
        left = {name: found for name, found in default_search(settings).items() if name not in fixed}
        return {**content, "search": left}

    @field_validator("search")
    @classmethod
    def _whole_choices(cls, value: dict[str, SearchRange]) -> dict[str, SearchRange]:
        """Take whole numbers among the choices of an integer setting as integers, as 2e1 is one."""
        fields = TrainSettings.model_fields
        for name, searched in value.items():
            if isinstance(searched, Choices) and name in fields and fields[name].annotation is int:
                given = searched.choices
                choices = tuple(int(v) if isinstance(v, float) and v.is_integer() else v for v in given)
                value[name] = Choices(choices=choices)
        return value

    @field_validator("sampler", "pruner", "cost", mode="before")
    @classmethod
    def _name_alone(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @field_validator("track", mode="before")
    @classmethod
    def _tracker_alone(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_validator("tasks", mode="before")
    @classmethod
    def _of_pairs(cls, value: Any) -> Any:
        return TaskPairs.model_validate(value).tasks() if isinstance(value, dict) else value

    @field_validator("tasks")
    @classmethod
    def _tasks(cls, value: tuple[TaskSpec, ...]) -> tuple[TaskSpec, ...]:
        for names in ([task.name for task in value], [task.slug for task in value]):
            twice = [name for name in names if names.count(name) > 1]
            if twice:
                raise ValueError(f"two tasks are named {twice[0]!r}; give one another `name`")
        return value

    @model_validator(mode="after")
    def _population_based(self) -> Self:
        if self.pruner.name == "pbt" and "lambda_max" not in self.search:
            raise ValueError("pruner pbt changes lambda_max during training: it must be searched")
        if self.pruner.name == "pbt" and self.train.lambda_schedule:
            raise ValueError("pruner pbt changes lambda_max during training: train.lambda_schedule does too")
        return self

    @model_validator(mode="after")
    def _same_samples(self) -> Self:
        searched = [name for name in ("data_fraction", "evaluation_samples") if name in self.search]
        if self.objective == "consensus" and searched:
            raise ValueError(
                f"objective consensus compares predictions of the same samples: {searched[0]} must not be "
                f"searched; fix it under `train`, or choose another objective"
            )
        return self

    def values(self, name: str) -> tuple[Any, ...]:
        """Return what a training setting may be: its choices, the bounds of its range, or its fixed value."""
        searched = self.search.get(name)
        if searched is None:
            return (getattr(self.train, name),)
        given = searched.choices if isinstance(searched, Choices) else (searched.low, searched.high)
        return tuple(getattr(TrainSettings.model_validate({name: value}), name) for value in given)

    @property
    def baseline(self) -> TrainSettings:
        """The settings of what has no searched value of its own; their batch is one that is searched.

        A data set may be too small for the default batch, and a searched one cannot be set in ``train``.
        """
        values, wanted = self.values("batch_size"), self.train.batch_size
        if isinstance(self.search.get("batch_size"), NumberRange):
            size = sorted((*values, wanted))[1]
        else:
            size = min(values, key=lambda value: abs(value - wanted))
        return self.train.model_copy(update={"batch_size": size})

    @property
    def pruning(self) -> PrunerSettings:
        """The pruner in effect: none where cost is an objective, for Optuna then has none."""
        return PrunerSettings(name="none") if self.cost.is_objective else self.pruner

    def canonical(self) -> dict[str, Any]:
        """Return the space as plain JSON values, every default written out."""
        return self.model_dump(mode="json", by_alias=True)


def with_defaults(stored: dict[str, Any]) -> dict[str, Any]:
    """Return what :meth:`Space.canonical` made, in an earlier version too, with what was added since.

    Without the default ranges of what no active term uses, which earlier versions searched. As it is where
    this version does not take it.
    """
    try:
        space = Space.model_validate(stored)
    except ValidationError:
        return stored
    used = used_settings({**vars(space.train), **dict.fromkeys(space.search, 1.0)})
    default = default_search()
    search = {n: found for n, found in space.search.items() if n in used or found != default.get(n)}
    return space.model_copy(update={"search": search}).canonical()
