"""YAML with the line of every key, so that an error can say where; numbers as people write them."""

import re
from itertools import count
from typing import Any

import yaml

from iimt_search.errors import SpaceError

Path = tuple[str | int, ...]


_TAG = "tag:yaml.org,2002:"
_TEXT_TAGS = {f"{_TAG}str", f"{_TAG}merge"}
# Text whatever it looks like: a folder may be called 007, 1e3 or 2026-11-25.
_TEXT_KEYS = {
    *("study", "name", "named", "folder", "list", "root", "names", "arrays", "labels", "test", "test_labels"),
    "python",
}
_OTHER_TYPES = {f"{_TAG}{name}" for name in ("int", "float", "bool")}
_WHOLE = re.compile(r"[-+]?[0-9][0-9_]*")
# Many times more than any space file has: what is larger, or its aliases make larger, would take all memory.
_LETTERS, _ENTRIES = 300_000, 100_000


class _Loader(yaml.SafeLoader):
    """``SafeLoader`` with the numbers of YAML 1.2: 1e-3 is one, 1:30 is none, 010 is ten, a date is text."""

    yaml_implicit_resolvers = {  # noqa: RUF012
        first: [
            (tag, found) for tag, found in each if tag.removeprefix(_TAG) not in ("int", "float", "timestamp")
        ]
        for first, each in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def whole(self, node: yaml.ScalarNode) -> int:
        """Return the value of a whole number, in decimals."""
        return int(self.construct_scalar(node).replace("_", ""))


_Loader.add_implicit_resolver(f"{_TAG}int", re.compile(f"{_WHOLE.pattern}$"), [*"-+0123456789"])
_Loader.add_implicit_resolver(
    f"{_TAG}float",
    re.compile(
        r"[-+]?([0-9][0-9_]*(\.[0-9_]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?$|[-+]?\.(inf|Inf|INF)$|\.(nan|NaN|NAN)$"
    ),
    [*"-+.0123456789"],
)
_Loader.add_constructor(f"{_TAG}int", _Loader.whole)


def _whole_letters(node: yaml.Node) -> str:
    """Return a scalar's text with each letter whole, which JSON may have written as two halves.

    Raises:
        SpaceError: a half stands alone.
    """
    text = str(node.value)
    try:
        return text.encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError as error:
        raise SpaceError(f"{text!r} holds half a letter", line=node.start_mark.line + 1) from error


class LineMap:
    """Where each key and list item of a YAML document stands.

    Attributes:
        lines: path of keys and indices → line, counted from 1.
    """

    def __init__(self, root: yaml.Node | None) -> None:
        self.lines: dict[Path, int] = {(): 1}
        self._within: list[yaml.Node] = []
        self._count = count(1)
        if root is not None:
            self._walk(root, ())

    def _walk(self, node: yaml.Node, path: Path) -> None:
        line = node.start_mark.line + 1
        if any(node is parent for parent in self._within):
            raise SpaceError("an alias refers to what it stands in, a loop", line=line)
        self.lines.setdefault(path, line)
        if next(self._count) > _ENTRIES:
            raise SpaceError(f"more than {_ENTRIES} entries, with what its aliases stand for", line=line)
        self._within.append(node)
        self._walk_into(node, path)
        self._within.pop()

    def _walk_into(self, node: yaml.Node, path: Path) -> None:
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                line = key.start_mark.line + 1
                if isinstance(key, yaml.ScalarNode):
                    key.value = _whole_letters(key)
                here = (*path, str(key.value))
                if key.tag not in _TEXT_TAGS:
                    raise SpaceError(
                        f"Keys should be strings, got {key.value!r}"
                        if isinstance(key, yaml.ScalarNode)
                        else "Keys should be strings",
                        line=line,
                    )
                if here in self.lines:
                    first = self.lines[here]
                    raise SpaceError(f"key {key.value!r} stands twice, first on line {first}", line=line)
                self.lines[here] = line
                if key.value in _TEXT_KEYS and value.tag in _OTHER_TYPES:
                    value.tag = f"{_TAG}str"
                self._walk(value, here)
        elif isinstance(node, yaml.SequenceNode):
            for index, value in enumerate(node.value):
                self._walk(value, (*path, index))
        else:
            node.value = _whole_letters(node)

    def line(self, path: Path) -> int:
        """Return the line of ``path``, or of its nearest ancestor that is in the document."""
        while path not in self.lines:
            path = path[:-1]
        return self.lines[path]


def parse_yaml(text: str) -> tuple[Any, LineMap]:
    """Parse a YAML document with ``safe_load``'s types, its numbers as YAML 1.2 has them.

    ``1e-3`` and ``2e4`` are numbers, ``1:30`` is text, and so is a date. What stands under ``study``,
    ``name`` or a path is text even where it looks like a number.

    Returns:
        The document and its :class:`LineMap`.

    Raises:
        SpaceError: not YAML, a key stands twice, tags that safe_load refuses, or too large; with the line.
    """
    if len(text) > _LETTERS:
        raise SpaceError(f"a space file has less than {_LETTERS} letters, this one has {len(text)}")
    try:
        loader = _Loader(text)
        root = loader.get_single_node()
        lines = LineMap(root)
        return None if root is None else loader.construct_document(root), lines
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark is not None else None
        raise SpaceError(f"not YAML: {error.problem or error.context}", line=line) from error
    except yaml.YAMLError as error:
        raise SpaceError(f"not YAML: {error}") from error
    except RecursionError as error:
        raise SpaceError("its lists and mappings are nested too deeply") from error
    except SpaceError:
        raise
    except Exception as error:  # PyYAML's own constructors raise anything for `!!timestamp x`
        raise SpaceError(f"not YAML: {type(error).__name__}: {error}") from error
