"""The IIMT trainable: one configuration on one or more tasks, evaluated as it goes."""

import hashlib
import shutil
from dataclasses import replace
from pathlib import Path

from safetensors.torch import load_file

from iimt_search.features.extract import load_training_task
from iimt_search.methods import active_terms
from iimt_search.models.device import BFLOAT16
from iimt_search.records import Evaluation, Job
from iimt_search.seeding import derive_seed
from iimt_search.settings import LATER, OLD_NAMES, TrainSettings
from iimt_search.training.checkpoint import load_checkpoint, save_checkpoint
from iimt_search.training.cost import step_operations
from iimt_search.training.kept import load_kept_model, rounded, save_kept
from iimt_search.training.reverse import reverse_logits
from iimt_search.training.task_training import TaskTraining
from iimt_search.validators.contract import score_all
from iimt_search.validators.registry import VALIDATORS, at_the_end


def evaluation_steps(settings: TrainSettings) -> list[int]:
    """Return the steps after which a training is evaluated: evenly spaced, the last at its end."""
    count = min(settings.evaluations, settings.steps)
    return [round(settings.steps * i / count) for i in range(1, count + 1)]


class Trainable:
    """Runs a :class:`~iimt_search.records.Job`, one evaluation at a time.

    The tasks advance side by side, so that every evaluation has a score of each and the mean over the
    tasks is a learning curve. Where the job's folder holds a checkpoint, the job goes on from it:
    :attr:`history` then begins with the evaluations already made.

    Attributes:
        job: what is run.
        history: evaluations made so far.
        trainings: of the job's tasks, in their order.
        notes: what a user should be told: why a checkpoint was not gone on from.
    """

    def __init__(self, job: Job) -> None:
        self.job = job
        self.history: list[Evaluation] = []
        self.notes: list[str] = []
        self._folder = Path(job.folder)
        self._steps = evaluation_steps(job.settings)
        self._operations: list[int] = []
        taught = load_file(job.teacher) if job.teacher else {}
        own = job.shares or [None] * len(job.tasks)
        self.trainings = [
            TaskTraining(
                load_training_task(spec, job.settings),
                job.settings,
                derive_seed(job.seed, spec.name),
                job.device,
                taught.get("labels"),
                taught["shares"].tolist() if "shares" in taught else shares,
            )
            for spec, shares in zip(job.tasks, own, strict=True)
        ]
        checkpoint = load_checkpoint(self._folder, self._identity, self.notes.append)
        if checkpoint is not None:
            self.history, states, arithmetic = checkpoint
            for training in self.trainings:
                training.restore(states[training.task.name])
                training.bfloat16 = arithmetic == BFLOAT16 if arithmetic else training.bfloat16
            self.history[-1] = replace(self.history[-1], cost=self.cost())
            return
        for training in self.trainings if job.start else ():
            training.begin_with(load_kept_model(Path(job.start)).model)
        if job.kept:
            shutil.rmtree(job.kept, ignore_errors=True)  # of an earlier training under this key

    @property
    def arithmetic(self) -> str:
        """In which its products are computed: ``float32`` or ``bfloat16``."""
        return self.trainings[0].arithmetic

    def _identity(self, step: int, arithmetic: str) -> str:
        """Return what decides every number that this job computes up to a step.

        A training that changes ``lambda_max`` only later shares it: one may go on as the other. Where the
        precision is left to the machine, what a training began in goes on.

        Args:
            step: so far.
            arithmetic: that of the numbers; "" where it was not recorded, by earlier versions.
        """
        job, settings = self.job, self.job.settings
        progress = step / settings.steps
        earlier = [(until, value) for until, value in settings.lambda_schedule if until < progress]
        now = next((v for until, v in settings.lambda_schedule if until >= progress), settings.lambda_max)
        later = {name for name in LATER if name not in settings.model_dump(exclude_defaults=True)}
        named = settings.model_dump_json(exclude={"lambda_max", "lambda_schedule"} | later)
        for old, new in OLD_NAMES.items():  # checkpoints of earlier versions know them by these
            named = named.replace(f'"{new}":', f'"{old}":')
        parts = [named, str((earlier, now))]
        parts += [str(job.seed), *job.validators, *sorted(active_terms(settings))]
        if arithmetic:
            parts.append(arithmetic if settings.precision == "auto" else self.arithmetic)
        if job.shares:
            parts.append(str(job.shares))
        for file in (job.teacher, job.start):
            if file:
                parts.append(hashlib.sha256(Path(file).read_bytes()).hexdigest())
        for training in self.trainings:
            parts += [training.task.name, training.task.fingerprint, training.device.type]
        return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()

    @property
    def done(self) -> bool:
        """Whether every evaluation has been made."""
        return len(self.history) == len(self._steps)

    def _score(self, training: TaskTraining, last: bool) -> dict[str, float]:
        costs = {name: VALIDATORS[name].cost for name in self.job.validators}
        predictions = training.predictions()
        if last and "training" in costs.values():
            predictions = replace(predictions, reverse_logits=reverse_logits(training))
        if last and "short training" in costs.values():
            predictions = replace(predictions, short_reverse_logits=reverse_logits(training, short=True))
        predictions = rounded(predictions)
        if self.job.kept:
            path = self.job.kept_file(training.task.name, training.step)
            save_kept(
                path,
                predictions,
                training.evaluated_model(),
                training.settings,
                training.seed,
                training.arithmetic,
            )
        now = [name for name in costs if last or not at_the_end(name)]
        return score_all(now, predictions)

    def cost(self) -> dict[str, float]:
        """Return what the training has cost so far, as :data:`~iimt_search.records.COSTS` names it.

        Evaluations and validators have no part in it: they are the same for every configuration.
        """
        spent = [training.spent for training in self.trainings]
        found: dict[str, float] = {"seconds": sum(each.seconds for each in spent)}
        found["gpu_bytes"] = max(each.gpu_bytes for each in spent)
        if self.job.count_operations:
            self._operations = self._operations or [step_operations(each) for each in self.trainings]
            done = zip(self._operations, self.trainings, strict=True)
            found["operations"] = sum(of_step * training.step for of_step, training in done)
        return {name: value for name, value in found.items() if value > 0}  # NaN where it is not known

    @property
    def next_step(self) -> int:
        """The step of the next evaluation."""
        return self._steps[len(self.history)]

    def advance(self) -> Evaluation:
        """Train every task up to the next evaluation, one after the other, and evaluate.

        Raises:
            TrainingError: a loss term or a weight became NaN or infinite.
        """
        for training in self.trainings:
            training.advance(self.next_step)
        return self.evaluate()

    def evaluate(self) -> Evaluation:
        """Score every task, whose trainings have come to :attr:`next_step`, and write a checkpoint.

        Raises:
            TrainingError: a loss term or a weight became NaN or infinite.
        """
        step = self.next_step
        for training in self.trainings:
            training.check_finite()
        last = step == self._steps[-1]
        scores = {training.task.name: self._score(training, last) for training in self.trainings}
        evaluation = Evaluation(step, scores, self.cost())
        self.history.append(evaluation)
        states = {training.task.name: training.state() for training in self.trainings}
        arithmetic = self.arithmetic
        save_checkpoint(self._folder, self._identity(step, arithmetic), self.history, states, arithmetic)
        return evaluation
