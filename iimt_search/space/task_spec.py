"""How a space file names a domain task: two embedded domains, or the user's own data."""

from itertools import permutations
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_serializer, model_validator

from iimt_search.kinds import AugmentationName, Kind
from iimt_search.task_name import parse_task_name, slug

# Where the channels are in an array of samples.
ChannelOrder = Literal["first", "last"]

_WAYS = ("named", "arrays", "folder", "list", "python")
_FILES = ("arrays", "folder", "list")
# Key → the ways that it says more of.
_ONLY_WITH = {
    **dict.fromkeys(("test", "labelled", "white_level"), _FILES),
    **dict.fromkeys(("labels", "test_labels", "channels"), ("arrays",)),
    **dict.fromkeys(("root", "names"), ("list",)),
    "count": ("named",),
}
# Keys that hold the path of a file or a folder.
_PATHS = ("arrays", "folder", "list", "root", "names", "labels", "test", "test_labels")


class DomainSpec(BaseModel):
    """Where one domain's samples come from: exactly one of the first five.

    Attributes:
        named: a domain by name, such as ``digits`` or ``mnist``.
        arrays: an ``.npz`` file with ``x`` (N, ...) and, where there are labels, ``y`` (N,); or an
            ``.npy`` file with x alone.
        folder: images, in one folder for each class; a target's may also lie flat.
        list: a text file with the path of an image and, where there are labels, its label on each line.
        root: folder that the paths of ``list`` and its ``test`` are seen from; by default that of each list.
        names: file with the class names of the numbers in ``list``: one a line, or with the number on each.
        python: ``module:function``, called without arguments, returns a
            :class:`iimt_search.data.task.Domain`.
        labels: ``.npy`` file with y, beside an ``.npy`` file of x.
        test: samples that nothing but the audit sees, in the form of ``arrays``, ``folder`` or
            ``list``.
        test_labels: ``.npy`` file with y of ``test``.
        labelled: false: the folders within ``folder``, the labels of ``list`` or the ``y`` of ``arrays`` are
            no labels; those of ``test`` are.
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
    list: str | None = None
    root: str | None = None
    names: str | None = None
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
        for name, ways in _ONLY_WITH.items():
            if getattr(self, name) is not None and given[0] not in ways:
                told = " or ".join(part for part in (", ".join(ways[:-1]), ways[-1]) if part)
                raise ValueError(f"`{name}` goes with {told}, not with {given[0]}")
        if self.labelled is False and self.labels is not None:
            raise ValueError("`labels` names a file of labels, `labelled: false` says that there are none")
        if self.test_labels is not None and self.test is None:
            raise ValueError("`test_labels` goes with test")
        return self

    @property
    def way(self) -> str:
        """Which of the five it is, by its key."""
        return next(way for way in _WAYS if getattr(self, way) is not None)

    @property
    def label(self) -> str:
        """A short name for people."""
        if self.named is not None:
            return self.named
        if self.python is not None:
            return self.python.split(":")[1]
        return Path(self.arrays or self.folder or self.list or "").stem

    def relative_to(self, base: Path) -> "DomainSpec":
        """Return the spec with its paths made absolute, as seen from ``base``."""
        paths = {}
        for name in _PATHS:
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


class TaskPairs(BaseModel):
    """Tasks of domains that have a name here: in the place of the list of ``tasks``.

    Attributes:
        domains: name → domain, at least two; the names make those of the tasks.
        pairs: ``all`` ordered pairs, or a list of ``source->target``; ``one+two->target`` puts sources
            together.
        several_sources: a task for each target besides, all the other domains put together as its source.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    domains: dict[str, DomainSpec] = Field(min_length=2)
    pairs: Literal["all"] | tuple[str, ...] = "all"
    several_sources: bool = False

    @field_validator("domains", mode="before")
    @classmethod
    def _spelled_short(cls, content: Any) -> Any:
        if not isinstance(content, dict):
            return content
        if wrong := [name for name in content if any(sign in name for sign in ("+", "->", "→"))]:
            raise ValueError(f"a domain's name has no `+` and no arrow, got {wrong[0]!r}")
        return {name: _domain(each) for name, each in content.items()}

    @model_validator(mode="after")
    def _some_tasks(self) -> Self:
        if self.several_sources and len(self.domains) < 3:
            raise ValueError(f"`several_sources` needs at least 3 domains, got {len(self.domains)}")
        if not self._pairs():
            raise ValueError("`pairs` is empty: there is no task")
        for sources, target in self._pairs():
            unknown = [name for name in (*sources, target) if name not in self.domains]
            if unknown:
                raise ValueError(
                    f"`pairs`: there is no domain {unknown[0]!r} among {', '.join(self.domains)}"
                )
            if target in sources or len(set(sources)) < len(sources):
                raise ValueError(f"`pairs`: {'+'.join(sources)}->{target} has a domain twice")
        return self

    def _pairs(self) -> list[tuple[tuple[str, ...], str]]:
        """Return the names of sources and target of each task."""
        found: list[tuple[tuple[str, ...], str]]
        if self.pairs == "all":
            found = [((source,), target) for source, target in permutations(self.domains, 2)]
        else:
            names = [parse_task_name(text) for text in self.pairs]
            found = [(tuple(map(str.strip, name.source.split("+"))), name.target) for name in names]
        if self.several_sources:
            found += [(tuple(name for name in self.domains if name != each), each) for each in self.domains]
        return found

    def tasks(self) -> list[dict[str, Any]]:
        """Return each task as the list of ``tasks`` spells it."""
        return [
            {
                "name": f"{'+'.join(sources)}->{target}",
                "source": [self.domains[name] for name in sources],
                "target": self.domains[target],
            }
            for sources, target in self._pairs()
        ]


def _default_name(content: dict[str, Any]) -> str:
    try:
        sources = [DomainSpec.model_validate(each).label for each in content["source"]]
        return f"{'+'.join(sources)}->{DomainSpec.model_validate(content['target']).label}"
    except (KeyError, TypeError, ValueError):
        return "unnamed"  # what is wrong with the domains is told by their own errors


def _domain(content: Any) -> Any:
    return {"named": content} if isinstance(content, str) else content
