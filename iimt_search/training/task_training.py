"""The training of one model on one domain task."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
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
from iimt_search.training.mixed_pairs import MIXED_SHARE, mixed_pairs
from iimt_search.training.objective import TERMS, Batch, active_terms, loss_terms, term_weights
from iimt_search.training.precision import use_bfloat16
from iimt_search.training.samples import Samples, evenly_spaced
from iimt_search.validators.contract import FewShot, Mixed, Predictions

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


def predict(model: Model, samples: Samples, at: NDArray[np.int64] | None = None) -> tuple[Tensor, Tensor]:
    """Return logits (N, C) and embeddings (N, D) in evaluation mode, on the processor.

    Args:
        model: the model.
        samples: what to predict.
        at: which of them, int64 (N,); by default all.
    """
    chosen = np.arange(len(samples)) if at is None else at
    logits, embeddings = [], []
    with _evaluating(model):
        for start in range(0, len(chosen), EVALUATION_BATCH):
            batch = samples.rows(chosen[start : start + EVALUATION_BATCH])
            z = model.embed(model.normalise(batch))
            embeddings.append(z.cpu())
            logits.append(model.classify(z).cpu())
    return torch.cat(logits), torch.cat(embeddings)


def channel_statistics(task: DomainTask) -> tuple[Tensor, Tensor] | None:
    """Return the mean and standard deviation of each channel over both domains; None for images.

    The target's samples take part, without labels: what the channels measure is known of both. At most
    20 000 evenly spaced samples of each domain are read.
    """
    if task.kind == "image":
        return None
    parts = [
        part.rows(evenly_spaced(len(part), 20_000)) for part in (task.source_train.unlabelled, task.target)
    ]
    x = torch.from_numpy(np.concatenate(parts)).double()
    over = (0, 2) if task.kind == "series" else (0,)
    deviation = x.std(dim=over, correction=0)
    return x.mean(dim=over).float(), torch.where(deviation > 1e-8, deviation, 1.0).float()


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
        self._source = Samples(task.source_train.unlabelled, self.device)
        self._source_y = torch.from_numpy(task.source_train.y).to(self.device)
        self._val = Samples(task.source_val.unlabelled, self.device)
        self._target = Samples(task.target, self.device)
        self._few_shot = None
        if task.few_shot is not None:
            self._few_shot = Samples(task.few_shot.unlabelled, self.device)
        self._scored_val = evenly_spaced(len(self._val), settings.evaluation_samples)
        self._scored_target = evenly_spaced(len(self._target), settings.evaluation_samples)
        architecture = Architecture(
            network=settings.network,
            kind=task.kind,
            sample_shape=task.sample_shape,
            classes=len(task.classes),
            width=settings.width,
            dropout=settings.dropout,
        )
        # Layers draw their weights from the global generator; the caller's is left as it was.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(seed, "weights"))
            self.model = Model(architecture, *(channel_statistics(task) or ()))
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
        self._bfloat16 = use_bfloat16(settings.precision, self.device)
        self._terms = [name for name in TERMS if name in active_terms(settings)]
        # Looked at when evaluated, not at each step: reading it would wait for the device.
        self._first_bad = torch.full((len(self._terms),), -1, dtype=torch.int64, device=self.device)

    def _augment(self, x: Tensor) -> Tensor:
        return AUGMENTATIONS[self.task.augmentation](x, self.settings.augmentation, self._generator)

    def _batch(self) -> Batch:
        size = self.settings.batch_size
        i, j = (self._rng.integers(len(samples), size=size) for samples in (self._source, self._target))
        labels = self._source_y[torch.from_numpy(i).to(self.device)]
        normalise = self.model.normalise
        return Batch(
            source=normalise(self._source.rows(i)),
            labels=functional.one_hot(labels, len(self.task.classes)).float(),
            target=normalise(self._target.rows(j)),
        )

    def _train_step(self) -> None:
        settings, progress = self.settings, self.step / self.settings.steps
        rate = settings.learning_rate * warmup_cosine(progress, settings.warmup)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        batch = self._batch()
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self._bfloat16):
            terms = loss_terms(
                self.model, self.discriminator, batch, settings, progress, self._augment, self._rng
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
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            while self.step < step:
                # Dropout and noise layers draw from the global generator: seeded for each step, there
                # is nothing of it to keep in a checkpoint.
                torch.manual_seed(derive_seed(self.seed, "layers", self.step))
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

    def _mixed(self, model: Model, target_logits: Tensor) -> Mixed:
        first, second, same = mixed_pairs(target_logits.argmax(dim=-1).numpy())
        logits = []
        with _evaluating(model):
            for start in range(0, len(first), EVALUATION_BATCH):
                pairs = (part[start : start + EVALUATION_BATCH] for part in (first, second))
                x, other = (model.normalise(self._target.rows(self._scored_target[at])) for at in pairs)
                mixture = x.mul_(MIXED_SHARE).add_(other, alpha=1 - MIXED_SHARE)
                logits.append(model.classify(model.embed(mixture)).cpu())
        return Mixed(
            logits=torch.cat(logits) if logits else target_logits[:0],
            labels=target_logits.argmax(dim=-1)[torch.from_numpy(first)],
            same=torch.from_numpy(same),
        )

    def _predict_few_shot(self, model: Model) -> FewShot | None:
        if self._few_shot is None or self.task.few_shot is None:
            return None
        return FewShot(predict(model, self._few_shot)[0], torch.from_numpy(self.task.few_shot.y))

    def predictions(self) -> Predictions:
        """Predict the source validation and target samples, at most ``evaluation_samples`` of each.

        At the training's end mixtures of target samples, too.
        """
        model = self.evaluated_model()
        source_logits, source_embeddings = predict(model, self._val, self._scored_val)
        target_logits, target_embeddings = predict(model, self._target, self._scored_target)
        return Predictions(
            source_logits=source_logits,
            source_labels=torch.from_numpy(self.task.source_val.y[self._scored_val]),
            source_embeddings=source_embeddings,
            target_logits=target_logits,
            target_embeddings=target_embeddings,
            classifier_weight=model.classifier.weight.detach().cpu(),
            mixed=self._mixed(model, target_logits) if self.step >= self.settings.steps else None,
            few_shot=self._predict_few_shot(model),
        )

    def predict_target(self) -> Tensor:
        """Return logits (N_t, C) of all target samples."""
        return predict(self.evaluated_model(), self._target)[0]

    def predict_validation(self) -> Tensor:
        """Return logits of the source validation samples that validators score."""
        return predict(self.evaluated_model(), self._val, self._scored_val)[0]

    def warm_start(self, model: Model) -> None:
        """Begin with another model's weights; its embedding and classes must be the same."""
        self.model.load_state_dict(model.state_dict())
        if self._average is not None:
            cast(Model, self._average.module).load_state_dict(model.state_dict())

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
