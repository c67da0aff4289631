"""The training of one model on one domain task."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from iimt_search.data.task import DomainTask
from iimt_search.errors import NonFiniteLossError, TrainingError
from iimt_search.iimt.schedule import warmup_cosine
from iimt_search.iimt.virtual_labels import sharpen
from iimt_search.kinds import AUGMENTATIONS, is_pretrained
from iimt_search.methods import active_terms, needs_virtual_labels
from iimt_search.models.device import BFLOAT16, FLOAT32, resolve_device, use_bfloat16
from iimt_search.models.network import Architecture, Discriminator, Model
from iimt_search.models.weights import load_weights
from iimt_search.seeding import derive_seed
from iimt_search.settings import TrainSettings
from iimt_search.training.batches import (
    SampledAugmentations,
    SampledStep,
    Samples,
    channel_statistics,
    cumulative_shares,
    sample_step,
    shared_samples,
    source_to_target,
)
from iimt_search.training.cost import Spent, measured
from iimt_search.training.objective import (
    Batch,
    loss_terms,
    predict_augmented,
    reversal_strength,
    term_weights,
)
from iimt_search.training.predict import EvaluatedSamples, predict
from iimt_search.validators.contract import Predictions


class TaskTraining:
    """A model, its discriminator and optimiser, on one task, advanced by whoever holds it.

    Args:
        task: samples, without target labels.
        settings: the configuration.
        seed: of weights, batches, mixtures and augmentations. The same seed, settings and number of
            threads give the same model.
        device: where to train; ``auto`` is the first GPU where there is one, else the processor.
        teacher: float (N_t, C), virtual labels of all target samples; None where the model being trained
            makes them.
        shares: (C,), how often the source's classes are drawn, whatever ``class_balance`` says; () equally
            often; None to let that decide.

    Attributes:
        task: the task.
        settings: the configuration.
        seed: of every random stream.
        device: where it trains.
        step: training steps done.
        model: h = g ∘ f.
        discriminator: D.
        optimizer: of both.
        rate_factors: of the learning rate, for each of the optimiser's groups.
        average: the model with averaged weights; None where ``ema_decay`` is 0.
        terms: names of the active loss terms, in order.
        first_bad: the first step at which each term was not finite, −1 for none; int64, on the device.
        spent: what its steps have taken.
        teacher: as given, on the device.
        bfloat16: whether products are bfloat16.
        augmentation: the task's.
    """

    def __init__(
        self,
        task: DomainTask,
        settings: TrainSettings,
        seed: int,
        device: str = "cpu",
        teacher: Tensor | None = None,
        shares: Sequence[float] | None = None,
    ) -> None:
        self.task, self.settings, self.seed = task, settings, seed
        self.device = torch.device(resolve_device(device))
        self.step, self.spent = 0, Spent(0.0)
        by_domain = settings.statistics == "by_domain"
        mapped = source_to_target(task) if by_domain else None
        self._source, val = (
            shared_samples(part.unlabelled, self.device)
            if mapped is None
            else Samples(part.unlabelled, self.device, mapped)
            for part in (task.source_train, task.source_val)
        )
        self._source_y = torch.from_numpy(task.source_train.y).to(self.device)
        self._target = shared_samples(task.target, self.device)
        self._evaluated = EvaluatedSamples(task, val, self._target, settings.evaluation_samples)
        pretrained = is_pretrained(settings.network)
        architecture = Architecture(
            network=settings.network,
            kind=task.kind,
            sample_shape=task.sample_shape,
            classes=len(task.classes),
            width=settings.width,
            dropout=settings.dropout,
            bottleneck=settings.bottleneck if pretrained else 0,
            by_domain=pretrained and task.kind == "image" and settings.backbone_norm == "by_domain",
        )
        # Layers draw their weights from the global generator; the caller's is left as it was.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(seed, "weights"))
            self.model = Model(architecture, *(channel_statistics(task, by_domain) or ()))
            self.discriminator = Discriminator(self.model.embedding_dim, settings.discriminator_width)
        if (backbone := self.model.backbone) is not None:
            load_weights(backbone, settings.network, settings.weights)
        self.model.to(self.device)
        self.discriminator.to(self.device)
        self.average: AveragedModel | None = None
        if settings.ema_decay > 0:
            average = get_ema_multi_avg_fn(settings.ema_decay)
            self.average = AveragedModel(self.model, multi_avg_fn=average, use_buffers=True)
        self.optimizer = torch.optim.AdamW(
            self._parameter_groups(),
            lr=settings.learning_rate,
            betas=(settings.beta1, 0.999),
            weight_decay=settings.weight_decay,
            fused=True,
        )
        if teacher is not None and tuple(teacher.shape) != (len(task.target), len(task.classes)):
            raise ValueError(
                f"teacher must be {(len(task.target), len(task.classes))}, got {tuple(teacher.shape)}"
            )
        self.teacher = None if teacher is None else teacher.float().to(self.device)
        self.augmentation = AUGMENTATIONS[task.augmentation].load()
        self._shares = shares
        self._drawn: NDArray[np.float64] | None = None
        if shares is not None or settings.class_balance:
            self._drawn = cumulative_shares(task.source_train.y, shares or [1.0] * len(task.classes))
        self._rng = np.random.default_rng(derive_seed(seed, "batches"))
        self._generator = torch.Generator(self.device).manual_seed(derive_seed(seed, "augmentation"))
        self.bfloat16 = use_bfloat16(settings.precision, self.device)
        self.terms = list(active_terms(settings))
        # Read when evaluated, not at each step: that would wait for the device.
        self.first_bad = torch.full((len(self.terms),), -1, dtype=torch.int64, device=self.device)

    @property
    def arithmetic(self) -> str:
        """In which its products are computed: ``float32`` or ``bfloat16``."""
        return BFLOAT16 if self.bfloat16 else FLOAT32

    def _parameter_groups(self) -> list[dict[str, Any]]:
        """Return what is trained: a pretrained network by a rate of its own, less its layers that stay."""
        backbone, rate = self.model.backbone, self.settings.backbone_rate
        of_backbone = [] if backbone is None else list(backbone.parameters())
        still = {"nothing": 0, "first_half": len(of_backbone) // 2, "all": len(of_backbone)}
        for parameter in of_backbone[: still[self.settings.freeze]]:
            parameter.requires_grad_(False)
        known = set(map(id, of_backbone))
        groups: dict[float, list[nn.Parameter]] = {1.0: []}
        for parameter in (*self.model.parameters(), *self.discriminator.parameters()):
            if parameter.requires_grad:
                groups.setdefault(rate if id(parameter) in known else 1.0, []).append(parameter)
        self.rate_factors = tuple(groups)
        return [{"params": parameters} for parameters in groups.values()]

    def _still_norms(self) -> list[_BatchNorm]:
        """Return the BatchNorm layers of a pretrained network whose statistics stay as they are."""
        backbone = self.model.backbone
        layers = [] if backbone is None else [m for m in backbone.modules() if isinstance(m, _BatchNorm)]
        frozen = self.settings.backbone_norm == "frozen"
        return [each for each in layers if frozen or (each.affine and not each.weight.requires_grad)]

    def source_rows(self, at: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Return normalised source samples (B, ...) and their one-hot labels (B, C)."""
        labels = self._source_y[torch.from_numpy(at).to(self.device)]
        x = self.model.normalise(self._source.rows(at))
        return x, functional.one_hot(labels, len(self.task.classes)).to(x.dtype)

    def target_rows(self, at: NDArray[np.int64]) -> Tensor:
        """Return normalised target samples (B, ...)."""
        return self.model.normalise(self._target.rows(at))

    def sample(self) -> SampledStep:
        """Draw the samples and mixtures of the next step."""
        sampled = sample_step(self.settings, len(self._source), len(self._target), self._rng)
        if self._drawn is None:
            return sampled
        at = self._drawn.searchsorted(self._rng.random(len(sampled.source)), side="right")
        return sampled._replace(source=at)

    def sample_augmentation(self, x: Tensor) -> SampledAugmentations:
        """Draw the augmentations of the next step, for batches like ``x`` (B, ...)."""
        settings, generator = self.settings, self._generator

        def sampled_for(like: Tensor) -> tuple[Tensor, ...]:
            return self.augmentation.sample(like, settings.augmentation, generator)

        virtual = needs_virtual_labels(settings)
        return SampledAugmentations(
            virtual=sampled_for(x.new_empty((settings.k * len(x), *x.shape[1:]))) if virtual else (),
            source=sampled_for(x) if settings.augment_inputs else (),
            target=sampled_for(x) if settings.augment_inputs else (),
        )

    def learning_rate(self, ahead: int = 0) -> float:
        """Return the learning rate of the next step, or of one that lies ``ahead`` steps after it."""
        settings = self.settings
        progress = (self.step + ahead) / settings.steps
        return settings.learning_rate * warmup_cosine(progress, settings.warmup)

    def _virtual_labels(self, x_t: Tensor, sampled: SampledAugmentations) -> Tensor | None:
        settings = self.settings
        if not needs_virtual_labels(settings):
            return None
        repeated = x_t.repeat(settings.k, *[1] * (x_t.dim() - 1))
        augmented = self.augmentation.apply(repeated, settings.augmentation, sampled.virtual)
        return sharpen(predict_augmented(self.model, augmented, settings.k), settings.temperature)

    def _batch(self, sampled: SampledStep) -> tuple[Batch, Tensor | None]:
        """Return the step's batch and virtual labels."""
        settings = self.settings
        (x_s, labels), x_t = self.source_rows(sampled.source), self.target_rows(sampled.target)
        augmentation = self.sample_augmentation(x_t)
        if self.teacher is None:
            q_t = self._virtual_labels(x_t, augmentation)
        else:
            q_t = self.teacher[torch.from_numpy(sampled.target).to(self.device)]
        if settings.augment_inputs:
            x_s = self.augmentation.apply(x_s, settings.augmentation, augmentation.source)
            x_t = self.augmentation.apply(x_t, settings.augmentation, augmentation.target)
        coefficients, orders = sampled.coefficients.to(self.device), sampled.orders.to(self.device)
        return Batch(x_s, labels, x_t, coefficients, orders), q_t

    def _train_step(self) -> None:
        settings, progress = self.settings, self.step / self.settings.steps
        for group, factor in zip(self.optimizer.param_groups, self.rate_factors, strict=True):
            group["lr"] = self.learning_rate() * factor
        self.optimizer.zero_grad()
        for _ in range(settings.accumulate):
            self._backward(progress)
        self.optimizer.step()
        if self.average is not None:
            self.average.update_parameters(self.model)
        self.step += 1

    def _backward(self, progress: float) -> None:
        """Add one batch's share of the step's gradients."""
        settings = self.settings
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.bfloat16):
            batch, q_t = self._batch(self.sample())
            strength = reversal_strength(settings, progress)
            terms = loss_terms(self.model, self.discriminator, batch, q_t, strength, settings)
        weights = term_weights(settings, progress)
        unweighted = torch.stack([terms[name] for name in self.terms])
        weighted = unweighted * unweighted.new_tensor([weights[name] for name in self.terms])
        (weighted.sum() / settings.accumulate).backward()
        newly_bad = ~weighted.detach().isfinite() & (self.first_bad < 0)
        self.first_bad.masked_fill_(newly_bad, self.step)

    def advance(self, step: int) -> None:
        """Train until ``step`` steps are done.

        Raises:
            TrainingError: as :meth:`check_finite`.
        """
        self.model.train()
        self.discriminator.train()
        for layer in self._still_norms():
            layer.eval()
        devices = [self.device] if self.device.type == "cuda" else []
        with measured(self.device, self.spent), torch.random.fork_rng(devices=devices):
            while self.step < step:
                # Dropout and noise layers draw from the global generator: seeded for each step, there
                # is nothing of it to keep in a checkpoint.
                torch.manual_seed(derive_seed(self.seed, "layers", self.step))
                self._train_step()
        self.check_finite()

    def check_finite(self) -> None:
        """Check that every loss term was finite so far, and that every weight is.

        Raises:
            NonFiniteLossError: a term was not; names the first such term and step.
            TrainingError: a weight is not, of an infinite gradient in the last step; no term has seen it yet.
        """
        bad = {name: at for name, at in zip(self.terms, self.first_bad.tolist(), strict=True) if at >= 0}
        if bad:
            term = min(bad, key=lambda name: bad[name])
            raise NonFiniteLossError(term, bad[term], self.task.name)
        for part in (self.model, self.discriminator, self.average):
            wrong = {} if part is None else part.state_dict()
            if name := next((name for name, value in wrong.items() if not value.isfinite().all()), ""):
                raise TrainingError(f"weight {name} of {self.task.name} is not finite after step {self.step}")

    def evaluated_model(self) -> Model:
        """Return the model that evaluations and the export use: the weight average, where there is one."""
        if self.average is None or self.step == 0:
            return self.model
        return cast(Model, self.average.module)

    def predictions(self) -> Predictions:
        """Predict the source validation and target samples, at most ``evaluation_samples`` of each.

        At the training's end mixtures of target samples, too.
        """
        shares = torch.tensor(self._shares) if self._shares else None
        return self._evaluated.predictions(
            self.evaluated_model(), mixed=self.step >= self.settings.steps, source_shares=shares
        )

    def predict_target(self) -> Tensor:
        """Return logits (N_t, C) of all target samples."""
        return predict(self.evaluated_model(), self._target)[0]

    def predict_validation(self, as_target: bool = False) -> Tensor:
        """Return logits of the source validation samples that validators score.

        Args:
            as_target: they are of the target's domain, as those of a reverse task are.
        """
        return self._evaluated.predict_validation(self.evaluated_model(), as_target)

    def warm_start(self, model: Model) -> None:
        """Begin with another model's weights; its embedding and classes must be the same.

        What it normalises by goes with them, unless each domain has its own.
        """
        average = [] if self.average is None else [cast(Model, self.average.module)]
        by_domain = self.settings.statistics == "by_domain"
        for ours in (self.model, *average):
            own = {"shift": ours.shift, "scale": ours.scale} if by_domain else {}
            ours.load_state_dict({**model.state_dict(), **own})

    def begin_with(self, model: Model) -> None:
        """Begin with the bottleneck and classifier of a model of features, of the same pretrained network."""
        trained = {name: v for name, v in model.state_dict().items() if name not in ("shift", "scale")}
        average = [] if self.average is None else [cast(Model, self.average.module)]
        for ours in (self.model, *average):
            ours.load_state_dict(trained, strict=False)

    def random_state(self) -> dict[str, Any]:
        """Return the state of the training's random streams."""
        return {"generator": self._generator.get_state(), "rng": self._rng.bit_generator.state}

    def restore_random(self, state: dict[str, Any]) -> None:
        """Put the random streams back to a :meth:`random_state`."""
        self._generator.set_state(state["generator"].cpu())
        self._rng.bit_generator.state = state["rng"]

    def _parts(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "discriminator": self.discriminator,
            "average": self.average,
            "optimizer": self.optimizer,
        }

    def state(self) -> dict[str, Any]:
        """Return everything that a later :meth:`restore` needs, as tensors and plain values."""
        states = {name: None if part is None else part.state_dict() for name, part in self._parts().items()}
        known = {"step": self.step, "first_bad": self.first_bad, "spent": asdict(self.spent)}
        return {**known, **states, **self.random_state()}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a :meth:`state` of the same task, settings and seed."""
        self.step, self.spent = state["step"], Spent(**state.get("spent", {}))
        for name, part in self._parts().items():
            if part is not None:
                part.load_state_dict(state[name])
        self.restore_random(state)
        self.first_bad.copy_(state["first_bad"])
