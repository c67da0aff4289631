from typing import Any

import pytest
from pydantic import ValidationError

from iimt_search.settings import TrainSettings, shown_value


def test_all_weights_zero_is_refused() -> None:
    zero = {"w_q": 0, "w_d": 0, "w_z": 0, "w_s": 0, "lambda_max": 0}
    with pytest.raises(ValidationError, match="every weight is 0: nothing would be learned"):
        TrainSettings.model_validate(zero)
    assert TrainSettings.model_validate({**zero, "w_source": 1}).w_source == 1


def test_paper_defaults() -> None:
    settings = TrainSettings()
    assert (settings.w_q, settings.w_d, settings.w_z, settings.w_s) == (1.0, 1.0, 1.0, 1.0)
    assert settings.w_source == 0.0
    assert settings.ramp and settings.joint_batch_norm


def test_defaults_pass_their_own_checks() -> None:
    assert TrainSettings.model_validate(TrainSettings().model_dump()) == TrainSettings()


def test_every_setting_is_described() -> None:
    assert [name for name, field in TrainSettings.model_fields.items() if not field.description] == []


def test_unknown_name_is_refused() -> None:
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        TrainSettings.model_validate({"lamda_max": 1.0})


def test_immutable() -> None:
    with pytest.raises(ValidationError, match="Instance is frozen"):
        TrainSettings().alpha = 2.0  # type: ignore[misc]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("lambda_max", -0.1),
        ("lambda_max", float("inf")),
        ("lambda_max", float("nan")),
        ("alpha", 0.0),
        ("alpha", float("nan")),
        ("alpha", float("inf")),
        ("temperature", 0.0),
        ("temperature", -1.0),
        ("temperature", float("nan")),
        ("k", 0),
        ("k", 1.5),
        ("w_d", -1.0),
        ("w_z", float("inf")),
        ("steps", 0),
        ("batch_size", 1),
        ("learning_rate", 0.0),
        ("beta1", 1.0),
        ("warmup", 1.0),
        ("ema_decay", 1.0),
        ("image_size", 7),
        ("network", "resnet"),
        ("dropout", 1.0),
        ("augmentation", -1.0),
        ("evaluations", 0),
        ("ramp", "perhaps"),
    ],
)
def test_out_of_range(name: str, value: Any) -> None:
    with pytest.raises(ValidationError, match=rf"1 validation error for TrainSettings\n{name}\n"):
        TrainSettings.model_validate({name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("lambda_max", 0.0),
        ("alpha", 1e-9),
        ("alpha", 100.0),
        ("temperature", 10.0),
        ("k", 1),
        ("k", 64),
        ("batch_size", 2),
        ("beta1", 0.0),
        ("warmup", 0.0),
        ("ema_decay", 0.0),
        ("image_size", 8),
        ("augmentation", 0.0),
        ("evaluations", 1),
    ],
)
def test_bounds_are_included(name: str, value: Any) -> None:
    assert getattr(TrainSettings.model_validate({name: value}), name) == value


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ([[0.5, 1], [0.5, 2]], "must rise"),
        ([[0.6, 1], [0.5, 2]], "must rise"),
        ([[0, 1]], "greater than 0"),
        ([[1, 1]], "less than 1"),
        ([[float("nan"), 1]], "less than 1"),
        ([[0.5, -1]], "greater than or equal to 0"),
    ],
)
def test_earlier_values_of_lambda_max(value: Any, reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        TrainSettings.model_validate({"lambda_schedule": value})


def test_values_as_people_read_them() -> None:
    assert shown_value(0.123456) == "0.1235" and shown_value(3) == "3" and shown_value("auto") == "auto"
    assert shown_value([[0.25, 1.0], [0.5, 2.25]]) == "1 until 25%, 2.25 until 50%"
    assert shown_value([{"low": 1}, "a->b"]) == "[{'low': 1}, 'a->b']" and shown_value(()) == "()"
