"""Model cards: what a model is, what it learned from, how it was chosen, and what is not known of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from iimt_search.exporting.formats import FORMATS
from iimt_search.methods import method_title
from iimt_search.records import Candidate, Choice
from iimt_search.settings import TrainSettings, shown_value, with_new_names
from iimt_search.space import Space
from iimt_search.space.task_spec import DomainSpec, TaskSpec
from iimt_search.task_name import slug
from iimt_search.validators.registry import VALIDATORS


def text(value: object) -> str:
    """Return a value as Markdown text that cannot be taken for markup."""
    escaped = str(value).replace("&", "&amp;").replace("<", "&lt;").replace("\\", "\\\\")
    for sign in "|`*[]":
        escaped = escaped.replace(sign, f"\\{sign}")
    return " ".join(escaped.split())


def table(titles: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a Markdown table; the cells are Markdown."""
    lines = [titles, ["---"] * len(titles), *rows]
    return "".join(f"| {' | '.join(map(str, line))} |\n" for line in lines)


def number(value: object) -> str:
    """Return a setting's value, a number with four digits."""
    return text(shown_value(value))


def _candidate_row(candidate: Candidate, chosen: str) -> tuple[str, ...]:
    name = f"**{candidate.name}**" if candidate.name == chosen else candidate.name
    agreement = "" if candidate.agreement is None else f"{candidate.agreement:.2f}"
    seeds = ", ".join(f"{score:.4f}" for score in candidate.scores)
    return name, f"{candidate.mean:.4f}", seeds, agreement, text(candidate.veto)


def selection_section(choice: Choice | None) -> str:
    """Return why this model, and against what; None where no study chose it."""
    if choice is None:
        return (
            "## Selection\n\nTaken from the checkpoints of a study by a label-free score, without any target "
            "label. It is not what the study itself chose.\n"
        )
    objective = VALIDATORS[choice.objective]
    better = "higher" if objective.higher_is_better else "lower"
    labels = "No target label took part" if not choice.few_shot else "Few-shot target labels were given"
    found = (
        f"## Selection\n\nStudy `{choice.study}`: **{text(choice.title)}**, {text(choice.reason)}. {labels}. "
        f"The objective was `{choice.objective}` ({objective.unit}, {better} is better), averaged over "
        f"{', '.join(map(text, choice.tasks))} and over fresh seeds:\n\n"
    )
    titles = ("candidate", "mean", "each fresh seed", "agreement of the seeds, κ", "veto")
    found += table(titles, [_candidate_row(each, choice.candidate) for each in choice.candidates])
    if choice.answer == "none":
        found += "\nThere was **no confident choice**: this is the model without adaptation, as the safest.\n"
    if choice.vetoed:
        out = "; ".join(f"{text(trial)}: {text(why)}" for trial, why in choice.vetoed.items())
        found += f"\nOut before any ranking, by a veto: {out}.\n"
    found += "".join(f"\nNote: {text(caveat)}.\n" for caveat in choice.caveats)
    return found


def proxies_section(metadata: Mapping[str, Any]) -> str:
    """Return the label-free scores of an exported model, and how each is known to fail."""
    rows = []
    for name, score in metadata["scores"].items():
        validator = VALIDATORS.get(name)
        if validator is None:  # written by another version
            rows.append((f"`{name}`", f"{score:.4f}", "", "", ""))
            continue
        better = "higher" if validator.higher_is_better else "lower"
        fails = validator.failure + (f"; IIMT trains it: {validator.trained}" if validator.trained else "")
        rows.append((f"`{name}`", f"{score:.4f}", validator.unit, better, fails))
    first = " of the first member" if metadata["others"] else ""
    return (
        f"## Proxies, and how they fail\n\nLabel-free scores{first} at the end of its training. They are not "
        f"accuracies on the target, and each is known to fail:\n\n"
        + table(("validator", "score", "range", "better", "known failure"), rows)
    )


_INPUT = {
    "image": "images in RGB, uint8 {shape}, values 0 to 255; normalisation is part of the model. The package "
    "cuts images of any size to their middle square and resizes them (bicubic, antialiased); {formats}",
    "series": "time series, float32 {shape}, as measured; normalisation is part of the model{formats}",
    "vector": "vectors, float32 {shape}, as measured; normalisation is part of the model{formats}",
}
_AXES = {
    "image": "(B, channels, height, width)",
    "series": "(B, channels, length)",
    "vector": "(B, features)",
}
_FILE = {"image": "photo.png", "series": "series.npy", "vector": "vectors.npy"}

_PACKAGE = """
With the package (`pip install iimt-search`):

```python
import torch
import iimt_search

model = iimt_search.load_model(".")  # this folder
samples = torch.zeros({shape}, dtype=torch.{dtype})  # yours
probabilities = model(samples).softmax(dim=1)
print(model.classes[int(probabilities[0].argmax())])
```

    iimt-search predict . {file} --output predictions.csv
"""

_TORCH_EXPORT = """
`model.pt2`, with PyTorch alone:

```python
import json
import torch

about = {{"model.json": ""}}
model = torch.export.load("model.pt2", extra_files=about).module()
classes = json.loads(about["model.json"])["classes"]
logits = model(torch.zeros({shape}, dtype=torch.{dtype}))
print(classes[int(logits[0].argmax())])
```
"""

_ONNX = """
`model.onnx`, with ONNX Runtime alone:

```python
import json
import numpy
import onnxruntime

session = onnxruntime.InferenceSession("model.onnx")
classes = json.loads(session.get_modelmeta().custom_metadata_map["model.json"])["classes"]
(logits,) = session.run(["logits"], {{"samples": numpy.zeros({shape}, numpy.{dtype})}})
print(classes[int(logits[0].argmax())])
```
"""
_CODE = {"torch-export": _TORCH_EXPORT, "onnx": _ONNX}


def _check(format_name: str, found: Mapping[str, Any]) -> str:
    samples = " and ".join(f"{count} {kind}" for kind, count in found["samples"].items() if count)
    return (
        f"\n`{FORMATS[format_name].file}` was read back and compared with `model.safetensors` on {samples} "
        f"samples: the greatest difference of a logit was {found['difference']:.1g}.\n"
    )


def use_section(metadata: Mapping[str, Any]) -> str:
    """Return how to load and call an exported model, as Markdown.

    Args:
        metadata: the content of its ``model.json``.
    """
    kind, sample_shape = metadata["preprocessing"]["kind"], metadata["preprocessing"]["sample_shape"]
    formats: Mapping[str, Any] = metadata.get("formats", {})
    shape = f"({', '.join(map(str, [1, *sample_shape]))})"
    dtype = "uint8" if kind == "image" else "float32"
    exact = "the other formats take this size only" if kind == "image" else ""
    text = "## How to use it\n\n- Input: " + _INPUT[kind].format(
        shape=f"{_AXES[kind]} = (B, {shape[4:]}", formats=exact
    )
    text += (
        f".\n- Output: logits float32 (B, {len(metadata['classes'])}), in the order of the classes; their "
        f"softmax is the probabilities. B is free.\n"
    )
    text += _PACKAGE.format(shape=shape, dtype=dtype, file=_FILE[kind])
    for name, found in formats.items():
        text += _CODE[name].format(shape=shape, dtype=dtype) + _check(name, found)
    return text


CARD = "MODEL_CARD.md"
# What tells a card of ours from a file that somebody else wrote.
MARK = "library_name: iimt-search"

UNKNOWN_ACCURACY = "No accuracy on the target is known: nothing was measured with target labels."
_HEAD = f"""---
{MARK}
tags: [unsupervised-domain-adaptation, classification]
---
"""
_LICENCE = """## Licence

iimt-search is under the MIT licence. The weights were learned from the data that is named, whose own
licences and terms apply to them; they are not known here.
"""


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
    way = next(way for way in ("named", "folder", "arrays", "python") if getattr(spec, way) is not None)
    what = {"named": "", "folder": ", images", "arrays": ", arrays", "python": ", by a function"}[way]
    return text(spec.label) + what


def _data(metadata: Mapping[str, Any], spec: TaskSpec | None) -> str:
    names = metadata["task"].split("->")
    source = ", ".join(map(_domain, spec.source)) if spec else text(names[0])
    target = _domain(spec.target) if spec else text(names[-1])
    samples = metadata.get("samples", {})
    rows = [
        ("source, labelled", source, "training", samples.get("source_train", "?")),
        ("source, labelled", source, "held out, for validators", samples.get("source_val", "?")),
        ("target, without labels", target, "adaptation, and validators", samples.get("target", "?")),
    ]
    fraction = with_new_names(metadata["hyperparameters"])["data_fraction"]
    return (
        "## Data\n\n"
        + table(("domain", "which", "for", "samples"), rows)
        + f"\nShare of the domains that was used: {fraction:.3g}. Fingerprint of classes, samples and split: "
        f"`{metadata['data_fingerprint']}`.\n"
    )


def _configuration(metadata: Mapping[str, Any], searched: Mapping[str, Any]) -> str:
    settings = metadata["hyperparameters"]
    defaults = TrainSettings().model_dump(mode="json")
    rows = [(f"`{name}`", number(settings[name]), "searched") for name in searched]
    rows += [
        (f"`{name}`", number(value), "fixed")
        for name, value in settings.items()
        if name not in searched and value != defaults.get(name)
    ]
    shown = table(("setting", "value", ""), rows) if rows else "The default configuration.\n"
    return f"## Configuration\n\n{shown}\nEvery other setting has its default; all are in `model.json`.\n"


def _training(metadata: Mapping[str, Any], members: Sequence[str]) -> str:
    count = 1 + len(metadata["others"])
    architecture, settings = metadata["architecture"], metadata["hyperparameters"]
    found = (
        f"## Training\n\n{method_title(with_new_names(settings))}; network "
        f"`{architecture['network']}` of width {architecture['width']}; {metadata['step']} of "
        f"{settings['steps']} steps, seed {metadata['seed']}.\n"
    )
    if count > 1:
        found += (
            f"\nAn ensemble of {count} models of one configuration that differ in their seeds; the "
            f"probabilities are the mean over all of them.\n"
        )
    if members:
        names = ", ".join(f"`{text(member)}`" for member in members[:count])
        found += f"\nTrainings of the study: {names}.\n"
    return found


def _few_shot(choice: Choice, task: str) -> str:
    found = choice.few_shot.get(task)
    if found is None:
        return ""
    return (
        f"\nOf {found['samples']:.0f} labelled target samples that were given to help the choice, "
        f"{found['accuracy']:.1%} are right (95 % interval {found['low']:.1%} to {found['high']:.1%}); they "
        f"may have taken part in it.\n"
    )


def audited_accuracy(metadata: Mapping[str, Any], story: Provenance | None) -> float | None:
    """Return the audited target accuracy of an exported model in percent, None where none is known."""
    row = (story.audit or {}).get(metadata["task"]) if story else None
    if row is None or story is None:
        return None
    alone = not metadata["others"] and len(story.choice.members.get(metadata["task"], ())) > 1
    return float(row["single"] if alone else row["choice"]["target_accuracy"])


def _accuracy(metadata: Mapping[str, Any], story: Provenance | None) -> str:
    found = audited_accuracy(metadata, story)
    few_shot = _few_shot(story.choice, metadata["task"]) if story else ""
    if found is None or story is None or story.audit is None:
        return f"## Accuracy on the target\n\n{UNKNOWN_ACCURACY}\n{few_shot}"
    row = story.audit[metadata["task"]]
    seen = "which training never saw" if row["unseen"] else "which training saw without their labels"
    titles = {
        "source_only": "without adaptation",
        "default": "the method's default configuration",
        "oracle": "the best model of the study",
        "ceiling": "trained on the target's labels",
    }
    rows = [("**this model**", f"**{found:.1f}**")]
    rows += [(title, f"{row[name]:.1f}") for name, title in titles.items() if row[name] is not None]
    return (
        f"## Accuracy on the target\n\nAudited after the choice on {row['test_samples']} labelled target "
        f"test samples, {seen}; percent:\n\n" + table(("model", "accuracy"), rows) + few_shot
    )


def model_card(metadata: Mapping[str, Any], story: Provenance | None) -> str:
    """Return the card of one exported model, as Markdown.

    Args:
        metadata: the content of its ``model.json``.
        story: the study that chose it; None for a checkpoint that no study chose.
    """
    task, classes = metadata["task"], metadata["classes"]
    spec = next((each for each in story.space.tasks if each.name == task), None) if story else None
    searched = story.choice.params if story else {}
    members = story.choice.members.get(task, ()) if story else ()
    versions = ", ".join(f"{name} {version}" for name, version in metadata["packages"].items())
    sections = [
        f"{_HEAD}\n# {text(task)}\n\nA classifier of {len(classes)} classes "
        f"({', '.join(map(text, classes))}) for the target domain of **{text(task)}**, trained with labels "
        f"of the source domain only.\n",
        "## Intended use\n\nSamples of the target domain, taken as those below were. The classifier knows "
        "the classes above and no other: whatever it is given becomes one of them. Its probabilities are not "
        "calibrated on the target. Without an audit its accuracy there is not known; measure it on labelled "
        "samples of your own before anything depends on it.\n",
        use_section(metadata),
        _data(metadata, spec),
        _configuration(metadata, searched),
        _training(metadata, members),
        selection_section(story.choice if story else None),
        proxies_section(metadata),
        _accuracy(metadata, story),
        _LICENCE,
        f"## Versions\n\n{versions}.\n",
    ]
    return "\n".join(sections)


def folder_card(models: Sequence[tuple[Mapping[str, Any], Provenance]]) -> str:
    """Return the card of a folder that holds one exported model for each task.

    Args:
        models: the content of each ``model.json``, and how the study came to it.
    """
    rows = []
    for metadata, story in models:
        accuracy, name = audited_accuracy(metadata, story), slug(metadata["task"])
        known = "not known" if accuracy is None else f"{accuracy:.1f} %"
        shown = f"[{text(metadata['task'])}]({name}/{CARD})"
        rows.append((shown, len(metadata["classes"]), text(story.choice.title), known))
    study = models[0][1].choice.study
    return (
        f"{_HEAD}\n# Models of study {study}\n\nOne classifier for each domain-adaptation task, trained with "
        f"labels of its source domain only and chosen without target labels. Each has a card of its own.\n\n"
        + table(("task", "classes", "chosen", "audited target accuracy"), rows)
        + f"\n{_LICENCE}"
    )
