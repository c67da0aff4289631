import math

import pytest

from iimt_search.iimt.schedule import dann_ramp, linear, stepwise, warmup_cosine


@pytest.mark.parametrize(
    ("progress", "expected"), [(0.0, 0.0), (0.25, 2.0), (0.5, 4.0), (1.0, 8.0), (-0.5, 0.0), (1.5, 8.0)]
)
def test_linear(progress: float, expected: float) -> None:
    assert linear(progress, 8.0) == expected


def test_linear_to_nothing() -> None:
    assert linear(0.7, 0.0) == 0.0


@pytest.mark.parametrize("progress", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_dann_ramp_is_tanh(progress: float) -> None:
    # 2 / (1 + e^(−10p)) − 1 = tanh(5p)
    assert dann_ramp(progress) == pytest.approx(math.tanh(5 * progress), abs=1e-12)


def test_dann_ramp_ends() -> None:
    assert dann_ramp(0.0) == 0.0
    assert 0.999 < dann_ramp(1.0) < 1.0
    assert dann_ramp(-1.0) == 0.0
    assert dann_ramp(2.0) == dann_ramp(1.0)


@pytest.mark.parametrize(
    ("progress", "expected"),
    [
        (0.0, 0.0),
        (0.1, 0.5),  # half of the warm-up
        (0.2, 1.0),  # its end
        (0.4, 0.5 * (1 + math.cos(math.pi / 4))),
        (0.6, 0.5),  # half of the cosine
        (1.0, 0.0),
        (1.2, 0.0),
    ],
)
def test_warmup_cosine(progress: float, expected: float) -> None:
    assert warmup_cosine(progress, 0.2) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("progress", "expected"), [(0.0, 1.0), (0.5, 0.5), (1.0, 0.0)])
def test_cosine_without_warmup(progress: float, expected: float) -> None:
    assert warmup_cosine(progress, 0.0) == pytest.approx(expected, abs=1e-12)


def test_rates_rise_then_fall() -> None:
    rates = [warmup_cosine(step / 100, 0.05) for step in range(101)]
    assert rates[:6] == sorted(rates[:6])
    assert rates[5:] == sorted(rates[5:], reverse=True)
    assert max(rates) == rates[5] == 1.0


def test_ramps_rise() -> None:
    steps = [step / 50 for step in range(51)]
    assert [dann_ramp(p) for p in steps] == sorted({dann_ramp(p) for p in steps})
    assert [linear(p, 3.0) for p in steps] == sorted({linear(p, 3.0) for p in steps})


@pytest.mark.parametrize(
    ("progress", "expected"), [(0.0, 1.0), (0.24, 1.0), (0.25, 2.0), (0.49, 2.0), (0.5, 3.0), (1.0, 3.0)]
)
def test_stepwise(progress: float, expected: float) -> None:
    assert stepwise(progress, ((0.25, 1.0), (0.5, 2.0)), 3.0) == expected


def test_stepwise_without_steps() -> None:
    assert stepwise(0.3, (), 3.0) == 3.0
