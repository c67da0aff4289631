"""Encoders f: normalised samples (B, ...) → embeddings (B, D).

A builder takes the shape of one sample and the width of the first stage, and returns the encoder and D. Their
names stand in :data:`iimt_search.kinds.ENCODERS`.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

Built = tuple[nn.Module, int]

_SLOPE = 0.1


class GaussianNoise(nn.Module):
    """Add normal noise of standard deviation ``std`` in training mode; do nothing in evaluation mode.

    It draws from the device's global generator, as dropout does.
    """

    def __init__(self, std: float) -> None:
        super().__init__()
        self.std = std

    def forward(self, x: Tensor) -> Tensor:
        """Return a tensor of ``x``'s shape and type."""
        return x + self.std * torch.randn_like(x) if self.training else x

    def extra_repr(self) -> str:
        """Name the standard deviation when the module is printed."""
        return f"std={self.std}"


class GlobalAverage(nn.Module):
    """Average each channel over its whole image: (B, C, H, W) → (B, C).

    As ``nn.AdaptiveAvgPool2d(1)``, whose gradient comes in another memory order than channels-last
    activations, which makes the layers before it five times slower backwards on a processor.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return the means."""
        return functional.avg_pool2d(x, x.shape[-2:]).flatten(1)


def _conv2d(channels_in: int, channels_out: int, stride: int = 1) -> list[nn.Module]:
    return [
        nn.Conv2d(channels_in, channels_out, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.LeakyReLU(_SLOPE, inplace=True),
    ]


def _conv1d(channels_in: int, channels_out: int, kernel: int, stride: int = 1) -> list[nn.Module]:
    return [
        nn.Conv1d(channels_in, channels_out, kernel, stride=stride, padding=kernel // 2, bias=False),
        nn.BatchNorm1d(channels_out),
        nn.LeakyReLU(_SLOPE, inplace=True),
    ]


def dense(features_in: int, features_out: int) -> list[nn.Module]:
    """Return a layer with BatchNorm: (B, features_in) → (B, features_out)."""
    return [
        nn.Linear(features_in, features_out, bias=False),
        nn.BatchNorm1d(features_out),
        nn.LeakyReLU(_SLOPE, inplace=True),
    ]


def small_encoder(sample_shape: tuple[int, ...], width: int) -> Built:
    """Four 3×3 convolutions, the first with stride 2; the input is instance-normalised (ours).

    A first stage at full resolution costs 1.7 times the step and gains nothing on 16×16 images.

    Args:
        sample_shape: (channels, H, W), sides of at least 3 pixels.
        width: channels of the first two convolutions; the last two have twice as many.

    Returns:
        The encoder, float (B, channels, H, W) → (B, D), and D = 2 · width.
    """
    channels = sample_shape[0]
    encoder = nn.Sequential(
        nn.InstanceNorm2d(channels),
        *_conv2d(channels, width, stride=2),
        # Pooled before it is activated, which is the same and costs a quarter.
        *_conv2d(width, width)[:-1],
        nn.MaxPool2d(2),
        nn.LeakyReLU(_SLOPE, inplace=True),
        *_conv2d(width, 2 * width),
        *_conv2d(2 * width, 2 * width),
        GlobalAverage(),
    )
    return encoder, 2 * width


def conv9_encoder(sample_shape: tuple[int, ...], width: int, growth: int) -> Built:
    """Nine 3×3 convolutions in three stages, with dropout 0.5 and noise of std 1 between the stages.

    The paper family's networks (VADA, DIRT-T, VMT; Shu et al. 2018, arXiv 1802.08735): 64-64-64 small,
    96-192-192 large, on 32×32 images. The input is instance-normalised.

    Args:
        sample_shape: (channels, H, W), sides of at least 4 pixels.
        width: channels of the first stage.
        growth: the later two stages have ``growth`` · ``width`` channels.

    Returns:
        The encoder, float (B, channels, H, W) → (B, D), and D = growth · width.
    """
    layers: list[nn.Module] = [nn.InstanceNorm2d(sample_shape[0])]
    before, later = sample_shape[0], growth * width
    for stage, channels in enumerate((width, later, later)):
        if stage > 0:
            layers += [nn.MaxPool2d(2), nn.Dropout(0.5), GaussianNoise(1.0)]
        layers += _conv2d(before, channels) + _conv2d(channels, channels) + _conv2d(channels, channels)
        before = channels
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten()), later


def series_encoder(sample_shape: tuple[int, ...], width: int) -> Built:
    """Four convolutions over time: kernel 7 with stride 2, then 5, 3 and 3 (ours).

    Args:
        sample_shape: (channels, length), lengths of at least 8 steps.
        width: channels of the first two convolutions; the last two have twice as many.

    Returns:
        The encoder, float (B, channels, length) → (B, D), and D = 2 · width.
    """
    # No instance norm on the input: a sensor channel's mean says something (gravity tells the posture).
    encoder = nn.Sequential(
        *_conv1d(sample_shape[0], width, 7, stride=2),
        *_conv1d(width, width, 5),
        nn.MaxPool1d(2),
        *_conv1d(width, 2 * width, 3),
        *_conv1d(2 * width, 2 * width, 3),
        nn.AdaptiveAvgPool1d(1),
        nn.Flatten(),
    )
    return encoder, 2 * width


def mlp_encoder(sample_shape: tuple[int, ...], width: int) -> Built:
    """Two hidden layers (ours).

    Args:
        sample_shape: (features,).
        width: units of each layer.

    Returns:
        The encoder, float (B, features) → (B, D), and D = width.
    """
    return nn.Sequential(*dense(sample_shape[0], width), *dense(width, width)), width
