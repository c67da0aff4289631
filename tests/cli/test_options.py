"""What several verbs share."""

import click
import pytest

from iimt_search.cli.main import cli
from iimt_search.cli.options import _OPTIONS, by_options


@pytest.mark.parametrize(
    ("message", "printed"),
    [
        ("`ray_storage` must be a path", "--ray-storage must be a path"),
        ("`device=cuda:1`: not here", "--device cuda:1: not here"),
        ("`resources.gpus` and `resources.custom`", "--gpus-per-trial and --resource"),
        ("`track=mlflow` needs the package mlflow", "--track mlflow needs the package mlflow"),
        ("`workers >= 0` must hold", "`workers >= 0` must hold"),
        ("give it another `name`; `iimt-search run`", "give it another `name`; `iimt-search run`"),
        ("lies in sqlite:///a=b; give that `storage`", "lies in sqlite:///a=b; give that --storage"),
    ],
)
def test_messages_name_options(message: str, printed: str) -> None:
    assert by_options(message) == printed


def test_every_option_that_a_message_may_name_is_there() -> None:
    context = click.Context(cli)
    commands = [cli.get_command(context, verb) for verb in cli.list_commands(context)]
    known = {option for command in commands if command for p in command.params for option in p.opts}
    assert set(_OPTIONS.values()) <= known
