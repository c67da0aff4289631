"""The reverse training of reverse validation (Ganin et al. 2016, section 5.1.2)."""

from dataclasses import replace

import numpy as np
from torch import Tensor

from iimt_search.data.task import DomainTask, Labelled
from iimt_search.seeding import derive_seed
from iimt_search.training.task_training import TaskTraining

# Share of the steps that the short reverse training takes, from the forward model's weights.
SHORT_SHARE = 0.1


def reverse_task(task: DomainTask, pseudo_labels: Tensor) -> DomainTask:
    """Turn a task around: the pseudo-labelled target becomes source, the source loses its labels.

    The held-out source samples stay what they are: the reverse model is scored on them.

    Args:
        task: the forward task.
        pseudo_labels: int64 (N_t,), for all of ``task.target``.
    """
    labels = pseudo_labels.cpu().numpy().astype(np.int64)
    return replace(
        task,
        name=f"reverse of {task.name}",
        source_train=Labelled(task.target.x, labels, task.target.index),
        target=task.source_train.unlabelled,
    )


def reverse_logits(forward: TaskTraining, short: bool = False) -> Tensor:
    """Train back from the target and return logits (N_s, C) on the scored source validation samples.

    The reverse training has the forward one's settings and a seed derived from its seed.

    Args:
        forward: a finished training.
        short: begin with the forward model's weights and train a tenth of its steps. What the model
            knew of the source must survive its own target labels to be there still: where they are
            wrong, it is forgotten.

    Raises:
        NonFiniteLossError: a loss term of the reverse training became NaN or infinite.
    """
    turned = reverse_task(forward.task, forward.predict_target().argmax(dim=-1))
    seed = derive_seed(forward.seed, "short reverse" if short else "reverse")
    settings = forward.settings
    if short:
        settings = settings.model_copy(update={"steps": max(1, round(SHORT_SHARE * settings.steps))})
    training = TaskTraining(turned, settings, seed, str(forward.device))
    if short:
        training.warm_start(forward.evaluated_model())
    training.advance(settings.steps)
    return training.predict_validation(as_target=True)
