"""The training of one model on one domain task."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from iimt_search.data.augment import AUGMENTATIONS
from iimt_search.data.task import DomainTask
from iimt_search.errors import NonFiniteLossError
from iimt_search.iimt.schedule import warmup_cosine
from iimt_search.models.network import Architecture, Discriminator, Model
from iimt_search.seeding import derive_seed
from iimt_search.settings import TrainSettings
from iimt_search.training.objective import TERMS, Batch, active_terms, loss_terms, term_weights
from iimt_search.validators.contract import Predictions

EVALUATION_BATCH = 512


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(was_training)


def predict(model: Model, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return logits (N, C) and embeddings (N, D) of samples (N, ...) in evaluation mode."""
    with _evaluating(model):
        embeddings = [model.embed(model.normalise(part)) for part in x.split(EVALUATION_BATCH)]
        return torch.cat([model.classify(part) for part in embeddings]), torch.cat(embeddings)


class TaskTraining:
    """A model, its discriminator and optimiser, on one task, advanced by whoever holds it.

    Args:
        task: samples, without target labels.
        settings: the configuration.
        seed: of weights, batches, mixtures and augmentations. The same seed, settings and number of
            threads give the same model.
        device: where to train; ``auto`` is the first GPU where there is one, else the processor.
    """

    def __init__(self, task: DomainTask, settings: TrainSettings, seed: int, device: str = "cpu") -> None:
        self.task, self.settings, self.seed = task, settings, seed
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        self.device = torch.device(device)
        self.step = 0
        self._source_x, self._source_y, self._val_x, self._target_x = (
            torch.from_numpy(array).to(self.device)
            for array in (task.source_train.x, task.source_train.y, task.source_val.x, task.target.x)
        )
        architecture = Architecture(
            network=settings.network,
            in_channels=task.sample_shape[0],
            classes=len(task.classes),
            width=settings.width,
            dropout=settings.dropout,
        )
        # Layers draw their weights from the global generator; the caller's is left as it was.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(seed, "weights"))
            self.model = Model(architecture)
            self.discriminator = Discriminator(self.model.embedding_dim, settings.discriminator_width)
        self.model.to(self.device)
        self.discriminator.to(self.device)
        self._average: AveragedModel | None = None
        if settings.ema_decay > 0:
            average = get_ema_multi_avg_fn(settings.ema_decay)
            self._average = AveragedModel(self.model, multi_avg_fn=average, use_buffers=True)
        self._optimizer = torch.optim.AdamW(
            [*self.model.parameters(), *self.discriminator.parameters()],
            lr=settings.learning_rate,
            betas=(settings.beta1, 0.999),
            weight_decay=settings.weight_decay,
            fused=True,
        )
        self._rng = np.random.default_rng(derive_seed(seed, "batches"))
        self._generator = torch.Generator(self.device).manual_seed(derive_seed(seed, "augmentation"))
        self._terms = [name for name in TERMS if name in active_terms(settings)]
        # Looked at when evaluated, not at each step: reading it would wait for the device.
        self._first_bad = torch.full((len(self._terms),), -1, dtype=torch.int64, device=self.device)

    def _augment(self, x: Tensor) -> Tensor:
        return AUGMENTATIONS[self.task.augmentation](x, self.settings.augmentation, self._generator)

    def _batch(self) -> Batch:
        size = self.settings.batch_size
        i, j = (
            torch.from_numpy(self._rng.integers(len(x), size=size)).to(self.device)
            for x in (self._source_x, self._target_x)
        )
        one_hot = functional.one_hot(self._source_y[i], len(self.task.classes)).float()
        return Batch(Model.normalise(self._source_x[i]), one_hot, Model.normalise(self._target_x[j]))

    def _train_step(self) -> None:
        settings, progress = self.settings, self.step / self.settings.steps
        rate = settings.learning_rate * warmup_cosine(progress, settings.warmup)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        terms = loss_terms(
            self.model, self.discriminator, self._batch(), settings, progress, self._augment, self._rng
        )
        weights = term_weights(settings, progress)
        unweighted = torch.stack([terms[name] for name in self._terms])
        weighted = unweighted * unweighted.new_tensor([weights[name] for name in self._terms])
        self._optimizer.zero_grad()
        weighted.sum().backward()
        self._optimizer.step()
        if self._average is not None:
            self._average.update_parameters(self.model)
        newly_bad = ~weighted.detach().isfinite() & (self._first_bad < 0)
        self._first_bad.masked_fill_(newly_bad, self.step)
        self.step += 1

    def advance(self, step: int) -> None:
        """Train until ``step`` steps are done.

        Raises:
            NonFiniteLossError: a loss term became NaN or infinite; names the first such term and step.
        """
        self.model.train()
        self.discriminator.train()
        while self.step < step:
            self._train_step()
        bad = {name: at for name, at in zip(self._terms, self._first_bad.tolist(), strict=True) if at >= 0}
        if bad:
            term = min(bad, key=lambda name: bad[name])
            raise NonFiniteLossError(term, bad[term], self.task.name)

    def evaluated_model(self) -> Model:
        """Return the model that evaluations and the export use: the weight average, where there is one."""
        if self._average is None or self.step == 0:
            return self.model
        return cast(Model, self._average.module)

    def predictions(self) -> Predictions:
        """Predict the source validation samples and all target samples."""
        model = self.evaluated_model()
        source_logits, source_embeddings = predict(model, self._val_x)
        target_logits, target_embeddings = predict(model, self._target_x)
        return Predictions(
            source_logits=source_logits.cpu(),
            source_labels=torch.from_numpy(self.task.source_val.y),
            source_embeddings=source_embeddings.cpu(),
            target_logits=target_logits.cpu(),
            target_embeddings=target_embeddings.cpu(),
        )

    def state(self) -> dict[str, Any]:
        """Return everything that a later :meth:`restore` needs, as tensors and plain values."""
        return {
            "step": self.step,
            "model": self.model.state_dict(),
            "discriminator": self.discriminator.state_dict(),
            "average": None if self._average is None else self._average.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "generator": self._generator.get_state(),
            "rng": self._rng.bit_generator.state,
            "first_bad": self._first_bad,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a :meth:`state` of the same task, settings and seed."""
        self.step = state["step"]
        self.model.load_state_dict(state["model"])
        self.discriminator.load_state_dict(state["discriminator"])
        if self._average is not None:
            self._average.load_state_dict(state["average"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._generator.set_state(state["generator"].cpu())
        self._rng.bit_generator.state = state["rng"]
        self._first_bad.copy_(state["first_bad"])
