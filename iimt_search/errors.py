"""The exceptions that this package raises.

IimtSearchError                 exit code 1
├── UsageError                  exit code 2: the caller asked for something that cannot be
│   └── SpaceError              a space file, with file, line and key
├── DataError                   a domain could not be made or read
├── StudyError                  a study could not be opened, continued or written
│   ├── StudyLockedError        another driver holds the study
│   ├── StudyInterruptedError   the user stopped the run; exit code 130
│   ├── MachineError            the machine fails again and again, whatever is trained
│   ├── NoChoiceError           what a choice is made of has failed; other tasks' choices may be there
│   └── StudyMismatchError      the stored study was made by another space file
├── TrainingError               a training could not go on
│   └── NonFiniteLossError      a loss term became NaN or infinite
└── ModelFileError              an exported model could not be read

A message names an argument, or a setting, in backticks: `storage`, `device=cuda`, `resources.gpus`. The
command line puts its option in that place.
"""

import errno
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from iimt_search.plain_text import clipped, visible, without_passwords


class IimtSearchError(Exception):
    """Base of every error that this package raises on purpose.

    What others wrote stands in messages, too: nothing in one steers a terminal, or is a URL's password.
    """

    exit_code = 1

    def __init__(self, message: object = "") -> None:
        super().__init__(visible(clipped(without_passwords(str(message)), 3500), newlines=True))


class UsageError(IimtSearchError):
    """The caller asked for something that cannot be."""

    exit_code = 2


class SpaceError(UsageError):
    """A space file is wrong: says where (file, line, key), what, and what would be right."""

    def __init__(self, message: str, *, path: Path | None = None, line: int | None = None) -> None:
        self.path = path
        self.line = line
        where = "" if path is None else f"{path}: " if line is None else f"{path}:{line}: "
        super().__init__(where + clipped(message))


# So many causes are shown in one message.
_SHOWN = 10


class DataError(IimtSearchError):
    """A domain could not be made or read.

    Attributes:
        causes: all that is wrong, each once; the message shows the first ten and the number of the others.
    """

    def __init__(self, *causes: str) -> None:
        self.causes = tuple(dict.fromkeys(map(clipped, causes)))
        more = len(self.causes) - _SHOWN
        lines = [f"{len(self.causes)} things are wrong with the data", *self.causes[:_SHOWN]]
        lines += [f"and {more} more"] if more > 0 else []
        super().__init__("\n  ".join(lines) if len(self.causes) > 1 else self.causes[0])


@contextmanager
def collecting(causes: list[str]) -> Iterator[None]:
    """Add what a :class:`DataError` within the block says to ``causes``, to be raised with others."""
    try:
        yield
    except DataError as error:
        causes.extend(error.causes)


class StudyError(IimtSearchError):
    """A study could not be opened, continued or written."""


class StudyLockedError(StudyError):
    """Another driver holds the study."""


class StudyInterruptedError(StudyError):
    """The user stopped the run; everything finished or checkpointed is kept."""

    exit_code = 130


class MachineError(StudyError):
    """The machine fails again and again, whatever is trained; what is under way goes on at the next run."""


class NoChoiceError(StudyError):
    """The trainings that a choice, or its models, are made of have failed; other tasks go on."""


class StudyMismatchError(StudyError):
    """The stored study was made by another space file."""


class TrainingError(IimtSearchError):
    """A training could not go on."""


class NonFiniteLossError(TrainingError):
    """A loss term became NaN or infinite.

    Attributes:
        term: the loss term's name, such as ``intra_target``.
        step: the training step at which it was first not finite, counted from 0.
        task: the domain task's name, or "" where none is known.
    """

    def __init__(self, term: str, step: int, task: str = "") -> None:
        self.term, self.step, self.task = term, step, task
        where = f" of {task}" if task else ""
        super().__init__(f"loss term {term!r}{where} was not finite at step {step}")


class ModelFileError(IimtSearchError):
    """An exported model could not be read."""

    def __init__(self, message: object = "") -> None:
        super().__init__(clipped(message))


# How torch says that the processor's memory is used up.
_NO_MEMORY = ("can't allocate memory", "not enough memory")
# How torch and safetensors say of a device, a disk or memory that it failed, whatever was computed.
_MACHINE = (
    *("out of memory", *_NO_MEMORY, "cuda error", "cuda driver error", "cuda-capable device", "no cuda gpus"),
    *("cudnn_status", "cublas_status", "cusolver_status", "nccl error", "hip error", "device unavailable"),
    *(
        "no space left on device",
        "disk quota exceeded",
        "(os error 28)",
        "(os error 122)",
        "input/output error",
    ),
    *("pytorchstreamwriter failed", "unexpected pos"),  # torch.save where the disk is full
)
_MACHINE_ERRNO = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.ENOMEM, errno.ENODEV, errno.ENXIO),
    *(errno.EMFILE, errno.ENFILE, errno.ESTALE, errno.EBUSY, errno.EAGAIN),
}


def machine_failed(error: BaseException | None) -> bool:
    """Return whether an error is the machine's, not that of what was computed.

    No memory left, on a GPU or beside it, a device that is busy or gone, a full or failing disk, no file
    handles left: the same job may well succeed elsewhere or later.
    """
    while error is not None:
        if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in _MACHINE_ERRNO):
            return True
        # Of our own errors only what caused them counts: they may quote anything.
        if not isinstance(error, IimtSearchError) and any(mark in str(error).lower() for mark in _MACHINE):
            return True
        error = error.__cause__
    return False


def describe(error: BaseException, debug: bool) -> str:
    """Return one line on what went wrong; with ``debug`` the traceback too.

    "out of memory" stands in it where that is what happened.
    """
    name = "" if isinstance(error, IimtSearchError) else f"{type(error).__name__}: "
    text = without_passwords(f"{name}{error}".replace("\n", " "))
    if debug:
        text = without_passwords("".join(traceback.format_exception(error)).rstrip())
    low = text.lower()
    if "out of memory" not in low and (isinstance(error, MemoryError) or any(m in low for m in _NO_MEMORY)):
        return f"out of memory: {text}"
    return text
