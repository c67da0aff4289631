"""What several verbs share."""

import json
import math

import click
import pytest

from iimt_search.cli.main import cli
from iimt_search.cli.options import _OPTIONS, by_options
from iimt_search.cli.printing import print_json


def test_json_has_null_where_a_value_is_not_finite(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"a": [math.nan, 1.5, (math.inf, "NaN")], "b": None, "c": 2})
    text = capsys.readouterr().out
    assert json.loads(text) == {"a": [None, 1.5, [None, "NaN"]], "b": None, "c": 2}
    assert text.count("NaN") == 1


@pytest.mark.parametrize(
    ("message", "printed"),
    [
        ("`ray_storage` must be a path", "--ray-storage must be a path"),
        ("`device=cuda:1`: not here", "--device cuda:1: not here"),
        ("`resources.gpus` and `resources.custom`", "--gpus-per-trial and --resource"),
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
