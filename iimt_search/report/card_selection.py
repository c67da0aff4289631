"""The parts of a model card that say how the model was chosen, and how far the scores can be trusted."""

from collections.abc import Mapping
from typing import Any

from iimt_search.report.card_markdown import table, text
from iimt_search.study.choice import Candidate, Choice
from iimt_search.validators.registry import VALIDATORS


def _candidate(candidate: Candidate, chosen: str) -> tuple[str, ...]:
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
    found += table(titles, [_candidate(each, choice.candidate) for each in choice.candidates])
    if choice.answer == "none":
        found += "\nThere was **no confident choice**: this is the model without adaptation, as the safest.\n"
    if choice.vetoed:
        out = "; ".join(f"{text(trial)}: {text(why)}" for trial, why in choice.vetoed.items())
        found += f"\nOut before any ranking, by a veto: {out}.\n"
    found += "".join(f"\nNote: {text(flag)}.\n" for flag in choice.flags)
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
