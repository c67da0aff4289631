"""Many trainings as one batched computation: their tensors are stacked, and ``torch.vmap`` does the rest.

It is meant for a GPU that one small network would not fill. Each member has its own task, seed,
``lambda_max``, ``alpha``, ``temperature``, ``k``, weights and learning rate, draws what it would draw alone,
and ends where it would alone, but for rounding; only dropout and noise layers draw other numbers than alone.
A member is an ordinary :class:`~iimt_search.training.task_training.TaskTraining` before and after.
"""

from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from functools import partial
from itertools import groupby
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from iimt_search.errors import TrainingError
from iimt_search.iimt.virtual_labels import sharpen
from iimt_search.methods import needs_virtual_labels
from iimt_search.models.network import Discriminator, Model
from iimt_search.seeding import derive_seed
from iimt_search.training.batches import SampledAugmentations, SampledStep
from iimt_search.training.cost import measured
from iimt_search.training.objective import (
    Batch,
    loss_terms,
    predict_augmented,
    reversal_strength,
    term_weights,
)
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
        self._moments = {
            name: torch.stack([_moments(training, name) for training in trainings])
            for name in ("exp_avg", "exp_avg_sq")
        }
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
        first, second = self._moments.values()
        first.lerp_(gradient, 1 - beta1)
        second.mul_(BETA2).addcmul_(gradient, gradient, value=1 - BETA2)
        size = rate / (1 - beta1**steps)
        root = second.sqrt().div_((1 - BETA2**steps).sqrt()).add_(EPSILON)
        self.flat.sub_(size * first / root)
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
            w = weight.reshape(-1, *[1] * (average.dim() - 1))
            if average.is_floating_point():
                average.lerp_(self.buffers[name], w)
            else:
                average.copy_(average * (1 - w) + self.buffers[name] * w)

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
                state[p] |= {name: torch.zeros_like(p) for name in self._moments}
            state[p]["step"] += steps
        for name, moment in self._moments.items():
            _put_back([state[p][name] for p in parameters], moment[row])


def shape_of(training: TaskTraining) -> Hashable:
    """Return what trainings must share to be members of one population."""
    settings = training.settings
    return (
        training.model.architecture,
        settings.discriminator_width,
        training.task.augmentation,
        settings.augmentation,
        settings.augment_inputs,
        settings.batch_size,
        settings.joint_batch_norm,
        settings.statistics,
        settings.ema_decay > 0,
        tuple(training.terms),
        training.bfloat16,
        training.device,
    )


def _stackable(training: TaskTraining) -> bool:
    """Return whether a training may be a member: pretrained networks fill a device by themselves."""
    return training.model.backbone is None and training.settings.accumulate == 1


class _WithNetworks(nn.Module):
    """A function of networks, for ``functional_call`` to call with a member's tensors in place of theirs."""

    def __init__(self, function: Callable[..., Tensor], **networks: nn.Module) -> None:
        super().__init__()
        self._function = function
        for name, network in networks.items():
            self.add_module(name, network)

    def forward(self, *inputs: Any) -> Tensor:
        """Call the function with the networks, then ``inputs``."""
        return self._function(*self.children(), *inputs)


class Population:
    """Trainings of one shape, stacked.

    Args:
        trainings: at least one; those of one task are best neighbours.

    Raises:
        ValueError: they have not all the same :func:`shape_of`.
    """

    def __init__(self, trainings: Sequence[TaskTraining]) -> None:
        if len({shape_of(training) for training in trainings}) != 1:
            raise ValueError("the trainings of a population must have one shape")
        self._members = list(trainings)
        self._leader = self._members[0]
        self._state = StackedState(self._members)
        ks = [training.settings.k for training in self._members]
        self._of_k = {k: [i for i, other in enumerate(ks) if other == k] for k in sorted(set(ks))}
        self._first_bad = torch.stack([training.first_bad for training in self._members])

    def _tensor(self, values: Sequence[Sequence[float]] | Sequence[float]) -> Tensor:
        return self._state.flat.new_tensor(values)

    def _rows(self, sampled: Sequence[SampledStep]) -> tuple[Tensor, Tensor, Tensor]:
        """Return source samples, their labels and target samples, row after row; read once a task."""
        sources, labels, targets = [], [], []
        for _, group in groupby(zip(self._members, sampled, strict=True), key=lambda pair: id(pair[0].task)):
            members, steps = zip(*group, strict=True)
            x, y = members[0].source_rows(np.concatenate([step.source for step in steps]))
            sources.append(x)
            labels.append(y)
            targets.append(members[0].target_rows(np.concatenate([step.target for step in steps])))
        return torch.cat(sources), torch.cat(labels), torch.cat(targets)

    def _apply(self, x: Tensor, sampled: Sequence[tuple[Tensor, ...]]) -> Tensor:
        joined = tuple(torch.cat(members) for members in zip(*sampled, strict=True))  # row after row
        return self._leader.augmentation.apply(x, self._leader.settings.augmentation, joined)

    def _virtual_labels(self, x_t: Tensor, sampled: Sequence[SampledAugmentations]) -> Tensor | None:
        """Return virtual labels (P, B, C) of target samples (P, B, ...)."""
        if not needs_virtual_labels(self._leader.settings):
            return None
        tensors = {
            name: tensor.detach()
            for name, tensor in self._state.tensors().items()
            if name.startswith("model.")
        }
        predicted = x_t.new_empty((*x_t.shape[:2], len(self._leader.task.classes)))
        for k, at in self._of_k.items():
            # One pass for each K: in padded batches, BatchNorm would see samples that are not there.
            of_these = {name: tensor[at] for name, tensor in tensors.items()}
            repeated = x_t[at].repeat(1, k, *[1] * (x_t.dim() - 2)).flatten(0, 1)
            augmented = self._apply(repeated, [sampled[i].virtual for i in at])
            network = _WithNetworks(partial(predict_augmented, k=k), model=self._leader.model)
            call = vmap(partial(functional_call, network), randomness="different")
            predicted[at] = call(of_these, augmented.unflatten(0, (len(at), -1)))
        temperatures = self._tensor([member.settings.temperature for member in self._members])
        return sharpen(predicted, temperatures.reshape(-1, 1, 1))

    def _batch(self) -> tuple[Batch, Tensor | None]:
        """Return the members' batches and virtual labels, each tensor (P, ...)."""
        size, leader = len(self._members), self._leader
        sampled = [member.sample() for member in self._members]
        x_s, labels, x_t = self._rows(sampled)
        one = x_t[: leader.settings.batch_size]
        augmentation = [member.sample_augmentation(one) for member in self._members]
        q_t = self._virtual_labels(x_t.unflatten(0, (size, -1)), augmentation)
        if leader.settings.augment_inputs:
            x_s = self._apply(x_s, [sampled_for.source for sampled_for in augmentation])
            x_t = self._apply(x_t, [sampled_for.target for sampled_for in augmentation])
        coefficients = torch.stack([step.coefficients for step in sampled]).to(leader.device)
        orders = torch.stack([step.orders for step in sampled]).to(leader.device)
        x_s, labels, x_t = (rows.unflatten(0, (size, -1)) for rows in (x_s, labels, x_t))
        return Batch(x_s, labels, x_t, coefficients, orders), q_t

    def _terms(self, batch: Batch, q_t: Tensor | None, strengths: Tensor) -> Tensor:
        """Return the unweighted terms (P, terms)."""
        leader = self._leader

        def terms(
            model: Model, discriminator: Discriminator, batch: Batch, q_t: Tensor | None, strength: Tensor
        ) -> Tensor:
            unweighted = loss_terms(model, discriminator, batch, q_t, strength, leader.settings)
            return torch.stack(list(unweighted.values()))

        networks = _WithNetworks(terms, model=leader.model, discriminator=leader.discriminator)
        dims = (0, (0, None if q_t is None else 0, 0))
        call = vmap(partial(functional_call, networks), in_dims=dims, randomness="different")
        unweighted: Tensor = call(self._state.tensors(), (batch, q_t, strengths))
        return unweighted

    def _step(self, done: int) -> None:
        members, terms = self._members, self._leader.terms
        progress = [member.step + done for member in members]
        shares = [step / member.settings.steps for step, member in zip(progress, members, strict=True)]
        pairs = list(zip((member.settings for member in members), shares, strict=True))
        strengths = self._tensor([reversal_strength(*pair) for pair in pairs])
        with torch.autocast(self._leader.device.type, dtype=torch.bfloat16, enabled=self._leader.bfloat16):
            batch, q_t = self._batch()
            unweighted = self._terms(batch, q_t, strengths)
        weighted = unweighted * self._tensor(
            [[term_weights(*pair)[name] for name in terms] for pair in pairs]
        )
        weighted.sum().backward()
        columns = [
            (
                member.learning_rate(done),
                member.settings.beta1,
                member.settings.weight_decay,
                step + 1,
                1 - member.settings.ema_decay if step else 1.0,
            )
            for member, step in zip(members, progress, strict=True)
        ]
        rate, beta1, decay, steps, average = self._tensor(columns).split(1, dim=1)
        self._state.adam_step(rate, beta1, decay, steps)
        self._state.average_step(average)
        newly_bad = ~weighted.detach().isfinite() & (self._first_bad < 0)
        at = torch.tensor(progress, device=self._first_bad.device).unsqueeze(1)
        self._first_bad = torch.where(newly_bad, at, self._first_bad)

    def advance(self, steps: int) -> None:
        """Train every member for so many steps. A member whose loss is not finite disturbs no other.

        What is raised on the way leaves every member as it was.
        """
        leader = self._leader
        for network in (leader.model, leader.discriminator):
            network.train()
        random_states = [member.random_state() for member in self._members]
        devices = [leader.device] if leader.device.type == "cuda" else []
        try:
            with torch.random.fork_rng(devices=devices):
                for done in range(steps):
                    torch.manual_seed(derive_seed(leader.seed, "layers", leader.step + done))
                    self._step(done)
        except BaseException:
            for member, state in zip(self._members, random_states, strict=True):
                member.restore_random(state)
            raise
        self._state.put_back(steps)
        for member, first_bad in zip(self._members, self._first_bad, strict=True):
            member.step += steps
            member.first_bad.copy_(first_bad)


def _advance_population(members: Sequence[TaskTraining], steps: int) -> None:
    """Train members of one shape together, in halves where the device's memory does not hold all."""
    first = members[0]
    # torch's batched BatchNorm takes no bfloat16 of vectors on a processor.
    alone = first.bfloat16 and first.task.kind == "vector" and first.device.type == "cpu"
    if len(members) == 1 or alone:
        for member in members:
            with suppress(TrainingError):
                member.advance(member.step + steps)
        return
    try:
        with measured(first.device, *(member.spent for member in members)):
            Population(members).advance(steps)
    except torch.OutOfMemoryError:
        half = len(members) // 2
        for part in (members[:half], members[half:]):
            _advance_population(part, steps)


def advance_together(trainings: Sequence[TaskTraining], steps: Sequence[int]) -> None:
    """Train each up to its own step, those of one shape as one population.

    Whether losses stayed finite, :meth:`TaskTraining.check_finite` of each tells.

    Args:
        trainings: what to train.
        steps: how many steps each shall have done; none may have done more.

    Raises:
        torch.OutOfMemoryError: not even one training fits the device.
    """
    for training, step in zip(trainings, steps, strict=True):
        if training.teacher is not None or not _stackable(training):
            _advance_population([training], step - training.step)
    while left := [(t, step - t.step) for t, step in zip(trainings, steps, strict=True) if step > t.step]:
        # Side by side as far as the nearest end; whoever is not there yet goes on with the others.
        stride = min(rest for _, rest in left)
        shapes: dict[Hashable, list[TaskTraining]] = {}
        for training, _ in left:
            shapes.setdefault(shape_of(training), []).append(training)
        for members in shapes.values():
            # Neighbours of one task have their samples read in one go.
            _advance_population(sorted(members, key=lambda member: id(member.task)), stride)
