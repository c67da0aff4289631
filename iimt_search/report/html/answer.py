"""The answer: what was chosen, how sure that is, what it scores, and how to take it along."""

from statistics import fmean, stdev

from iimt_search.records import Candidate, Choice
from iimt_search.report.figures.drawing import Table, arrow, number
from iimt_search.report.html.elements import items, pairs, table, text
from iimt_search.report.record import StudyRecord
from iimt_search.settings import shown_value
from iimt_search.study.scope import SOURCE_ONLY_KEY
from iimt_search.study.search.trial_record import OUTCOMES
from iimt_search.study.selection.decide import LEAST_AGREEMENT


def _mine(choice: Choice) -> Candidate | None:
    return next((each for each in choice.candidates if each.name == choice.candidate), None)


def _lead(choice: Choice, mine: Candidate, sign: int) -> str:
    """Return by how much what is handed out leads source-only with fresh seeds, or ""."""
    other = next((each for each in choice.candidates if each.name == SOURCE_ONLY_KEY), None)
    if other is None or other is mine or len(other.scores) != len(mine.scores):
        return ""
    leads = [sign * (a - b) for a, b in zip(mine.scores, other.scores, strict=True)]
    error = f" ± {stdev(leads) / len(leads) ** 0.5:.4f}" if len(leads) > 1 else ", one seed only"
    return f"It leads source-only by {fmean(leads):.4f}{error} of `{choice.objective}`, with fresh seeds."


def confidence(record: StudyRecord, choice: Choice) -> list[str]:
    """Return what speaks for the choice and against it, a sentence each."""
    found, mine = [], _mine(choice)
    if mine is not None:
        found.append(_lead(choice, mine, record.sign))
        if mine.agreement is not None:
            low = " (low)" if mine.agreement < LEAST_AGREEMENT else ""
            found.append(
                f"Its trainings with other seeds agree on the target by κ = {mine.agreement:z.2f}{low}; "
                f"1 is always, 0 no more than by chance."
            )
        if mine.veto:
            found.append(f"It was vetoed itself: {mine.veto}")
    for task, each in choice.few_shot.items():
        found.append(
            f"{arrow(task)}: {each['accuracy']:.1%} of the {each['samples']:.0f} labelled target samples "
            "that you "
            f"gave are right, 95 % interval {each['low']:.1%} to {each['high']:.1%}."
        )
    if choice.vetoed:
        left = len(choice.vetoed)
        told = "1 complete trial was" if left == 1 else f"{left} complete trials were"
        found.append(f"{told} left out by a veto, whatever the scores.")
    if record.audit is None:
        found.append("No target label was read: label-free scores can be wrong together.")
    elif choice.digest not in record.audit.digests:
        found.append("The audit below measured an earlier choice, not this one.")
    return [each for each in found if each]


def _headline(record: StudyRecord) -> tuple[str, str, str]:
    """Return the answer in a few words, why, and its kind: ``good``, ``doubt`` or ``open``."""
    choice = record.choice
    if choice is None:
        best = record.ranked[0] if record.ranked else None
        if best is None:
            return "No answer yet", "No trial is complete that no veto meets.", "open"
        return (
            f"No answer yet; best so far: trial {best.number}",
            f"{record.objective} {number(best.value)} in the search. The best few are run again with "
            "fresh seeds "
            "before one is named.",
            "open",
        )
    if choice.answer == "none":
        return "No confident choice; " + choice.candidate + " is handed out", choice.reason, "doubt"
    if choice.answer == "source-only":
        return "Source-only: the model without adaptation", choice.reason, "open"
    return f"Trial {choice.trial}", choice.reason, "good"


def _configuration(record: StudyRecord) -> str:
    trial = next((each for each in record.trials if each.name == record.shown), None)
    if trial is None and record.choice is None:
        return ""
    if trial is None:
        return "<p>Without adaptation: plain training on the source.</p>"
    default = record.default
    was = {} if default is None or default is trial else default.params
    return pairs(
        [
            (name, shown_value(value) + (f" (default {shown_value(was[name])})" if name in was else ""))
            for name, value in trial.params.items()
        ]
    )


def _scores(choice: Choice) -> str:
    names = list(next(iter(choice.scores.values()), {}))
    tasks = list(choice.scores)
    rows = tuple((name, *(number(choice.scores[task].get(name)) for task in tasks)) for name in names)
    title = "Label-free scores, mean over the fresh seeds"
    return f"<h3>{title}</h3>" + table(Table(("validator", *map(arrow, tasks)), rows), title)


def _candidates(choice: Choice) -> str:
    rows = []
    for each in choice.candidates:
        seeds = " ".join(f"{score:.4f}" for score in each.scores)
        rows.append((each.name, number(each.mean), seeds, number(each.agreement, ".2f"), each.veto))
    head = ("candidate", f"{choice.objective}, mean", "each seed", "agreement κ", "veto")
    title = "Candidates, run again with fresh seeds"
    return f"<h3>{title}</h3>" + table(Table(head, tuple(rows)), title)


def standing(record: StudyRecord) -> str:
    """Return how many trials there are of each outcome, and the budget, in a sentence."""
    counts = {name: sum(trial.outcome == name for trial in record.trials) for name in OUTCOMES}
    told = ", ".join(f"{count} {name}" for name, count in counts.items() if count) or "none yet"
    budget = record.space.budget
    limits = [f"{budget.trials} trials"] if budget.trials else []
    limits += [f"{budget.steps} training steps"] if budget.steps else []
    limits += [f"{budget.timeout:g} s a run"] if budget.timeout else []
    steps = sum(max(t.curve, default=t.forked_at) - t.forked_at for t in record.trials) * len(record.tasks)
    return (
        f"Trials: {told}. Budget: {' or '.join(limits)}; {steps} training steps of trials so "
        "far, all tasks together."
    )


def answer(record: StudyRecord, study: str) -> str:
    """Return the answer of one Optuna study as HTML.

    Args:
        record: it.
        study: our study's name, for the commands.
    """
    choice = record.choice
    title, why, kind = _headline(record)
    why = why[:1].upper() + why[1:]
    found = [f'<div class="answer {kind}"><p class="title">{text(title)}</p><p>{text(why)}</p>']
    found.append(_configuration(record))
    if choice is not None:
        found.append(items(confidence(record, choice)))
        if choice.caveats:
            found.append("<h3>Know before trusting it</h3>" + items(choice.caveats, "caveats"))
        command = f"iimt-search best --study {study} --export"
        found.append(f"<p>Take the trained models along: <code>{text(command)}</code></p>")
    else:
        command = "iimt-search run --space FILE"
        found.append(f"<p>The same <code>{command}</code> carries the study on to its choice.</p>")
    found.append("</div>")
    found.append(f"<p>{text(standing(record))}</p>")
    if choice is not None:
        found += [_candidates(choice), _scores(choice)]
    return "".join(found)
