"""float32 is exact to 1e-5 a term; bfloat16 changes products only, and is chosen where it is faster."""

import numpy as np
import pytest
import torch

from iimt_search.iimt.virtual_labels import sharpen
from iimt_search.models import device as precision
from iimt_search.models.network import Architecture, Discriminator, Model
from iimt_search.settings import TrainSettings
from iimt_search.training.batches import sample_step
from iimt_search.training.objective import Batch, loss_terms, predict_augmented

SETTINGS = TrainSettings(batch_size=16, image_size=16, k=2, augmentation=0.0)


def terms(dtype: torch.dtype, bfloat16: bool = False) -> dict[str, torch.Tensor]:
    """Compute one step's terms, always of the same weights and samples."""
    torch.manual_seed(0)
    model = Model(Architecture("small", "image", (3, 16, 16), 5, 8, 0.0)).to(dtype).train()
    discriminator = Discriminator(model.embedding_dim, 7).to(dtype)
    x_s, x_t = torch.rand(2, 16, 3, 16, 16).to(dtype)
    labels = torch.eye(5, dtype=dtype)[torch.arange(16) % 5]
    sampled = sample_step(SETTINGS, 100, 100, np.random.default_rng(5))
    batch = Batch(x_s, labels, x_t, sampled.coefficients, sampled.orders)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bfloat16):
        q_t = sharpen(predict_augmented(model, x_t.repeat(2, 1, 1, 1), 2), SETTINGS.temperature)
        found = loss_terms(model, discriminator, batch, q_t, 0.05, SETTINGS)
    return {name: value.detach() for name, value in found.items()}


def test_float32_is_right_to_a_hundred_thousandth() -> None:
    exact = terms(torch.float64)
    for name, value in terms(torch.float32).items():
        assert float(value) == pytest.approx(float(exact[name]), rel=1e-5), name


def test_bfloat16_products_leave_losses_in_float32_and_near() -> None:
    exact = terms(torch.float32)
    found = terms(torch.float32, bfloat16=True)
    assert any(float(found[name]) != float(exact[name]) for name in exact)
    for name, value in found.items():
        assert value.dtype is torch.float32
        assert float(value) == pytest.approx(float(exact[name]), rel=0.05, abs=1e-3), name


@pytest.mark.parametrize("faster", [True, False])
def test_auto_is_what_the_measurement_says(faster: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "_in_hardware", lambda: True)
    monkeypatch.setattr(precision, "_measured_faster", lambda threads: faster)
    assert precision.use_bfloat16("auto", torch.device("cpu")) is faster
    assert precision.use_bfloat16("float32", torch.device("cpu")) is False
    assert precision.use_bfloat16("bfloat16", torch.device("cpu")) is True


def test_without_bfloat16_in_hardware_nothing_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    # A busy moment would decide otherwise, and two workers of one search differ.
    monkeypatch.setattr(precision, "_in_hardware", lambda: False)
    monkeypatch.setattr(precision, "_measured_faster", lambda threads: True)
    assert precision.use_bfloat16("auto", torch.device("cpu")) is False


@pytest.mark.parametrize("spike", range(4))
def test_a_busy_moment_decides_nothing(spike: int, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(10**6))
    delays = {2: 0.0, 3: 0.0}
    now = [0.0]

    def work(name: int, seconds: float) -> None:
        delays[name] += 1
        now[0] += seconds + (100.0 if delays[name] == spike + 1 or next(clock) % 5 == 0 else 0.0)

    monkeypatch.setattr(precision.time, "thread_time", lambda: now[0])
    found = precision._shortest(lambda: work(2, 2.0), lambda: work(3, 3.0))
    assert found == [pytest.approx(2.0), pytest.approx(3.0)]


def test_the_measurement_leaves_the_random_state_alone() -> None:
    torch.manual_seed(3)
    state = torch.get_rng_state()
    precision._measured_faster.cache_clear()
    assert precision._measured_faster(torch.get_num_threads()) in (True, False)
    assert torch.equal(torch.get_rng_state(), state)
