"""Looks at a task's data before a training does, and warns of what would go wrong. Reads no target label."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iimt_search.data.assemble import count_shared, load_task, shared_with_target, task_image_size, unfit
from iimt_search.data.image_files.open import training_files
from iimt_search.data.images import shorter_side
from iimt_search.data.open import natural_size, open_domain
from iimt_search.data.task import DomainTask, Unlabelled
from iimt_search.space import Space
from iimt_search.space.task_spec import DomainSpec, TaskSpec
from iimt_search.training.batches import evenly_spaced

# At most so many samples of a part are measured; duplicates are looked for among all of them.
MEASURED = 2000
_LARGEST_TO_SMALLEST = 10
_SMALL_CLASS = 10
_FAR_DEVIATIONS = 5
_WIDE = 5
_ENLARGED = 2
_FOLDER_FILES = 50
_READ_AT_ONCE = 128
_NAMES_TOLD = 10


@dataclass(frozen=True)
class Finding:
    """Something that would go wrong in training, or make its measures wrong.

    Attributes:
        kind: that of a :class:`~iimt_search.data.task.Note` of the domains, or
            ``imbalance``, ``small-class``, ``batch``, ``network``, ``augmentation``, ``constant``, ``far``,
            ``spread``, ``duplicates``, ``shared`` or ``enlarged``.
        message: what it is and, where that is not plain, what it does; for people.
    """

    kind: str
    message: str


@dataclass(frozen=True)
class PartSummary:
    """What the values of a domain are like, channel by channel (vectors: feature by feature).

    Attributes:
        low: smallest value.
        high: largest value.
        means: of each channel.
        deviations: standard deviation of each channel.
        constant: channels that have one value only.
    """

    low: float
    high: float
    means: tuple[float, ...]
    deviations: tuple[float, ...]
    constant: tuple[int, ...]


@dataclass(frozen=True)
class TaskCheck:
    """What a task's data is like. It has nothing of the target's labels.

    Attributes:
        task: its name.
        kind: of the samples.
        sample_shape: shape of one sample.
        augmentation: name of what keeps the classes.
        source_classes: class name → source samples, training and validation together.
        source_train: number of source samples to train on.
        source_val: number of source samples held out for validators.
        target: number of target samples to adapt to.
        target_test: number of target samples for the audit alone; None where there are none.
        source_values: values of ``source_train``.
        target_values: values of ``target``.
        source_duplicates: validation samples that equal a training sample.
        target_duplicates: target test samples that equal a target sample; None where there are none.
        findings: what would go wrong.
        notes: what the data was taken for, and what was left out of it.
    """

    task: str
    kind: str
    sample_shape: tuple[int, ...]
    augmentation: str
    source_classes: dict[str, int]
    source_train: int
    source_val: int
    target: int
    target_test: int | None
    source_values: PartSummary
    target_values: PartSummary
    source_duplicates: int
    target_duplicates: int | None
    findings: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()


def summarise(part: Unlabelled) -> PartSummary:
    """Measure at most :data:`MEASURED` evenly spaced samples (M, channels, ...) of a part."""
    at = evenly_spaced(len(part), MEASURED)

    def pieces() -> Iterator[NDArray[np.float64]]:
        """Read the samples, float64 (channels, ...), a few at a time: large images would not fit."""
        for start in range(0, len(at), _READ_AT_ONCE):
            x = part.rows(at[start : start + _READ_AT_ONCE]).astype(np.float64)
            yield np.moveaxis(x, 1, 0).reshape(x.shape[1], -1)

    low = np.min([piece.min(axis=1) for piece in pieces()], axis=0)
    high = np.max([piece.max(axis=1) for piece in pieces()], axis=0)
    values = len(at) * int(np.prod(part.x.shape[2:]))  # of each channel
    means = np.sum([piece.sum(axis=1) for piece in pieces()], axis=0) / values
    squares = np.sum([np.square(piece - means[:, None]).sum(axis=1) for piece in pieces()], axis=0)
    return PartSummary(
        low=float(low.min()),
        high=float(high.max()),
        means=tuple(means.tolist()),
        deviations=tuple(np.sqrt(squares / values).tolist()),
        constant=tuple(np.flatnonzero(low == high).tolist()),
    )


def _named(names: list[str]) -> str:
    more = len(names) - _NAMES_TOLD
    return ", ".join(names[:_NAMES_TOLD]) + (f" and {more} more" if more > 0 else "")


def _class_findings(counts: dict[str, int]) -> Iterator[Finding]:
    present = {name: count for name, count in counts.items() if count}
    least, most = min(present, key=present.__getitem__), max(present, key=present.__getitem__)
    if present[most] > _LARGEST_TO_SMALLEST * present[least]:
        yield Finding(
            "imbalance",
            f"source class {most!r} has {present[most]} samples, class {least!r} {present[least]}: more "
            f"than {_LARGEST_TO_SMALLEST} times as many; the rare class may be lost",
        )
    small = [f"{name!r} ({count})" for name, count in counts.items() if count < _SMALL_CLASS]
    if small:
        message = f"source classes with fewer than {_SMALL_CLASS} samples: {_named(small)}"
        yield Finding("small-class", message)


def _value_findings(source: PartSummary, target: PartSummary) -> Iterator[Finding]:
    for what, values in (("source", source), ("target", target)):
        if values.constant:
            channels = _named([str(channel) for channel in values.constant])
            yield Finding("constant", f"the same value in every {what} sample: channel {channels}")
    far, wide = [], []
    for channel, (ours, theirs, our_spread, their_spread) in enumerate(
        zip(source.means, target.means, source.deviations, target.deviations, strict=True)
    ):
        spreads = [spread for spread in (our_spread, their_spread) if spread > 0]
        # By the narrower of the two, so that it does not matter which of them is the source.
        if abs(ours - theirs) > _FAR_DEVIATIONS * min(spreads, default=0):
            far.append(f"{channel} (source mean {ours:.4g}, target mean {theirs:.4g})")
        elif len(spreads) == 2 and max(spreads) > _WIDE * min(spreads):
            wide.append(f"{channel} (source deviation {our_spread:.4g}, target deviation {their_spread:.4g})")
    if far:
        yield Finding(
            "far",
            f"source and target lie more than {_FAR_DEVIATIONS} standard deviations apart in channel "
            f"{_named(far)}; are both in the same unit?",
        )
    if wide:
        yield Finding(
            "spread",
            f"the values of one domain spread more than {_WIDE} times as widely as the other's in channel "
            f"{_named(wide)}; are both in the same unit?",
        )


def _side_on_disk(domain: DomainSpec) -> float:
    """Return the side of a domain's images before they are resized; 0 where it has none."""
    if domain.folder is None and domain.list is None:
        return natural_size(domain)
    # The natural size of image files is a convention; what they hold is told by their headers.
    files = training_files(domain).files
    return median(shorter_side(files[at]) for at in evenly_spaced(len(files), _FOLDER_FILES))


def _size_findings(spec: TaskSpec, side: int) -> Iterator[Finding]:
    for domain in dict.fromkeys((*spec.source, spec.target)):
        natural = _side_on_disk(domain)
        if 0 < _ENLARGED * natural < side:
            yield Finding(
                "enlarged",
                f"images of {domain.label} are enlarged from {natural:g} to {side} pixels: slower, and "
                f"no more to see",
            )


def _findings(
    spec: TaskSpec, check: TaskCheck, task: DomainTask, test: Unlabelled | None, space: Space
) -> Iterator[Finding]:
    yield from (Finding(note.kind, note.message) for note in task.notes if note.warning)
    yield from _class_findings(check.source_classes)
    for note in unfit(spec, space):
        yield Finding(note.kind, f"{note.message}; a run refuses")
    yield from (Finding(note.kind, note.message) for note in shared_with_target(task, test))
    yield from _value_findings(check.source_values, check.target_values)
    if check.source_duplicates:
        yield Finding(
            "duplicates",
            f"{check.source_duplicates} of {check.source_val} source validation samples are in the training "
            f"samples, too: scores on them flatter",
        )
    if check.target_duplicates:
        yield Finding(
            "duplicates",
            f"{check.target_duplicates} of {check.target_test} target test samples are among those that "
            f"training sees, too: the audit flatters",
        )
    if check.kind == "image":
        yield from _size_findings(spec, max(check.sample_shape[-1], *space.values("image_size")))


def check_task(spec: TaskSpec, space: Space | None = None) -> TaskCheck:
    """Look at a task's data as training would see it.

    Args:
        spec: the task.
        space: its training settings, the fixed and the searched; by default all defaults, nothing searched.

    Raises:
        DataError: the task cannot be made.
    """
    if space is None:
        space = Space.model_validate({"schema": 1, "study": "check", "tasks": [spec], "search": {}})
    image_size = space.train.image_size
    task = load_task(spec, image_size, space.train.data_fraction)
    source, val = task.source_train, task.source_val
    test = open_domain(spec.target, task_image_size(spec, image_size)).test
    unseen = None if test is None else Unlabelled(test.x, test.index)
    counts = np.bincount(np.concatenate([source.y, val.y]), minlength=len(task.classes)).tolist()
    check = TaskCheck(
        task=task.name,
        kind=task.kind,
        sample_shape=task.sample_shape,
        augmentation=task.augmentation,
        source_classes=dict(zip(task.classes, counts, strict=True)),
        source_train=len(source),
        source_val=len(val),
        target=len(task.target),
        target_test=None if unseen is None else len(unseen),
        source_values=summarise(source.unlabelled),
        target_values=summarise(task.target),
        source_duplicates=count_shared(source.unlabelled, val.unlabelled),
        target_duplicates=None if unseen is None else count_shared(task.target, unseen),
        notes=tuple(note.message for note in task.notes if not note.warning),
    )
    return replace(check, findings=tuple(_findings(spec, check, task, unseen, space)))


def check_json(check: TaskCheck) -> dict[str, Any]:
    """Return a check as JSON values."""

    def values(part: PartSummary) -> dict[str, Any]:
        content = asdict(part)
        return {"range": [content.pop("low"), content.pop("high")], **content}

    return {
        "task": check.task,
        "kind": check.kind,
        "sample_shape": check.sample_shape,
        "augmentation": check.augmentation,
        "source": {
            "train": check.source_train,
            "val": check.source_val,
            "classes": check.source_classes,
            "duplicates": check.source_duplicates,
            **values(check.source_values),
        },
        "target": {
            "train": check.target,
            "test": check.target_test,
            "duplicates": check.target_duplicates,
            **values(check.target_values),
        },
        "notes": list(check.notes),
        "warnings": [asdict(finding) for finding in check.findings],
    }
