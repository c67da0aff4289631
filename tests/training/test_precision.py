"""float32 is exact to 1e-5 a term; bfloat16 changes products only, and is chosen where it is faster."""

import numpy as np
import pytest
import torch

from iimt_search.models.network import Architecture, Discriminator, Model
from iimt_search.settings import TrainSettings
from iimt_search.training import precision
from iimt_search.training.objective import Batch, loss_terms

SETTINGS = TrainSettings(batch_size=16, image_size=16, k=2, augmentation=0.0)


def terms(dtype: torch.dtype, bfloat16: bool = False) -> dict[str, torch.Tensor]:
    """Compute one step's terms, always of the same weights and samples."""
    torch.manual_seed(0)
    model = Model(Architecture("small", "image", (3, 16, 16), 5, 8, 0.0)).to(dtype).train()
    discriminator = Discriminator(model.embedding_dim, 7).to(dtype)
    x = torch.rand(2, 16, 3, 16, 16)
    labels = torch.eye(5)[torch.arange(16) % 5]
    batch = Batch(x[0].to(dtype), labels.to(dtype), x[1].to(dtype))
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bfloat16):
        found = loss_terms(
            model, discriminator, batch, SETTINGS, 0.5, lambda each: each, np.random.default_rng(5)
        )
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
    monkeypatch.setattr(precision, "_measured_faster", lambda threads: faster)
    assert precision.use_bfloat16("auto", torch.device("cpu")) is faster
    assert precision.use_bfloat16("float32", torch.device("cpu")) is False
    assert precision.use_bfloat16("bfloat16", torch.device("cpu")) is True


def test_the_measurement_leaves_the_random_state_alone() -> None:
    torch.manual_seed(3)
    state = torch.get_rng_state()
    precision._measured_faster.cache_clear()
    assert precision._measured_faster(torch.get_num_threads()) in (True, False)
    assert torch.equal(torch.get_rng_state(), state)
