"""The tensors of several trainings stacked along a first dimension P, and put back where they came from."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from iimt_search.training.task_training import TaskTraining

BETA2, EPSILON = 0.999, 1e-8


def _flat(tensors: Sequence[Tensor]) -> Tensor:
    """Return all values in one row."""
    return torch.cat([tensor.detach().reshape(-1) for tensor in tensors])


def _put_back(tensors: Sequence[Tensor], row: Tensor) -> None:
    """Do the opposite of :func:`_flat`, in place."""
    parts = row.split([tensor.numel() for tensor in tensors])
    for tensor, part in zip(tensors, parts, strict=True):
        tensor.detach().copy_(part.reshape(tensor.shape))


def _parameters(training: TaskTraining) -> list[nn.Parameter]:
    """Return the model's parameters, then the discriminator's, where there is anything to train it."""
    of_discriminator = training.discriminator.parameters() if "adversarial" in training.terms else ()
    return [*training.model.parameters(), *of_discriminator]


def _moments(training: TaskTraining, name: str) -> Tensor:
    """Return one of Adam's moments of every parameter; zeros before the first step."""
    state = training.optimizer.state
    return _flat([state[p][name] if p in state else torch.zeros_like(p) for p in _parameters(training)])


class StackedState:
    """Parameters, moments, averages and buffers of P trainings of the same architecture.

    Args:
        trainings: their tensors are copied; :meth:`put_back` copies what became of them back.

    Attributes:
        flat: all parameters, float (P, N), a leaf; the first ``model_size`` of each row are the model's.
        model_size: how many parameters a model has.
        buffers: name → buffer of the model, (P, ...).
    """

    def __init__(self, trainings: Sequence[TaskTraining]) -> None:
        self._trainings = trainings
        first = trainings[0]
        self.flat = torch.stack([_flat(_parameters(training)) for training in trainings]).requires_grad_()
        self.model_size = sum(p.numel() for p in first.model.parameters())
        self._names = [f"model.{name}" for name, _ in first.model.named_parameters()]
        self._names += [f"discriminator.{name}" for name, _ in first.discriminator.named_parameters()]
        # As many as there are: without the adversarial term, the discriminator is left out.
        self._shapes = [p.shape for p in _parameters(first)]
        buffers = [dict(training.model.named_buffers()) for training in trainings]
        self.buffers = {name: torch.stack([each[name] for each in buffers]) for name in buffers[0]}
        self._first, self._second = (
            torch.stack([_moments(training, name) for training in trainings])
            for name in ("exp_avg", "exp_avg_sq")
        )
        averages = [training.average for training in trainings if training.average is not None]
        self._averages = [average.module for average in averages]
        if self._averages:
            self._average = torch.stack([_flat(list(each.parameters())) for each in self._averages])
            of_averages = [dict(each.named_buffers()) for each in self._averages]
            self._average_buffers = {
                name: torch.stack([each[name] for each in of_averages]) for name in self.buffers
            }

    def tensors(self) -> dict[str, Tensor]:
        """Return name → parameter or buffer (P, ...).

        Parameters are views of :attr:`flat` that gradients pass through. Names begin with ``model.`` or
        ``discriminator.``.
        """
        parts = self.flat.split([shape.numel() for shape in self._shapes], dim=1)
        parameters = {
            name: part.reshape(-1, *shape)
            for name, part, shape in zip(self._names, parts, self._shapes, strict=False)
        }
        return parameters | {f"model.{name}": buffer for name, buffer in self.buffers.items()}

    @torch.no_grad()
    def adam_step(self, rate: Tensor, beta1: Tensor, decay: Tensor, steps: Tensor) -> None:
        """Do every member's AdamW step (Loshchilov & Hutter 2019), as PyTorch does it.

        Args:
            rate: learning rates, float (P, 1).
            beta1: β1, float (P, 1); β2 is 0.999.
            decay: decoupled weight decay, float (P, 1).
            steps: which step of each training it is, from 1, float (P, 1).
        """
        gradient = self.flat.grad
        if gradient is None:
            raise RuntimeError("backward must run before a step")
        self.flat.mul_(1 - rate * decay)
        self._first.lerp_(gradient, 1 - beta1)
        self._second.mul_(BETA2).addcmul_(gradient, gradient, value=1 - BETA2)
        size = rate / (1 - beta1**steps)
        root = self._second.sqrt().div_((1 - BETA2**steps).sqrt()).add_(EPSILON)
        self.flat.sub_(size * self._first / root)
        self.flat.grad = None

    @torch.no_grad()
    def average_step(self, weight: Tensor) -> None:
        """Move every member's averaged weights and buffers towards the trained ones.

        Args:
            weight: 1 − ``ema_decay``, and 1 at a training's first step, float (P, 1).
        """
        if not self._averages:
            return
        self._average.lerp_(self.flat[:, : self.model_size], weight)
        for name, average in self._average_buffers.items():
            each = weight.reshape(-1, *[1] * (average.dim() - 1))
            if average.is_floating_point():
                average.lerp_(self.buffers[name], each)
            else:
                average.copy_(average * (1 - each) + self.buffers[name] * each)

    @torch.no_grad()
    def put_back(self, steps: int) -> None:
        """Copy everything back into the trainings, which have done so many steps."""
        for row, training in enumerate(self._trainings):
            parameters = _parameters(training)
            _put_back(parameters, self.flat[row])
            for name, buffer in training.model.named_buffers():
                buffer.copy_(self.buffers[name][row])
            self._put_back_moments(row, training, steps)
            if training.average is not None:
                module = self._averages[row]
                _put_back(list(module.parameters()), self._average[row])
                for name, buffer in module.named_buffers():
                    buffer.copy_(self._average_buffers[name][row])
                training.average.n_averaged += steps

    def _put_back_moments(self, row: int, training: TaskTraining, steps: int) -> None:
        state, parameters = training.optimizer.state, _parameters(training)
        for p in parameters:
            if p not in state:
                state[p] = {"step": torch.zeros((), device=p.device)}
                state[p] |= {name: torch.zeros_like(p) for name in ("exp_avg", "exp_avg_sq")}
            state[p]["step"] += steps
        _put_back([state[p]["exp_avg"] for p in parameters], self._first[row])
        _put_back([state[p]["exp_avg_sq"] for p in parameters], self._second[row])
