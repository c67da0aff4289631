"""What several verbs share."""

import json
import math

import pytest

from iimt_search.cli.options import print_json


def test_json_has_null_where_a_value_is_not_finite(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"a": [math.nan, 1.5, (math.inf, "NaN")], "b": None, "c": 2})
    text = capsys.readouterr().out
    assert json.loads(text) == {"a": [None, 1.5, [None, "NaN"]], "b": None, "c": 2}
    assert text.count("NaN") == 1
