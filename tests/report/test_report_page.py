"""The report's page: it escapes, fetches nothing, stays small, and can be read in every state of a study."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from iimt_search.report.page import Part, data_uri, render, render_audit, templates, text, trials_and_budget
from iimt_search.report.record import StudyRecord
from iimt_search.report.sections import study_sections
from iimt_search.study.folder import StudyFolder
from iimt_search.study.search.sampling import quiet_optuna

np = pytest.importorskip("numpy")


class Page(HTMLParser):
    """What a page holds, scripts and styles apart."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.tags: list[str] = []
        self.loads: list[str] = []
        self.links: list[str] = []
        self.texts: list[str] = []
        self.labels: list[str] = []
        self._within = ""
        self.feed(content)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._within = tag
        self.tags.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            elif name in ("src", "data", "srcset", "action") or (name == "href" and tag == "link"):
                self.loads.append(value or "")
            elif name == "href":
                self.links.append(value or "")
            elif name == "aria-label":
                self.labels.append(value or "")
            assert not name.startswith("on"), f"an event handler: {name}"

    def handle_data(self, data: str) -> None:
        if self._within not in ("script", "style"):
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(self.texts)


@pytest.fixture(autouse=True)
def _quiet() -> None:
    quiet_optuna()


def page_of(tmp_path: Path, *records: StudyRecord) -> str:
    folder = StudyFolder(tmp_path / "digits")
    parts = [Part(record, study_sections(record, folder)) for record in records]
    return render(parts, "studies/digits/", "Not running")


def test_the_answer_comes_first_with_its_reasons_flags_and_command(study, tmp_path: Path) -> None:
    record = study()
    found = Page(page_of(tmp_path, record)).text
    places = [
        found.index(part)
        for part in (
            "The answer",
            f"Trial {record.choice.trial}",
            "Best mean composite of 3 candidates",
            "leads source-only by",
            "κ = 0.80",
            "k = 4 is at the upper bound",
            "iimt-search best --study digits --export",
            "Objective of every trial",
        )
    ]
    assert places == sorted(places)


def test_a_fork_tells_what_lambda_max_was_before(study, tmp_path: Path) -> None:
    record = study()
    steps = int(trials_and_budget(record).split("; ")[1].split()[0])
    params = {**record.choice.params, "lambda_schedule": [[0.6, 0.25]]}
    trials = tuple(
        replace(t, params=params, forked_at=min(t.curve)) if t.number == record.choice.trial else t
        for t in record.trials
    )
    found = replace(record, trials=trials, choice=replace(record.choice, params=params))
    assert "lambda_schedule 0.25 until 60%" in Page(page_of(tmp_path, found)).text
    (forked,) = [trial for trial in trials if trial.forked_at]
    # What its donor has trained is counted there.
    assert (
        int(trials_and_budget(found).split("; ")[1].split()[0])
        == steps - len(record.tasks) * forked.forked_at
    )


def test_every_figure_has_a_caption_numbers_and_a_name(study, tmp_path: Path) -> None:
    page = Page(page_of(tmp_path, study(audited=True)))
    count = page.tags.count("figure")
    assert count >= 12
    assert page.tags.count("figcaption") == count and page.tags.count("details") >= count
    assert len(page.ids) == len(set(page.ids))
    assert {link.removeprefix("#") for link in page.links} <= set(page.ids)
    for name in ("progress", "learning-curves", "importance", "contour", "accuracies", "oracle-gaps"):
        assert name in page.ids


def test_it_fetches_nothing(study, tmp_path: Path) -> None:
    content = page_of(tmp_path, study(audited=True))
    page = Page(content)
    assert all(each.startswith("data:") for each in page.loads) and all(e.startswith("#") for e in page.links)
    assert "default-src 'none'" in content
    own = re.sub(
        r"<script>.*?</script>", "", content, flags=re.S
    )  # plotly's own names URLs that it may not fetch
    assert "http://" not in own and "https://" not in own and "@import" not in own


EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&"


def test_what_users_wrote_is_escaped_everywhere(study, tmp_path: Path) -> None:
    record = study(audited=True)
    trials = tuple(
        replace(t, veto=EVIL if t.veto else "", error=EVIL if t.error else "") for t in record.trials
    )
    choice = replace(record.choice, reason=EVIL, caveats=(EVIL,), vetoed={"trial-1": EVIL})
    data = {EVIL: "f" * 64}
    content = page_of(tmp_path, replace(record, trials=trials, choice=choice, data=data))
    page = Page(content)
    before = Page(page_of(tmp_path, record))
    assert page.tags.count("script") == before.tags.count("script") and "img" not in page.tags
    assert page.text.count("onerror=alert(2)") >= 5  # as text
    assert EVIL not in content and "<img src=x" not in content


def test_the_audit_s_page_escapes_too() -> None:
    row = {
        "source_only": 50.0,
        "default": None,
        "single": 60.0,
        "oracle": 70.0,
        "ceiling": None,
        "test_samples": 9,
    }
    row |= {"choice": {"target_accuracy": 65.0, "oracle_gap": 5.0}}
    row |= {"validators": {EVIL: {"oracle_gap": 1.0, "spearman": None}}}
    content = render_audit({"study": EVIL, "tasks": {f"{EVIL}->b": row}})
    page = Page(content)
    assert EVIL not in content and "img" not in page.tags and page.text.count("onerror=alert(2)") >= 3
    assert page.tags.count("figure") == 2 and {"accuracies", "oracle-gaps"} <= set(page.ids)
    assert "default-src 'none'" in content and page.loads == []


def test_pieces() -> None:
    assert text("`a<b` & c") == "<code>a&lt;b</code> &amp; c" and text("a ` b") == "a ` b"
    bullets = templates().get_template("macros.html").module.bullets
    assert bullets([]).strip() == "" and bullets(["<"]).strip() == '<ul class=""><li>&lt;</li></ul>'
    in_script = templates().from_string("{{ content|tojson }}")
    assert "<" not in in_script.render(content={"a": "</script>"})
    assert "\\u003c/script\\u003e" in in_script.render(content=["</script>"])


def test_thumbnails_are_small() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (3, 224, 224), dtype=np.uint8)
    assert data_uri(noise).startswith("data:image/jpeg;base64,") and len(data_uri(noise)) < 25_000
    assert data_uri(np.zeros((1, 8, 8), dtype=np.uint8)).startswith("data:image/png;base64,")


def test_200_trials_of_six_tasks_are_below_6_megabytes(study, tmp_path: Path) -> None:
    tasks = tuple(
        f"{a}->{b}"
        for a in ("digits", "digits-m", "syn-digits")
        for b in ("digits", "digits-m", "syn-digits")
        if a != b
    )
    content = page_of(tmp_path, study(trials=200, tasks=tasks, audited=True))
    assert len(content.encode()) < 6_000_000


def test_a_study_without_a_trial(study, tmp_path: Path) -> None:
    found = Page(page_of(tmp_path, study(trials=0))).text
    assert "No answer yet" in found and "Trials: none yet" in found
    for sentence in ("No trial has reported", "There are no learning curves", "Importance: too few trials"):
        assert sentence in found


def test_a_study_of_failed_trials(study, tmp_path: Path) -> None:
    record = study(trials=30)
    failed = tuple(
        replace(t, state="failed", value=None, curve={}, scores={}, error="boom") for t in record.trials
    )
    found = Page(page_of(tmp_path, replace(record, trials=failed, choice=None, fresh={}))).text
    assert "30 failed" in found and "No trial is complete that no veto meets." in found


@pytest.mark.parametrize("trials", [1, 2, 5])
def test_a_study_that_has_just_begun(study, tmp_path: Path, trials: int) -> None:
    found = Page(page_of(tmp_path, study(trials=trials, chosen=False))).text
    assert "best so far: trial" in found and "importance of the parameters" not in found.lower()


def test_no_confident_choice_says_so(study, tmp_path: Path) -> None:
    record = study()
    choice = replace(record.choice, answer="none", trial=None, params={}, reason="its seeds do not agree")
    found = Page(page_of(tmp_path, replace(record, choice=choice))).text
    assert "No confident choice; source-only is handed out" in found and "Its seeds do not agree" in found
    assert "Without adaptation: plain training on the source." in found


def test_an_audit_of_another_choice_is_not_taken_for_this_ones(study, tmp_path: Path) -> None:
    record = study(audited=True)
    assert "measured an earlier choice" not in Page(page_of(tmp_path, record)).text
    other = replace(record, choice=replace(record.choice, score=0.1, params={"k": 1}))
    assert "measured an earlier choice" in Page(page_of(tmp_path, other)).text


def test_each_task_of_a_per_task_study_has_a_part_of_its_own(study, tmp_path: Path) -> None:
    records = [
        study(tasks=(task,), seed=at) for at, task in enumerate(("digits->digits-m", "syn-digits->digits"))
    ]
    page = Page(page_of(tmp_path, *records))
    assert (
        "The answer for digits → digits-m" in page.text and "The answer for syn-digits → digits" in page.text
    )
    assert len(page.ids) == len(set(page.ids)) and "part-1-progress" in page.ids
    assert {link.removeprefix("#") for link in page.links} <= set(page.ids)
