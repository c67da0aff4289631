"""How a space file names a domain task: two embedded domains, or the user's own data."""

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_serializer, model_validator

from iimt_search.kinds import AugmentationName, Kind
from iimt_search.task_name import parse_task_name, slug

# Where the channels are in an array of samples.
ChannelOrder = Literal["first", "last"]

_WAYS = ("named", "arrays", "folder", "python")


class DomainSpec(BaseModel):
    """Where one domain's samples come from: exactly one of the first four.

    Attributes:
        named: a domain by name, such as ``digits`` or ``mnist``.
        arrays: an ``.npz`` file with ``x`` (N, ...) and, where there are labels, ``y`` (N,); or an
            ``.npy`` file with x alone.
        folder: images, in one folder for each class; a target's may also lie flat.
        python: ``module:function``, called without arguments, returns a
            :class:`iimt_search.data.task.Domain`.
        labels: ``.npy`` file with y, beside an ``.npy`` file of x.
        test: samples that nothing but the audit sees, in the form of ``arrays`` or ``folder``.
        test_labels: ``.npy`` file with y of ``test``.
        labelled: false: the folders within ``folder``, or the ``y`` of ``arrays``, are no labels; those of
            ``test`` are.
        white_level: which value of images means white, 255; by default what the largest value says.
        count: training samples of a named domain that makes as many as asked for (``syn-digits``).
        kind: of the samples; by default what their shape and type say.
        channels: ``first`` or ``last``: where arrays have them; by default series first, and images where
            there are 1 or 3.
        augmentation: by default what fits the kind.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    named: str | None = None
    arrays: str | None = None
    folder: str | None = None
    python: str | None = Field(None, pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")
    labels: str | None = None
    test: str | None = None
    test_labels: str | None = None
    labelled: bool | None = None
    white_level: int | float | None = Field(None, gt=0, allow_inf_nan=False)
    count: int | None = Field(None, ge=100, le=10_000_000)
    kind: Kind | None = None
    channels: ChannelOrder | None = None
    augmentation: AugmentationName | None = None

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        given = [way for way in _WAYS if getattr(self, way) is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of {', '.join(_WAYS)}, got {', '.join(given) or 'none'}")
        if self.count is not None and self.named is None:
            raise ValueError("`count` goes with named")
        if self.test is not None and given[0] in ("named", "python"):
            raise ValueError(f"`test` goes with arrays or folder, not with {given[0]}")
        if (self.labels or self.test_labels) and self.arrays is None:
            raise ValueError("`labels` and `test_labels` go with arrays")
        for name in ("labelled", "white_level"):
            if getattr(self, name) is not None and given[0] in ("named", "python"):
                raise ValueError(f"`{name}` goes with arrays or folder, not with {given[0]}")
        if self.channels is not None and self.arrays is None:
            raise ValueError("`channels` goes with arrays")
        if self.labelled is False and self.labels is not None:
            raise ValueError("`labels` names a file of labels, `labelled: false` says that there are none")
        if self.test_labels is not None and self.test is None:
            raise ValueError("`test_labels` goes with test")
        return self

    @property
    def label(self) -> str:
        """A short name for people."""
        if self.named is not None:
            return self.named
        if self.python is not None:
            return self.python.split(":")[1]
        return Path(self.arrays or self.folder or "").stem

    def relative_to(self, base: Path) -> "DomainSpec":
        """Return the spec with its paths made absolute, as seen from ``base``."""
        paths = {}
        for name in ("arrays", "folder", "labels", "test", "test_labels"):
            value = getattr(self, name)
            if value is not None:
                paths[name] = str((base / Path(value).expanduser()).absolute())
        return self.model_copy(update=paths)

    @model_serializer
    def _short(self) -> Any:
        given = {name: value for name, value in self.__dict__.items() if value is not None}
        return self.named if set(given) == {"named"} else given


class TaskSpec(BaseModel):
    """A domain task.

    Attributes:
        name: unique within the space; by default ``source->target``.
        source: the labelled domain, or several that are put together.
        target: the domain to adapt to. Its labels, where it has any, stay sealed.
        few_shot: labelled samples of the target that the user gives on purpose, for the validator
            ``few_shot``. Nothing is trained on them.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(
        min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]+$"
    )
    source: tuple[DomainSpec, ...] = Field(min_length=1)
    target: DomainSpec
    few_shot: DomainSpec | None = None

    @model_validator(mode="before")
    @classmethod
    def _spelled_short(cls, content: Any) -> Any:
        if isinstance(content, str):
            pair = parse_task_name(content)
            return {"name": str(pair), "source": [{"named": pair.source}], "target": {"named": pair.target}}
        if not isinstance(content, dict):
            return content
        content = dict(content)
        source = content.get("source")
        if isinstance(source, (str, dict)):
            source = [source]
        if isinstance(source, (list, tuple)):
            content["source"] = [_domain(each) for each in source]
        for name in ("target", "few_shot"):
            if name in content:
                content[name] = _domain(content[name])
        content.setdefault("name", _default_name(content))
        return content

    @property
    def slug(self) -> str:
        """The name as a folder."""
        return slug(self.name)

    def relative_to(self, base: Path) -> "TaskSpec":
        """Return the spec with its paths made absolute, as seen from ``base``."""
        source = tuple(each.relative_to(base) for each in self.source)
        few_shot = None if self.few_shot is None else self.few_shot.relative_to(base)
        target = self.target.relative_to(base)
        return self.model_copy(update={"source": source, "target": target, "few_shot": few_shot})

    @model_serializer
    def _short(self) -> Any:
        named = [domain.model_dump() for domain in (*self.source, self.target)]
        if self.few_shot is not None:
            few_shot = self.few_shot.model_dump()
            return {"name": self.name, "source": named[:-1], "target": named[-1], "few_shot": few_shot}
        if (
            len(named) == 2
            and all(isinstance(n, str) for n in named)
            and self.name == f"{named[0]}->{named[1]}"
        ):
            return self.name
        return {"name": self.name, "source": named[:-1], "target": named[-1]}


def _default_name(content: dict[str, Any]) -> str:
    try:
        sources = [DomainSpec.model_validate(each).label for each in content["source"]]
        return f"{'+'.join(sources)}->{DomainSpec.model_validate(content['target']).label}"
    except (KeyError, TypeError, ValueError):
        return "unnamed"  # what is wrong with the domains is told by their own errors


def _domain(content: Any) -> Any:
    return {"named": content} if isinstance(content, str) else content
