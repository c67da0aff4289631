"""The report as one page that fetches nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from string import Template

from plotly.offline import get_plotlyjs

from iimt_search.report.figures.drawing import arrow
from iimt_search.report.html.answer import answer
from iimt_search.report.html.elements import figure, image_grid, items, text
from iimt_search.report.html.provenance import provenance
from iimt_search.report.html.style import CSS, SCRIPT
from iimt_search.report.record import StudyRecord
from iimt_search.report.sections import Section

_PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; script-src 'unsafe-inline';
 style-src 'unsafe-inline'; img-src data: blob:">
<link rel="icon" href="data:,">
<title>$title</title>
<style>$css</style>
</head>
<body>
<a class="skip" href="#main">Skip to the answer</a>
<header>
<h1>$title</h1>
<p class="faint">$state</p>
<nav aria-label="Parts of this report"><ul>$nav</ul></nav>
</header>
<main id="main">
$content
<section id="provenance"><h2>Provenance</h2>$provenance</section>
</main>
<footer>Written by iimt-search. The figures answer to pointing and to clicks on their legends; each has its
numbers as a table below.</footer>
<noscript><p>The figures need JavaScript, which is within this page; the tables do not.</p></noscript>
<script>$plotly</script>
<script>$script</script>
</body>
</html>
""")


@dataclass(frozen=True)
class Part:
    """One Optuna study with its sections.

    Attributes:
        record: the study.
        sections: its figures.
    """

    record: StudyRecord
    sections: Sequence[Section]


def _section(section: Section, prefix: str) -> str:
    drawings = "".join(figure(drawing, prefix) for drawing in section.drawings)
    grids = "".join(image_grid(grid) for grid in section.grids)
    return (
        f'<section id="{escape(prefix + section.name)}"><h2>{text(section.title)}</h2>'
        + (f'<div class="figures">{grids}{drawings}</div>' if drawings or grids else "")
        + items(section.absent, "faint")
        + "</section>"
    )


def _part(part: Part, study: str, prefix: str, several: bool) -> str:
    tasks = ", ".join(arrow(task.name) for task in part.record.tasks)
    title = f"The answer for {tasks}" if several else "The answer"
    return (
        f'<section id="{prefix}answer"><h2>{text(title)}</h2>{answer(part.record, study)}</section>'
        + "".join(_section(section, prefix) for section in part.sections)
    )


def _nav(parts: Sequence[Part]) -> str:
    links = []
    for at, part in enumerate(parts):
        several = len(parts) > 1
        prefix = f"part-{at}-" if several else ""
        name = arrow(part.record.tasks[0].name) if several else "Answer"
        links.append((f"{prefix}answer", name))
        if not several:
            links += [(section.name, section.title) for section in part.sections]
    links.append(("provenance", "Provenance"))
    return "".join(f'<li><a href="#{escape(target)}">{text(name)}</a></li>' for target, name in links)


def render(parts: Sequence[Part], place: str, state: str, written: datetime | None = None) -> str:
    """Return the page.

    Args:
        parts: one, or one for each task.
        place: where the study lies, for people.
        state: whether it runs now, for people.
        written: when, by default now.
    """
    study = parts[0].record.space.study
    several = len(parts) > 1
    at = (written or datetime.now(UTC)).isoformat(timespec="seconds")
    return _PAGE.substitute(
        title=text(f"Study {study}"),
        css=CSS,
        state=text(
            f"{state}. Written {at}. Tasks: "
            f"{', '.join(arrow(t.name) for p in parts for t in p.record.tasks)}."
        ),
        nav=_nav(parts),
        content="".join(
            _part(p, study, f"part-{i}-" if several else "", several) for i, p in enumerate(parts)
        ),
        provenance=provenance([part.record for part in parts], place, at),
        plotly=get_plotlyjs(),
        script=SCRIPT,
    )
