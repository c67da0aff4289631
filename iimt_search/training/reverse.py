"""The reverse training of reverse validation (Ganin et al. 2016, section 5.1.2)."""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from iimt_search.data.task import DomainTask, Labelled, Unlabelled
from iimt_search.seeding import derive_seed
from iimt_search.settings import TrainSettings
from iimt_search.training.task_training import TaskTraining, predict


def reverse_task(task: DomainTask, pseudo_labels: Tensor) -> DomainTask:
    """Turn a task around: the pseudo-labelled target becomes source, the source loses its labels.

    The held-out source samples stay what they are: the reverse model is scored on them.
    """
    return replace(
        task,
        name=f"reverse of {task.name}",
        source_train=Labelled(task.target.x, pseudo_labels.cpu().numpy().astype(np.int64)),
        target=Unlabelled(task.source_train.x),
    )


def reverse_logits(
    task: DomainTask, target_logits: Tensor, settings: TrainSettings, seed: int, device: str
) -> Tensor:
    """Train back from the target and return logits (N_s, C) on the source validation samples.

    Args:
        task: the forward task.
        target_logits: the forward model's logits on ``task.target``, float (N_t, C).
        settings: the forward configuration; the reverse training has the same steps.
        seed: the forward seed; the reverse training's is derived from it.
        device: where to train.
    """
    turned = reverse_task(task, target_logits.argmax(dim=-1))
    training = TaskTraining(turned, settings, derive_seed(seed, "reverse"), device)
    training.advance(settings.steps)
    logits, _ = predict(training.evaluated_model(), torch.from_numpy(task.source_val.x).to(training.device))
    return logits.cpu()
