"""The report and the Optuna dashboard in a real headless browser, of a finished study and of a live one."""

import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from optuna.trial import TrialState

from iimt_search.cli.main import cli
from iimt_search.dashboard.publish import publish
from iimt_search.errors import StudyError
from iimt_search.study.open import open_study

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium is installed"),
]
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
PATIENCE = 90


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield opened
        opened.close()


class Watched:
    """A page with what it asked for and complained of."""

    def __init__(self, browser: Any, width: int = 1280, scheme: str = "light") -> None:
        self.page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        self.page.set_default_timeout(1000 * PATIENCE)
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda m: m.type in ("error", "warning") and self.complaints.append(m.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))

    def count(self, selector: str) -> int:
        return int(self.page.locator(selector).count())


def write_report(studies: Path) -> Path:
    result = CliRunner().invoke(cli, ["report", "--studies-dir", str(studies)])
    assert result.exit_code == 0, result.output
    return studies / "tiny" / "report.html"


@pytest.fixture(scope="module")
def finished(tiny_studies: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tiny study, with its report and its figures in the dashboard."""
    studies = Path(shutil.copytree(tiny_studies, tmp_path_factory.mktemp("finished") / "s"))
    write_report(studies)
    return studies


def check_report(browser: Any, path: Path, width: int, scheme: str) -> None:
    """Every figure is drawn, nothing is fetched or complained of, nothing sticks out at the side."""
    watched = Watched(browser, width, scheme)
    watched.page.goto(path.as_uri())
    watched.page.wait_for_selector("html[data-drawn]")
    figures = watched.count("figure .plot")
    assert figures >= 5 and watched.page.locator("html").get_attribute("data-drawn") == str(figures)
    drawn = "places => places.filter(p => p.querySelector('svg.main-svg .cartesianlayer .mlayer > *')).length"
    assert watched.page.eval_on_selector_all("figure .plot", drawn) == figures
    assert watched.complaints == []
    assert [url for url in watched.requests if not url.startswith(("file://", "data:", "blob:"))] == []
    assert watched.page.evaluate("document.documentElement.scrollWidth") <= width
    background = watched.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(255, 255, 255)") == (scheme == "light")
    broken = "images => images.filter(i => i.naturalWidth === 0).length"
    assert watched.page.eval_on_selector_all("ul.images img", broken) == 0
    watched.page.close()


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_the_report_is_drawn_whole(browser: Any, finished: Path, width: int, scheme: str) -> None:
    check_report(browser, finished / "tiny" / "report.html", width, scheme)


def test_the_keyboard_reaches_the_answer_and_the_numbers(browser: Any, finished: Path) -> None:
    watched = Watched(browser)
    watched.page.goto((finished / "tiny" / "report.html").as_uri())
    watched.page.wait_for_selector("html[data-drawn]")
    watched.page.keyboard.press("Tab")
    assert watched.page.evaluate("document.activeElement.textContent") == "Skip to the answer"
    watched.page.keyboard.press("Enter")
    assert watched.page.url.endswith("#main")
    summary = watched.page.locator("figure summary").first
    table = watched.page.locator("figure details table").first
    assert not table.is_visible()
    summary.focus()
    watched.page.keyboard.press("Enter")
    assert table.is_visible()
    watched.page.close()


def test_light_and_dark_change_while_it_is_open(browser: Any, finished: Path) -> None:
    watched = Watched(browser)
    watched.page.goto((finished / "tiny" / "report.html").as_uri())
    watched.page.wait_for_selector("html[data-drawn]")
    colour = "getComputedStyle(document.querySelector('#progress .xtick text')).fill"
    light = watched.page.evaluate(colour)
    watched.page.emulate_media(color_scheme="dark")
    # Not wait_for_function: the page's own policy forbids what it does.
    wait_for(lambda: watched.page.evaluate(colour) != light, "the other colour")
    watched.page.close()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def wait_for(ready: Any, what: str) -> None:
    end = time.monotonic() + PATIENCE
    while not ready():
        assert time.monotonic() < end, f"{what} did not come within {PATIENCE} s"
        time.sleep(0.2)


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


@contextmanager
def dashboard(studies: Path) -> Iterator[str]:
    """Serve the dashboard on a study by our own verb; gives the study's page."""
    port = free_port()
    command = [
        sys.executable,
        "-m",
        "iimt_search",
        "dashboard",
        "--studies-dir",
        str(studies),
        "--port",
        str(port),
    ]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, **quiet) as process:  # type: ignore[call-overload]
        try:
            page = f"http://127.0.0.1:{port}/dashboard/studies/1"
            wait_for(lambda: answers(page), "the dashboard")
            yield page
        finally:
            process.terminate()


def test_the_dashboard_shows_figures_images_and_notes(browser: Any, finished: Path) -> None:
    assert publish(open_study(finished, "tiny")).startswith("dashboard: ")
    with dashboard(finished) as url:
        watched = Watched(browser)
        watched.page.goto(url)
        for title in ("What is handed out, against source-only", "Learning curves", "Every task and config"):
            watched.page.wait_for_selector(f".gtitle:has-text('{title}')")
        for name in ("samples-digits_to_digits-m.png", "samples-digits_to_syn-digits.png"):
            watched.page.wait_for_selector(f"text={name}")
        watched.page.wait_for_function(
            "Array.from(document.images).filter(i => i.naturalWidth > 0).length >= 2"
        )
        watched.page.goto(f"{url}/note")
        watched.page.wait_for_selector("h2:has-text('Choice')")
        watched.page.wait_for_selector("a[href$='trials?numbers=0']")
        watched.page.goto(f"{url}/trials?numbers=0")
        watched.page.wait_for_selector("text=Trial 0 (trial_id=")
        watched.page.wait_for_selector("li:has-text('lambda_max')")
        assert watched.complaints == []
        origin = url.split("/dashboard")[0]
        assert [each for each in watched.requests if not each.startswith((origin, "data:", "blob:"))] == []
        watched.page.close()


@pytest.fixture
def live(tmp_path: Path, tiny_space_text: str) -> Iterator[Path]:
    """The studies folder of a study that runs while the test looks at it."""
    (tmp_path / "tiny.yaml").write_text(tiny_space_text.replace("trials: 3", "trials: 5000"))
    studies = tmp_path / "s"
    command = [
        sys.executable,
        "-m",
        "iimt_search",
        "run",
        "--space",
        str(tmp_path / "tiny.yaml"),
        "--workers",
        "0",
    ]
    log = (tmp_path / "log").open("w")
    with log, subprocess.Popen([*command, "--studies-dir", str(studies)], stdout=log, stderr=log) as process:
        try:

            def begun() -> bool:
                assert process.poll() is None, (tmp_path / "log").read_text()
                try:
                    opened = open_study(studies, "tiny")
                except StudyError:
                    return False
                done = opened.count_trials(opened.studies[0])
                return sum(done.get(state, 0) for state in (TrialState.COMPLETE, TrialState.PRUNED)) >= 3

            wait_for(begun, "the third trial")
            yield studies
            assert process.poll() is None, "the study ended while the test looked at it"
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(PATIENCE)


def test_a_live_study_in_report_and_dashboard(browser: Any, live: Path) -> None:
    report = write_report(live)
    assert "The search runs now" in report.read_text(encoding="utf-8")
    check_report(browser, report, 1280, "light")
    with dashboard(live) as url:
        watched = Watched(browser)
        watched.page.goto(url)
        watched.page.wait_for_function(
            "document.querySelectorAll('.js-plotly-plot svg.main-svg').length >= 6"
        )
        shown = watched.page.locator(".js-plotly-plot .scatterlayer .point").first
        shown.wait_for(state="attached")
        assert watched.complaints == []
        watched.page.close()
