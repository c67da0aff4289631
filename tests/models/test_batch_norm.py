import pytest
import torch
from torch import nn

from iimt_search.models.network import Architecture, Model, running_statistics_held

BATCH = torch.tensor([[1.0], [3.0]])  # mean 2, biased variance 1, unbiased 2


def test_batch_statistics_are_used() -> None:
    layer = nn.BatchNorm1d(1, eps=1e-12)
    with running_statistics_held(layer):
        torch.testing.assert_close(layer(BATCH), torch.tensor([[-1.0], [1.0]]))


def test_running_statistics_are_held_and_then_move_again() -> None:
    layer = nn.BatchNorm1d(1, momentum=0.5)
    assert layer.running_mean is not None and layer.running_var is not None
    with running_statistics_held(layer):
        layer(BATCH)
    assert (layer.running_mean.item(), layer.running_var.item()) == (0.0, 1.0)
    layer(BATCH)
    assert (layer.running_mean.item(), layer.running_var.item()) == (1.0, 1.5)


def test_layers_track_again_as_they_did() -> None:
    untracked = nn.BatchNorm1d(2, track_running_stats=False)
    model = nn.Sequential(nn.BatchNorm1d(2), untracked, nn.Linear(2, 2))
    with running_statistics_held(model):
        assert [model[0].track_running_stats, model[1].track_running_stats] == [False, False]
    assert [model[0].track_running_stats, model[1].track_running_stats] == [True, False]


def test_layers_track_again_after_an_error() -> None:
    layer = nn.BatchNorm1d(1)
    with pytest.raises(RuntimeError, match="no step"), running_statistics_held(layer):
        raise RuntimeError("no step")
    assert layer.track_running_stats


def test_no_layer_of_the_model_is_missed() -> None:
    model = Model(Architecture("small", "image", (3, 8, 8), 10, 4, 0.0))
    running = {name: value.clone() for name, value in model.named_buffers() if "running" in name}
    assert len(running) == 8  # mean and variance of four layers
    x = torch.randint(0, 256, (4, 3, 8, 8), generator=torch.Generator().manual_seed(0))
    with running_statistics_held(model):
        model(x)
    after = dict(model.named_buffers())
    assert all(torch.equal(after[name], value) for name, value in running.items())
    model(x)
    after = dict(model.named_buffers())
    assert not any(torch.equal(after[name], value) for name, value in running.items())


def test_gradients_flow_while_held() -> None:
    layer = nn.BatchNorm1d(1)
    with running_statistics_held(layer):
        layer(BATCH).square().sum().backward()
    assert layer.weight.grad is not None
    assert layer.weight.grad.item() == pytest.approx(4.0, rel=1e-3)  # d/dw Σ (±w)² at w = 1
