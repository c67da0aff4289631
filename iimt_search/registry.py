"""Tables of what has a name: the built-in entries, and those of installed packages."""

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import redirect_stdout
from functools import cached_property
from importlib import import_module
from threading import RLock
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic_core import PydanticCustomError

from iimt_search.errors import UsageError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

Entry = TypeVar("Entry")

# Standard output is one for all threads: two that put it aside and back would leave it aside.
_OWN_CODE = RLock()


def load_object(path: str) -> Any:
    """Import and return what ``module:name`` names."""
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)


def call_own(path: str) -> Any:
    """Import what a user's ``module:name`` names, call it, and return what it returns.

    Modules of the working folder are found, too. What the user's code prints goes to standard error: standard
    output is for results.
    """
    with _OWN_CODE, redirect_stdout(sys.stderr):
        if os.getcwd() not in sys.path:
            sys.path.insert(0, os.getcwd())
        return load_object(path)()


def _package(point: "EntryPoint") -> str:
    return f"package {point.dist.name}" if point.dist else f"the package of {point.value}"


class Registry(Mapping[str, Entry]):
    """Entries by name.

    Installed packages are looked at when a name is not built in, or when all names are listed. They offer
    entries as entry points of the group ``iimt_search.validators`` (``encoders``, …): the object is an entry,
    or a function without arguments that returns one. It is loaded when it is looked up. A name that is built
    in always means the built-in entry.

    Args:
        what: an entry's name in messages; in the plural, the end of the entry points' group.
        kind: the entries' class.
        built_in: name → entry.
        families: beginning → a function that makes the entry of a name ``beginning:rest``. Such names are not
            listed, and whether there is what they name shows when it is used.
    """

    def __init__(
        self,
        what: str,
        kind: type[Entry],
        built_in: Mapping[str, Entry],
        families: Mapping[str, Callable[[str], Entry]] = MappingProxyType({}),
    ) -> None:
        self._what, self._kind, self.built_in = what, kind, dict(built_in)
        self.families = dict(families)
        self._loaded: dict[str, Entry] = {}

    @cached_property
    def _offered(self) -> "dict[str, list[EntryPoint]]":
        """Name → the entry points of installed packages."""
        from importlib.metadata import entry_points

        offered: dict[str, list[EntryPoint]] = {}
        for point in sorted(entry_points(group=f"iimt_search.{self._what}s"), key=lambda p: p.name):
            offered.setdefault(point.name, []).append(point)
        return offered

    def __contains__(self, name: object) -> bool:
        return name in self.built_in or self._of_family(name) is not None or name in self._offered

    def _of_family(self, name: object) -> Callable[[str], Entry] | None:
        family, _, rest = name.partition(":") if isinstance(name, str) else ("", "", "")
        return self.families.get(family) if rest else None

    def __iter__(self) -> Iterator[str]:
        """Yield all names.

        Raises:
            UsageError: a package offers a name that is built in.
        """
        for name in self._offered.keys() & self.built_in.keys():
            raise UsageError(
                f"{_package(self._offered[name][0])} offers {self._what} {name!r}; that name is built "
                f"in, the package must choose another"
            )
        yield from self.built_in
        yield from self._offered

    def __len__(self) -> int:
        return len(self._offered.keys() | self.built_in.keys())

    def __getitem__(self, name: str) -> Entry:
        """Return an entry.

        Raises:
            KeyError: there is none of this name.
            UsageError: the package that offers it is broken, or two offer it.
        """
        if name in self.built_in:
            return self.built_in[name]
        if make := self._of_family(name):
            return make(name)
        if name not in self._loaded:
            self._loaded[name] = self._load(name, self._offered[name])
        return self._loaded[name]

    def _load(self, name: str, points: "list[EntryPoint]") -> Entry:
        if len(points) > 1:
            packages = " and ".join(map(_package, points))
            raise UsageError(f"{packages} both offer {self._what} {name!r}; uninstall one")
        where = f"{_package(points[0])}: its {self._what} {name!r} ({points[0].value})"
        try:
            entry = points[0].load()
            if callable(entry):
                entry = entry()
        except Exception as error:
            raise UsageError(f"{where} cannot be loaded: {type(error).__name__}: {error}") from error
        if not isinstance(entry, self._kind):
            wanted, given = self._kind.__name__, type(entry).__name__
            raise UsageError(f"{where} must be of class {wanted}, or a function returning one, got {given}")
        return entry

    def checked(self, name: str, *besides: str) -> str:
        """Return ``name`` if it is one of ours, or one of ``besides``; for a pydantic model's field.

        Raises:
            PydanticCustomError: it is neither; as pydantic says it of a ``Literal``.
        """
        if name in besides or name in self:
            return name
        families = [f"{family}:NAME" for family in self.families]
        *first, last = map(repr, (*besides, *self, *families))
        expected = f"{', '.join(first)} or {last}"
        raise PydanticCustomError("literal_error", "Input should be {expected}", {"expected": expected})
