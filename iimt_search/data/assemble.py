"""Makes a domain task of its domains, and leaves the target's labels behind."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split

from iimt_search.data.open import FOLDER_SIZE, natural_size, open_domain, open_with_labels
from iimt_search.data.task import Domain, DomainTask, Labelled, Note, Unlabelled, renumbered
from iimt_search.errors import DataError, collecting
from iimt_search.kinds import AUGMENTATIONS, ENCODERS, ImageForm, image_form
from iimt_search.settings import TrainSettings
from iimt_search.space import NumberRange, Space
from iimt_search.space.task_spec import TaskSpec

_VAL_SHARE = 0.2
_SPLIT_VERSION = 1
_READ_AT_ONCE = 128
# Of a series: what the network for them, strided and pooled once, leaves one step of.
_FEWEST_STEPS = 3
# Kinds of notes that tell something of a domain's labels.
_OF_LABELS = {"empty-class", "labels"}


def task_image_size(spec: TaskSpec, image_size: int) -> int:
    """Return the side of a task's images: what was asked for, or for 0 the largest natural one."""
    if image_size:
        return image_size
    sizes: list[int] = []
    wrong: list[str] = []
    for domain in (*spec.source, spec.target):
        with collecting(wrong):
            sizes.append(natural_size(domain))
    if wrong:
        raise DataError(*wrong)
    return max(sizes)


def _stratified(
    y: NDArray[np.int64], share: float, seed: int, what: str, classes: Sequence[str] = (), used: float = 1.0
) -> tuple[NDArray[np.int64], ...]:
    """Split indices in two, the second with ``share`` of every class.

    ``used`` is the share of the data that ``y`` is, for what to say where a class has too few samples.
    """
    counts = np.bincount(y)
    if (counts[counts > 0] < 2).any():
        rare = [classes[label] if classes else str(label) for label in np.flatnonzero(counts == 1).tolist()]
        more = f", or use more of them than the data_fraction of {used:g}" if used < 1 else ""
        raise DataError(
            f"{what}: class {', '.join(rare)} has one sample; every class needs at least 2 to be split: "
            f"add some, or leave the class out{more}"
        )
    present = len(counts[counts > 0])  # each part has at least one sample of every class
    count = min(max(round(len(y) * share), present), len(y) - present)
    first, second = train_test_split(np.arange(len(y)), test_size=count, stratify=y, random_state=seed)
    return np.sort(first), np.sort(second)


def split_source(
    train: Labelled, what: str = "source", classes: Sequence[str] = (), used: float = 1.0
) -> tuple[Labelled, Labelled]:
    """Split a source's training part into (train, validation), stratified, the same every time.

    Args:
        train: the part.
        what: its name in errors.
        classes: class names, for errors.
        used: the share of the data that it is, for errors.

    Raises:
        DataError: a class has a single sample.
    """
    fit, val = _stratified(train.y, _VAL_SHARE, 0, what, classes, used)
    return train.subset(fit), train.subset(val)


def _open_all(spec: TaskSpec, form: ImageForm) -> tuple[list[Domain], Domain, Domain | None]:
    """Return sources, target and few-shot samples, of images of one size.

    Raises:
        DataError: a domain cannot be made; says what is wrong with each.
    """
    wrong: list[str] = []
    opened: list[Domain] = []
    size, interpolation = form.size or FOLDER_SIZE, form.interpolation
    with collecting(wrong):
        size = task_image_size(spec, form.size)
    for domain in spec.source:
        with collecting(wrong):
            opened.append(open_with_labels(domain, size, interpolation))
    with collecting(wrong):
        opened.append(open_domain(spec.target, size, interpolation))
    if spec.few_shot is not None:
        with collecting(wrong):
            opened.append(open_with_labels(spec.few_shot, size, interpolation))
    if wrong:
        raise DataError(*wrong)
    few_shot = opened.pop() if spec.few_shot is not None else None
    return opened[:-1], opened[-1], few_shot


def _labelled(domain: Domain, what: str) -> Labelled:
    if not isinstance(domain.train, Labelled) or domain.classes is None:
        raise DataError(f"{what} has no labels; a source needs class folders, or y beside x")
    if empty := [note.message for note in domain.notes if note.kind == "empty-class"]:
        raise DataError(*empty)
    present = len(np.unique(domain.train.y))
    if present < 2:
        hints = "".join(f"; {note.message}" for note in domain.notes if note.kind == "nested")
        raise DataError(f"{what} has {present} class, there is nothing to tell apart{hints}")
    return domain.train


def _same(spec: TaskSpec, sources: list[Domain], target: Domain, few: Domain | None) -> Iterator[Note]:
    """Tell which domains of a task are the same samples."""
    named = [(f"source {s.label}", domain) for s, domain in zip(spec.source, sources, strict=True)]
    named += [(f"target {spec.target.label}", target)]
    named += (
        [(f"few_shot {spec.few_shot.label}", few)] if spec.few_shot is not None and few is not None else []
    )
    for (one, first), (other, second) in combinations(named, 2):
        if first.sample_fingerprint == second.sample_fingerprint:
            yield Note("same", f"{one} and {other} are the same {len(first.train)} samples; is that meant?")


def _digests(part: Unlabelled) -> Iterator[bytes]:
    for start in range(0, len(part), _READ_AT_ONCE):
        rows = part.rows(np.arange(start, min(start + _READ_AT_ONCE, len(part))))
        for row in np.ascontiguousarray(rows):
            yield hashlib.blake2b(row.data, digest_size=16).digest()
    part.release()


def count_shared(seen: Unlabelled, held_out: Unlabelled) -> int:
    """Return how many samples of ``held_out`` equal one of ``seen``, byte for byte."""
    known = set(_digests(seen))
    return sum(digest in known for digest in _digests(held_out))


def shared_with_target(task: DomainTask, test: Unlabelled | None = None) -> list[Note]:
    """Tell how many source samples are among the target's, too; reads all samples of both.

    Args:
        task: the task.
        test: the target's test samples, where they are to be looked at, too.
    """
    if any(note.kind == "same" for note in task.notes):
        return []
    source = (task.source_train.unlabelled, task.source_val.unlabelled)
    count, notes = sum(map(len, source)), []
    for part, flattered in ((task.target, "scores flatter"), (test, "the audit flatters")):
        known = set() if part is None else set(_digests(part))
        shared = sum(digest in known for each in source for digest in _digests(each)) if known else 0
        if shared:
            what = "target" if part is task.target else "target test"
            message = f"{shared} of {count} source samples are {what} samples, too"
            notes.append(Note("shared", f"{message}, and trained on with their labels: {flattered}"))
    return notes


def _notes(spec: TaskSpec, sources: list[Domain], target: Domain, few: Domain | None) -> Iterator[Note]:
    """Tell what is known of the domains of a task, less what would tell of the target's labels."""
    yield from (note for domain in (*sources, *([few] if few else [])) for note in domain.notes)
    yield from (note for note in target.notes if note.kind not in _OF_LABELS)
    yield from _same(spec, sources, target, few)
    theirs = target.white_level
    for source, domain in zip(spec.source, sources, strict=True):
        if None not in (domain.white_level, theirs) and domain.white_level != theirs:
            yield Note(
                "scale",
                f"white is {domain.white_level:g} in {source.label} and {theirs:g} in {spec.target.label}: "
                f"were both measured alike? `white_level` of either says which value is white",
            )


def _merge(spec: TaskSpec, domains: list[Domain]) -> tuple[Labelled, tuple[str, ...]]:
    """Put a task's sources together; their classes are put together by name."""
    parts: list[Labelled] = []
    wrong: list[str] = []
    for domain, source in zip(domains, spec.source, strict=True):
        which = f" {source.label}" if len(domains) > 1 else ""
        with collecting(wrong):
            parts.append(_labelled(domain, f"{spec.name}: the source{which}"))
    if wrong:
        raise DataError(*wrong)
    classes = list(dict.fromkeys(name for domain in domains for name in domain.classes or ()))
    if len(domains) == 1:
        return parts[0], tuple(classes)
    names = [domain.classes or () for domain in domains]
    y = np.concatenate([renumbered(part.y, own, classes) for part, own in zip(parts, names, strict=True)])
    x = np.concatenate([part.unlabelled.gather() for part in parts])
    return Labelled(x, y), tuple(classes)


def _check_fit(spec: TaskSpec, sources: list[Domain], target: Domain, what: str = "source") -> None:
    for domain in sources:
        if domain.kind != target.kind:
            raise DataError(
                f"{spec.name}: {what} is of kind {domain.kind}, target of kind {target.kind}; where one "
                f"was taken wrongly, `kind` says what it is"
            )
        if domain.train.x.shape[1:] != target.train.x.shape[1:]:
            ours, theirs = domain.train.x.shape[1:], target.train.x.shape[1:]
            turned = "; `channels: last` in one of them?" if ours == theirs[::-1] else ""
            raise DataError(f"{spec.name}: {what} samples are {ours}, target samples {theirs}{turned}")


def _check_classes(spec: TaskSpec, domain: Domain, classes: tuple[str, ...], what: str) -> None:
    unknown = [name for name in domain.classes or () if name not in classes]
    if unknown:
        no_labels = "; where they are no labels, say labelled: false" if "target" in what else ""
        raise DataError(
            f"{spec.name}: {what} classes {', '.join(unknown)} are not among the source's "
            f"({', '.join(classes)}); the class sets must match by name{no_labels}"
        )


def _few_shot(spec: TaskSpec, domain: Domain, target: Domain, classes: tuple[str, ...]) -> Domain:
    """Return the few labelled target samples with labels in the source's order of classes."""
    labelled = domain.train
    if not isinstance(labelled, Labelled) or domain.classes is None:
        raise DataError(f"{spec.name}: few_shot has no labels; it needs class folders, or y beside x")
    _check_fit(spec, [domain], target, "few_shot")
    _check_classes(spec, domain, classes, "few_shot's")
    y = renumbered(labelled.y, domain.classes, classes)
    return replace(domain, train=Labelled(labelled.x, y, labelled.index))


@lru_cache(maxsize=8)
def load_task(
    spec: TaskSpec,
    image_size: int = 0,
    data_fraction: float = 1.0,
    transform: Callable[[Domain], Domain] | None = None,
    interpolation: str = "bicubic",
) -> DomainTask:
    """Return a task as training may see it.

    Args:
        spec: its domains.
        image_size: side of the images in pixels; 0 for what is natural.
        data_fraction: share of the source and target samples to use, in (0, 1]; the same ones every time.
        transform: makes other samples of each domain's, one for each, with the same labels; hashable.
        interpolation: of image files, ``bicubic`` or ``bilinear``.

    Raises:
        DataError: a domain cannot be made, or source and target do not fit; says all that is wrong.
    """
    sources, target, few = _open_all(spec, ImageForm(image_size, interpolation))
    if transform is not None:
        sources, target = [transform(domain) for domain in sources], transform(target)
        few = None if few is None else transform(few)
    _check_fit(spec, sources, target)
    train, classes = _merge(spec, sources)
    _check_classes(spec, target, classes, "the target's")
    few_shot = None if few is None else _few_shot(spec, few, target, classes)
    unlabelled = Unlabelled(target.train.x)
    if data_fraction < 1:
        train = train.subset(_stratified(train.y, data_fraction, 1, f"{spec.name}: the source", classes)[1])
        count = max(2, round(len(unlabelled) * data_fraction))
        chosen = np.random.default_rng(2).permutation(len(unlabelled))[:count]
        unlabelled = unlabelled.subset(np.sort(chosen))
    fit, val = split_source(train, f"{spec.name}: the source", classes, data_fraction)
    # The target's samples alone: its labels change nothing that training sees.
    parts = [*(domain.fingerprint for domain in sources), target.sample_fingerprint]
    parts += [*classes, repr(data_fraction), str(_SPLIT_VERSION)]
    parts += [] if few_shot is None else [few_shot.fingerprint]
    return DomainTask(
        name=spec.name,
        classes=classes,
        kind=target.kind,
        augmentation=(None if transform else spec.target.augmentation) or target.augmentation,
        source_train=fit,
        source_val=val,
        target=unlabelled,
        fingerprint=hashlib.sha256("\x1f".join(parts).encode()).hexdigest(),
        few_shot=few_shot.train if few_shot is not None and isinstance(few_shot.train, Labelled) else None,
        notes=tuple(dict.fromkeys(_notes(spec, sources, target, few))),
        white_level=target.white_level,
    )


def load_task_of(
    spec: TaskSpec, settings: TrainSettings, transform: Callable[[Domain], Domain] | None = None
) -> DomainTask:
    """Return a task with images in the form, and the share of its samples, that a training asks for.

    Args:
        spec: its domains.
        settings: of the training.
        transform: as in :func:`load_task`.

    Raises:
        DataError: as :func:`load_task`.
        UsageError: there is no such network, or its package is not installed.
    """
    size, interpolation = settings.form
    return load_task(spec, size, settings.data_fraction, transform, interpolation)


def _fitting_network(task: DomainTask, space: Space) -> Iterator[Note]:
    def kind_of(network: str) -> str:
        return task.kind if network == "auto" or task.kind == "features" else ENCODERS[network].kind

    wrong = [name for name in space.values("network") if kind_of(name) != task.kind]
    if wrong:
        fitting = ", ".join(["auto", *(name for name, entry in ENCODERS.items() if entry.kind == task.kind)])
        searched = "network" in space.search
        yield Note(
            "network",
            f"network {', '.join(wrong)} takes samples of kind {kind_of(wrong[0])}, these are of "
            f"kind {task.kind}; {'let search.network choose among' if searched else 'set train.network to'} "
            f"{fitting}",
        )


def _fitting_batch(task: DomainTask, space: Space, share: float) -> Iterator[Note]:
    parts = {"source": len(task.source_train), "target": len(task.target)}
    batch, most = max(space.values("batch_size")), min(parts.values())
    for what, count in parts.items():
        if count >= batch:
            continue
        if most < 2:
            advice = "a batch has at least 2: there are too few samples"
        elif "batch_size" in space.search:
            advice = f"give search.batch_size values of at most {most}"
        else:
            advice = f"set train.batch_size to at most {most}"
        if share < 1:
            advice += f", or use more of them than the data_fraction of {share:g}"
        yield Note("batch", f"{what} has {count} training samples, fewer than a batch of {batch}; {advice}")


def image_forms(space: Space) -> tuple[ImageForm, ...]:
    """Return the forms that images are prepared in before a search: every choice, or of a range the smallest.

    The larger ones of a range are made when a trial asks for them: each is a copy of the data.
    """
    sizes = space.values("image_size")
    if isinstance(space.search.get("image_size"), NumberRange):
        sizes = sizes[:1]
    forms = [image_form(network, size) for network in space.values("network") for size in sizes]
    return tuple(dict.fromkeys(forms))


def unfit(spec: TaskSpec, space: Space) -> list[Note]:
    """Return why some configuration of a space could not be trained on a task, with what would help.

    Every value of the searched settings that data depends on is looked at: ``batch_size``, ``network``,
    ``data_fraction`` and, as :func:`image_forms` has them, ``image_size``; of a range the bounds.

    Raises:
        DataError: a domain cannot be made, in one of the sizes.
    """
    share = min(space.values("data_fraction"))
    task, *_ = [
        load_task(spec, form.size, share, interpolation=form.interpolation) for form in image_forms(space)
    ]
    found = []
    taken = AUGMENTATIONS[task.augmentation].kinds
    if task.kind not in taken:
        fitting = [name for name, entry in AUGMENTATIONS.items() if task.kind in entry.kinds]
        found.append(
            Note(
                "augmentation",
                f"augmentation {task.augmentation} is for {' and '.join(taken)}, these samples are "
                f"of kind {task.kind}; set the target's `augmentation` to {', '.join(fitting)}",
            )
        )
    if task.kind == "series" and task.sample_shape[1] < _FEWEST_STEPS:
        channels, steps = task.sample_shape
        found.append(
            Note(
                "network",
                f"series of {steps} steps are too short, a network needs {_FEWEST_STEPS}; if they are "
                f"{channels} steps of {steps} channels, say `channels: last` in each domain",
            )
        )
    return [*found, *_fitting_network(task, space), *_fitting_batch(task, space, share)]


def load_trainable(spec: TaskSpec, space: Space) -> DomainTask:
    """Return a task with the fixed settings of a space, all of whose configurations can be trained on it.

    Raises:
        DataError: a domain cannot be made, or :func:`unfit` finds something; says all of it.
    """
    task = load_task_of(spec, space.train)
    if wrong := unfit(spec, space):
        raise DataError(*(f"{spec.name}: {note.message}" for note in wrong))
    return task
