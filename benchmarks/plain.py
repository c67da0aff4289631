"""A plain IIMT training step: what the method says, written straight down, as a reference for speed.

Float32 in PyTorch's default memory order, one forward pass for each group of samples and one for each
augmentation, the optimiser and weight average as PyTorch gives them by default. The network, the batch, the
augmentation and the loss terms are the product's own, so only the way of computing differs.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_avg_fn

from iimt_search.data.task import DomainTask
from iimt_search.iimt import losses
from iimt_search.iimt.mixup import mix, mixing_coefficients
from iimt_search.iimt.reversal import reverse_gradient
from iimt_search.iimt.schedule import warmup_cosine
from iimt_search.iimt.virtual_labels import mean_prediction, sharpen
from iimt_search.kinds import AUGMENTATIONS
from iimt_search.models.network import Architecture, Discriminator, Model
from iimt_search.settings import TrainSettings
from iimt_search.training.objective import term_weights


class PlainTraining:
    """The method on one task, plainly.

    Args:
        task: samples.
        settings: the configuration.
        seed: of everything.
    """

    def __init__(self, task: DomainTask, settings: TrainSettings, seed: int) -> None:
        self.task, self.settings, self.step = task, settings, 0
        torch.manual_seed(seed)
        architecture = Architecture(
            settings.network,
            task.kind,
            task.sample_shape,
            len(task.classes),
            settings.width,
            settings.dropout,
        )
        self.model = Model(architecture).to(memory_format=torch.contiguous_format)
        self.discriminator = Discriminator(self.model.embedding_dim, settings.discriminator_width)
        self.average = AveragedModel(self.model, avg_fn=get_ema_avg_fn(settings.ema_decay), use_buffers=True)
        parameters = [*self.model.parameters(), *self.discriminator.parameters()]
        self.optimizer = torch.optim.Adam(parameters, lr=settings.learning_rate)
        self.rng = np.random.default_rng(seed)
        self.generator = torch.Generator().manual_seed(seed)

    def _augment(self, x: Tensor) -> Tensor:
        return AUGMENTATIONS[self.task.augmentation].load()(x, self.settings.augmentation, self.generator)

    def _normalised(self, x: np.ndarray) -> Tensor:
        return ((torch.from_numpy(x).float() - 127.5) / 127.5).contiguous()

    def _batch(self) -> tuple[Tensor, Tensor, Tensor]:
        size, task = self.settings.batch_size, self.task
        i = self.rng.integers(len(task.source_train), size=size)
        j = self.rng.integers(len(task.target), size=size)
        labels = torch.from_numpy(task.source_train.y[i])
        return (
            self._normalised(task.source_train.unlabelled.rows(i)),
            functional.one_hot(labels, len(task.classes)).float(),
            self._normalised(task.target.rows(j)),
        )

    def _loss(self) -> Tensor:
        settings, model = self.settings, self.model
        progress = self.step / settings.steps
        weights = term_weights(settings, progress)
        x_s, y_s, x_t = self._batch()
        with torch.no_grad():
            logits = [model.classify(model.embed(self._augment(x_t))) for _ in range(settings.k)]
            q_t = sharpen(mean_prediction(torch.stack(logits)), settings.temperature)
        x_s, x_t = self._augment(x_s), self._augment(x_t)
        between, within_s, within_t = (
            mixing_coefficients(settings.alpha, len(x_s), self.rng) for _ in range(3)
        )
        order_s, order_t = (torch.from_numpy(self.rng.permutation(len(x_s))) for _ in range(2))
        z_s, z_t = model.embed(x_s), model.embed(x_t)
        z_st, z_ts = model.embed(mix(x_s, x_t, between)), model.embed(mix(x_t, x_s, between))
        z_ss = model.embed(mix(x_s, x_s[order_s], within_s))
        z_tt = model.embed(mix(x_t, x_t[order_t], within_t))
        strength = settings.reversal * weights["consistency"]
        step = losses.Step(
            embeddings={"s": z_s, "t": z_t, "st": z_st, "ts": z_ts, "ss": z_ss, "tt": z_tt},
            labels={
                "st": mix(y_s, q_t, between),
                "ts": mix(q_t, y_s, between),
                "ss": mix(y_s, y_s[order_s], within_s),
                "tt": mix(q_t, q_t[order_t], within_t),
            },
            between=between,
            classify=model.classify,
            discriminate=lambda z: self.discriminator(reverse_gradient(z, strength)),
        )
        terms = {
            "inter_domain": losses.inter_domain(step),
            "adversarial": losses.adversarial(step),
            "consistency": losses.consistency(step),
            "intra_source": losses.intra_source(step),
            "intra_target": losses.intra_target(step),
        }
        total: Tensor = sum((weights[name] * term for name, term in terms.items()), torch.zeros(()))
        return total

    def train_step(self) -> None:
        """Do one training step."""
        progress = self.step / self.settings.steps
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.learning_rate * warmup_cosine(progress, self.settings.warmup)
        self.optimizer.zero_grad()
        self._loss().backward()
        self.optimizer.step()
        self.average.update_parameters(self.model)
        self.step += 1
