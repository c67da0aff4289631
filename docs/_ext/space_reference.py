"""Writes what the documents say of the space file from its schema: ``python docs/_ext/space_reference.py``.

``docs/space-reference.md`` is written whole; in ``docs/space-file.md`` the table of training settings.
``tests/test_docs.py`` checks that both are what is written here.
"""

import json
import re
from inspect import getdoc
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from iimt_search.settings import TrainSettings
from iimt_search.space.schema import (
    Budget,
    Choices,
    ConfirmSettings,
    CostSettings,
    KeepSettings,
    NumberRange,
    PrunerSettings,
    ReferenceSettings,
    Resources,
    RetrainSettings,
    SamplerSettings,
    Space,
)
from iimt_search.space.task_spec import DomainSpec, TaskPairs, TaskSpec

DOCS = Path(__file__).parents[1]
TRAINING_TABLE = re.compile(r"(?<=\n\n)\| setting \| default \|.*\n(?:\|.*\n)+")
SECTIONS: dict[str, type[BaseModel]] = {
    "A task": TaskSpec,
    "Tasks of pairs": TaskPairs,
    "A domain": DomainSpec,
    "A searched range": NumberRange,
    "Searched choices": Choices,
    "budget": Budget,
    "cost": CostSettings,
    "reference": ReferenceSettings,
    "sampler": SamplerSettings,
    "pruner": PrunerSettings,
    "confirm": ConfirmSettings,
    "retrain": RetrainSettings,
    "keep": KeepSettings,
    "resources": Resources,
}
_BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
_KINDS = {"integer": "integer", "number": "number", "string": "text", "boolean": "true, false"}
_LINKS = {
    model.__name__: f"[{title}](#{title.lower().replace(' ', '-')})" for title, model in SECTIONS.items()
}
_LINKS["TrainSettings"] = "[training settings](space-file.md#training-settings)"
# What a validator of the schema fills in.
_FILLED_IN = {
    (TaskSpec, "name"): "`source->target`",
    (Space, "search"): "the method's four parameters, as far as they mean something",
}


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else f"{value:g}"


def _bounds(found: dict[str, Any]) -> str:
    return ", ".join(f"{sign} {_number(found[key])}" for key, sign in _BOUNDS.items() if key in found)


def _one_of(found: dict[str, Any]) -> str:
    return ", ".join(f"`{value}`" for value in found["enum"])


def _value(found: dict[str, Any]) -> str:
    """Return in words what a key of the JSON schema takes."""
    if "$ref" in found:
        name = found["$ref"].rpartition("/")[2]
        return _LINKS[name]
    if "anyOf" in found or "oneOf" in found:
        parts = [_value(part) for part in found.get("anyOf", found.get("oneOf"))]
        if {"integer", "number", "text"} <= set(parts):
            return "value"
        return " or ".join(dict.fromkeys(part for part in parts if part))
    if "const" in found:
        return f"`{found['const']}`"
    if "enum" in found:
        return _one_of(found)
    if found.get("type") == "array":
        return f"list: {_value(found['items'])}"
    if found.get("type") == "object":
        return f"name → {_value(found['additionalProperties'])}"
    if found.get("type") == "null":
        return ""
    return f"{_KINDS[found['type']]} {_bounds(found)}".strip()


def _default(model: type[BaseModel], name: str) -> str:
    field = model.model_fields[name]
    if (model, name) in _FILLED_IN:
        return _FILLED_IN[model, name]
    if field.is_required():
        return "required"
    default = field.get_default(call_default_factory=True)
    if isinstance(default, BaseModel):
        return "its defaults"
    if default is None or default in ((), {}):
        return "–"
    return f"`{json.dumps(default, default=str)}`"


def _meanings(model: type[BaseModel]) -> dict[str, str]:
    """Return what the class's docstring says of each attribute, as Markdown on one line."""
    text = (getdoc(model) or "").partition("\nAttributes:\n")[2]
    entries = re.findall(r"^    (\w+): (.+(?:\n {8}.*)*)", text, re.MULTILINE)
    return {name: _markdown(" ".join(words.split())) for name, words in entries}


def _markdown(text: str) -> str:
    return re.sub(r":\w+:`~?([\w.]+)`", r"`\1`", text).replace("``", "`").replace("|", r"\|")


def training_table() -> str:
    """Return the Markdown table of the training settings."""
    lines = ["| setting | default | range | meaning |", "|---|---|---|---|"]
    schema = TrainSettings.model_json_schema()["properties"]
    for name, field in TrainSettings.model_fields.items():
        found = schema[name]
        default = str(field.default).lower() if isinstance(field.default, bool) else str(field.default)
        pairs = "pairs of a share in (0, 1) and a number ≥ 0" if found.get("type") == "array" else ""
        allowed = _one_of(found) if "enum" in found else pairs or _bounds(found) or "true, false"
        lines.append(f"| `{name}` | {default} | {allowed} | {field.description} |")
    return "\n".join(lines) + "\n"


def _table(model: type[BaseModel]) -> list[str]:
    meanings, schema = _meanings(model), model.model_json_schema()["properties"]
    lines = ["| key | value | default | meaning |", "|---|---|---|---|"]
    for name in model.model_fields:
        row = (f"`{name}`", _value(schema[name]), _default(model, name), meanings.get(name, "–"))
        lines.append(f"| {' | '.join(row)} |")
    return lines


def _whole_file() -> list[str]:
    schema, lines = Space.model_json_schema()["properties"], ["| key | value | default |", "|---|---|---|"]
    for name, field in Space.model_fields.items():
        key = field.alias or name
        found = schema[key]
        if key == "search":
            found = {"anyOf": [{"$ref": "NumberRange"}, {"$ref": "Choices"}]}
        value = f"setting → {_value(found)}" if key == "search" else _value(found)
        lines.append(f"| `{key}` | {value} | {_default(Space, name)} |")
    return lines


def reference() -> str:
    """Return the whole page."""
    lines = [
        "# Space file reference",
        "",
        "Every key of a [space file](space-file.md), written from the schema by",
        "`python docs/_ext/space_reference.py`. Numbers may be written as `3e-3`; a `sampler`, `pruner` or",
        "`cost` may be its name alone, a domain its name alone, a task `source->target`.",
        "",
        "## The whole file",
        "",
        *_whole_file(),
    ]
    for title, model in SECTIONS.items():
        summary = (getdoc(model) or "").partition("\n\n")[0]
        lines += ["", f"## {title}", "", _markdown(summary), "", *_table(model)]
    return "\n".join(lines) + "\n"


def space_file(text: str) -> str:
    """Return the text of ``space-file.md`` with its table of training settings written anew.

    Raises:
        ValueError: the text has no such table.
    """
    changed, count = TRAINING_TABLE.subn(lambda _: training_table(), text)
    if count != 1:
        raise ValueError(f"space-file.md needs one table of settings, found {count}")
    return changed


def main() -> None:
    """Write both files."""
    (DOCS / "space-reference.md").write_text(reference(), encoding="utf-8")
    path = DOCS / "space-file.md"
    path.write_text(space_file(path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
