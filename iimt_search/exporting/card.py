"""Model cards: what a model is, what it learned from, how it was chosen, and what is not known of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from iimt_search.exporting.formats import FORMATS
from iimt_search.methods import method_title
from iimt_search.plain_text import markdown
from iimt_search.records import Choice
from iimt_search.settings import TrainSettings, shown_value, with_new_names
from iimt_search.space import Space
from iimt_search.space.task_spec import DomainSpec
from iimt_search.task_name import slug
from iimt_search.validators.registry import VALIDATORS

CARD = "MODEL_CARD.md"
# What tells a card of ours from a file that somebody else wrote.
MARK = "library_name: iimt-search"
UNKNOWN_ACCURACY = "No accuracy on the target is known: nothing was measured with target labels."


@dataclass(frozen=True)
class Provenance:
    """How a study came to a model.

    Attributes:
        choice: what it chose.
        space: what it searched.
        audit: task → what an audit measured of this choice; None where it has not been audited.
    """

    choice: Choice
    space: Space
    audit: Mapping[str, Mapping[str, Any]] | None


def _domain(spec: DomainSpec) -> str:
    # By name, not by path: where somebody keeps their files is nobody else's business.
    what = {"arrays": ", arrays", "python": ", by a function"} | dict.fromkeys(("folder", "list"), ", images")
    return markdown(spec.label) + what.get(spec.way, "")


def audited_accuracy(metadata: Mapping[str, Any], provenance: Provenance | None) -> float | None:
    """Return the audited target accuracy of an exported model in percent, None where none is known."""
    row = (provenance.audit or {}).get(metadata["task"]) if provenance else None
    if row is None or provenance is None:
        return None
    alone = not metadata["others"] and len(provenance.choice.members.get(metadata["task"], ())) > 1
    return float(row["single"] if alone else row["choice"]["target_accuracy"])


# Markdown is escaped by the filter ``text``; HTML's escaping is another.
_TEMPLATES = Environment(
    loader=PackageLoader("iimt_search.exporting"),
    undefined=StrictUndefined,
    trim_blocks=True,
    keep_trailing_newline=True,
)
_TEMPLATES.filters.update(text=markdown, slug=slug, places=lambda value, count: f"{value:.{count}f}")
_TEMPLATES.globals.update(
    VALIDATORS=VALIDATORS, FORMATS=FORMATS, CARD=CARD, MARK=MARK, UNKNOWN_ACCURACY=UNKNOWN_ACCURACY
)


def model_card(metadata: Mapping[str, Any], provenance: Provenance | None) -> str:
    """Return the card of one exported model, as Markdown.

    Args:
        metadata: the content of its ``model.json``.
        provenance: the study that chose it; None for a checkpoint that no study chose.
    """
    task, settings = metadata["task"], metadata["hyperparameters"]
    source, target = (markdown(name) for name in (task.split("->")[0], task.split("->")[-1]))
    choice, audit = (provenance.choice, provenance.audit) if provenance else (None, None)
    for spec in provenance.space.tasks if provenance else ():
        if spec.name == task:
            source, target = ", ".join(map(_domain, spec.source)), _domain(spec.target)
    searched = choice.params if choice else {}
    defaults = TrainSettings().model_dump(mode="json")
    named = defaults | with_new_names(settings)  # another version may have known fewer
    fixed = {name: value for name, value in settings.items() if value != defaults.get(name)}
    rows = [(name, shown_value(settings[name]), "searched") for name in searched]
    rows += [(name, shown_value(value), "fixed") for name, value in fixed.items() if name not in searched]
    return _TEMPLATES.get_template("model_card.md.j2").render(
        metadata=metadata,
        choice=choice,
        source=source,
        target=target,
        samples=metadata.get("samples", {}),
        data_fraction=named["data_fraction"],
        settings=rows,
        steps=named["steps"],
        method=method_title(named),
        accuracy=audited_accuracy(metadata, provenance),
        audit=(audit or {}).get(task),
        few_shot=choice.few_shot.get(task) if choice else None,
    )


def folder_card(models: Sequence[tuple[Mapping[str, Any], Provenance]]) -> str:
    """Return the card of a folder that holds one exported model for each task.

    Args:
        models: the content of each ``model.json``, and how the study came to it.
    """
    rows = [(metadata, each.choice, audited_accuracy(metadata, each)) for metadata, each in models]
    study = models[0][1].choice.study
    return _TEMPLATES.get_template("folder_card.md.j2").render(study=study, models=rows)
