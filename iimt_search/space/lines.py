"""YAML with the line of every key, so that an error can say where."""

from typing import Any

import yaml

from iimt_search.errors import SpaceError

Path = tuple[str | int, ...]


_TEXT_TAGS = {"tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"}


class LineMap:
    """Where each key and list item of a YAML document stands.

    Attributes:
        lines: path of keys and indices → line, counted from 1.
    """

    def __init__(self, root: yaml.Node | None) -> None:
        self.lines: dict[Path, int] = {(): 1}
        self._within: list[yaml.Node] = []
        if root is not None:
            self._walk(root, ())

    def _walk(self, node: yaml.Node, path: Path) -> None:
        line = node.start_mark.line + 1
        if any(node is parent for parent in self._within):
            raise SpaceError("an alias refers to what it stands in, a loop", line=line)
        self.lines.setdefault(path, line)
        self._within.append(node)
        self._walk_into(node, path)
        self._within.pop()

    def _walk_into(self, node: yaml.Node, path: Path) -> None:
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                here = (*path, str(key.value))
                line = key.start_mark.line + 1
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
                self._walk(value, here)
        elif isinstance(node, yaml.SequenceNode):
            for index, value in enumerate(node.value):
                self._walk(value, (*path, index))

    def line(self, path: Path) -> int:
        """Return the line of ``path``, or of its nearest ancestor that is in the document."""
        while path not in self.lines:
            path = path[:-1]
        return self.lines[path]


def parse_yaml(text: str) -> tuple[Any, LineMap]:
    """Parse a YAML document with ``safe_load``'s types.

    Returns:
        The document and its :class:`LineMap`.

    Raises:
        SpaceError: not YAML, a key stands twice, or tags that safe_load refuses; with the line.
    """
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        lines = LineMap(root)
        return yaml.safe_load(text), lines
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark is not None else None
        raise SpaceError(f"not YAML: {error.problem or error.context}", line=line) from error
    except yaml.YAMLError as error:
        raise SpaceError(f"not YAML: {error}") from error
