"""The group of verbs, and how errors end."""

import io
import os
import sys
import traceback
from importlib import import_module
from typing import Any

import click

from iimt_search import __version__
from iimt_search.cli.options import by_options
from iimt_search.errors import IimtSearchError
from iimt_search.files import shown
from iimt_search.plain_text import without_passwords

# Verb, the name of its module too, which is imported when used: `--help` loads neither torch nor Ray.
VERBS = {
    "run": "Search, confirm, retrain: the whole job of a space file.",
    "data": "List, prepare, check and show the data of tasks.",
    "status": "Show where a study stands.",
    "best": "Show a study's choice; --export hands out its models.",
    "compare": "Show two studies side by side.",
    "report": "Write a study's report: one HTML file that needs no network.",
    "score": "Score the kept checkpoints by any validator, without training.",
    "choose": "Choose among models that others trained, by files of what they predict.",
    "rerun": "Train a trial again from its record; say whether it came out the same.",
    "validators": "List the label-free validators and how each fails.",
    "predict": "Classify images and arrays with an exported model.",
    "dashboard": "Open the Optuna dashboard on a study, on loopback.",
    "audit": "After the choice, measure it with the sealed test labels.",
}


class Verbs(click.Group):
    """A group whose commands are imported when used, and whose errors are one line."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the verbs, in the order of use."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a verb's command."""
        if cmd_name not in VERBS:
            return None
        command: click.Command = import_module(f"iimt_search.cli.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the verbs without importing any."""
        with formatter.section("Verbs"):
            formatter.write_dl(list(VERBS.items()))

    def invoke(self, ctx: click.Context) -> Any:
        """Run the verb; our own errors become one line and their exit code."""
        try:
            return super().invoke(ctx)
        except IimtSearchError as error:
            if ctx.params.get("debug"):
                click.echo(without_passwords(traceback.format_exc()).rstrip(), err=True)
            else:
                click.echo(f"error: {by_options(str(error))}", err=True)
            ctx.exit(error.exit_code)
        except (click.exceptions.Exit, click.ClickException, click.Abort, BrokenPipeError):
            raise
        except Exception as error:
            if ctx.params.get("debug"):
                click.echo(without_passwords(traceback.format_exc()).rstrip(), err=True)
                ctx.exit(1)
            name = f"{type(error).__name__}: {error}"
            if isinstance(error, OSError) and error.filename is not None and error.strerror:
                name = f"{shown(error.filename)}: {error.strerror}"
            click.echo(f"error: {without_passwords(name)}  (--debug shows where)", err=True)
            ctx.exit(1)


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--debug", is_flag=True, help="Show tracebacks.")
@click.version_option(__version__, prog_name="iimt-search")
def cli(debug: bool) -> None:
    """Find the hyperparameters of a domain-adaptation training without a single target label."""


def _hide_passwords() -> None:
    """Begin again without the password of a database URL: every user of a machine can list its processes."""
    words = list(sys.orig_argv)
    if os.name != "posix" or not any("postgresql" in word for word in words):
        return
    from iimt_search.study.storage.database import PASSWORD_VARIABLE, hide_password, password_of

    for at, word in enumerate(words):
        option, given, url = word.rpartition("--storage=")
        if not option and url.startswith("postgresql") and (password := password_of(url)):
            os.environ[PASSWORD_VARIABLE] = password
            words[at] = given + hide_password(url)
    if words != sys.orig_argv:
        os.execv(sys.executable, words)


def main() -> None:
    """Run the command line and exit; an output that does not take a letter gets another in its place."""
    _hide_passwords()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace" if stream is sys.stdout else "backslashreplace")
    sys.exit(cli(prog_name="iimt-search", standalone_mode=True))
