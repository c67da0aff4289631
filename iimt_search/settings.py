"""Every setting of one training, with its range, default and origin.

Any numeric or named setting here can be searched or fixed in a space file. "Paper" is Yan et al. 2020
(arXiv 2001.00677); what it leaves open is marked "ours".
"""

from itertools import pairwise
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from iimt_search.kinds import ImageForm, NetworkName, image_form, is_pretrained
from iimt_search.methods import active_terms

# Names that settings had in earlier versions, in space files and studies; read, never written.
OLD_NAMES = {"lambda_before": "lambda_schedule", "share": "data_fraction"}

# Learning rate where none is given, on features of pretrained networks.
PRETRAINED_RATE = 1e-3

# Values of ``weights`` that are no files.
NO_FILES = ("imagenet", "none")

# Settings that earlier versions did not have: what was trained then is of their defaults.
LATER = (
    "statistics",
    "weights",
    "freeze",
    "views",
    "bottleneck",
    "backbone_rate",
    "backbone_norm",
    "accumulate",
    "class_balance",
)


def with_new_names(content: Any) -> Any:
    """Return a mapping by settings with their old names replaced; anything else as it is."""
    if not isinstance(content, dict) or OLD_NAMES.keys().isdisjoint(content):
        return content
    return {OLD_NAMES.get(name, name): value for name, value in content.items()}


Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(gt=0, lt=1)]


class TrainSettings(BaseModel):
    """The settings of one training. Immutable; unknown names and values out of range are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    lambda_max: Weight = Field(1.0, description="maximum of w_t, the target intra-domain weight (paper)")
    lambda_schedule: tuple[tuple[Share, Weight], ...] = Field(
        (),
        description="earlier values of lambda_max: (until which share of the steps, value) (ours)",
    )
    alpha: float = Field(1.0, gt=0, le=100, description="mixing coefficient λ ~ Beta(α, α) (paper)")
    temperature: float = Field(
        0.5, gt=0, le=10, description="sharpening temperature T, below 1 sharpens (paper)"
    )
    k: int = Field(2, ge=1, le=64, description="augmentations K averaged into a virtual label (paper)")

    w_q: Weight = Field(1.0, description="weight of inter-domain mixup L_q (paper: 1)")
    w_d: Weight = Field(1.0, description="weight of the domain-adversarial loss L_d (paper: 1)")
    w_z: Weight = Field(1.0, description="weight of the consistency regularizer L_z (paper: 1)")
    w_s: Weight = Field(1.0, description="weight of source intra-domain mixup L_s (paper: 1)")
    w_source: Weight = Field(0.0, description="weight of plain source cross-entropy (ours; 1 for baselines)")

    steps: int = Field(200, ge=1, description="training steps")
    batch_size: int = Field(64, ge=2, description="samples a step from each domain")
    learning_rate: float = Field(
        1e-2,
        gt=0,
        le=1,
        description="Adam's peak learning rate; where `network` is a pretrained one, 0.001 by default (ours)",
    )
    beta1: float = Field(0.9, ge=0, lt=1, description="Adam's β1 (ours)")
    weight_decay: Weight = Field(0.0, description="decoupled weight decay (ours)")
    warmup: float = Field(0.05, ge=0, lt=1, description="share of the steps in which the rate rises (ours)")
    ramp: bool = Field(
        True, description="raise reversal strength and w_z from 0 by 2/(1+exp(−10p))−1 (ours; off: constant)"
    )
    reversal: Weight = Field(0.1, description="maximum strength of the gradient reversal (ours)")
    ema_decay: float = Field(
        0.95, ge=0, lt=1, description="decay of the averaged weights used for evaluation; 0: off"
    )

    data_fraction: float = Field(
        1.0, gt=0, le=1, description="share of the source and target samples that is used"
    )
    image_size: int = Field(
        0,
        ge=0,
        le=512,
        description="side of the square images in pixels; 0: what is natural for the task's data",
    )
    network: NetworkName = Field(
        "auto", description="encoder by name; auto: small for images, series for series, mlp for vectors"
    )
    weights: str = Field(
        "imagenet",
        description="of a network of torchvision or timm: imagenet (its published ones), none, or a file, "
        ".safetensors or .pth",
    )
    freeze: Literal["nothing", "first_half", "all"] = Field(
        "all",
        description="of such a network: the layers that stay as they are; all: each image's features are "
        "computed once",
    )
    views: int = Field(
        8, ge=1, le=64, description="features of each image: of itself and of views − 1 augmentations (ours)"
    )
    bottleneck: int = Field(
        256, ge=0, le=4096, description="units of the layer with BatchNorm after such a network; 0: none"
    )
    backbone_rate: float = Field(
        0.1, ge=0, le=1, description="learning rate of such a network, as a factor of the others'"
    )
    backbone_norm: Literal["shared", "frozen", "by_domain"] = Field(
        "shared",
        description="BatchNorm statistics of such a network where it is trained: one set of both domains, "
        "those that it came with, or one set for each domain",
    )
    accumulate: int = Field(
        1, ge=1, le=1024, description="batches whose gradients make one step, where the whole does not fit"
    )
    class_balance: bool = Field(
        False,
        description="draw the source's classes equally often; where `network` is a pretrained one, true by "
        "default (ours)",
    )
    width: int = Field(
        0, ge=0, le=1024, description="channels of the encoder's first stage; 0: the network's own"
    )
    dropout: float = Field(0.0, ge=0, lt=1, description="dropout on the embedding, before the classifier")
    discriminator_width: int = Field(
        64, ge=4, le=4096, description="hidden units of the domain discriminator"
    )
    augmentation: float = Field(1.0, ge=0, le=4, description="strength of the stochastic augmentation (ours)")
    augment_inputs: bool = Field(
        True, description="augment what is mixed too, not only for virtual labels (ours)"
    )
    statistics: Literal["together", "by_domain"] = Field(
        "together",
        description="vectors and series are normalised by the statistics of both domains together, or each "
        "domain by its own (ours)",
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="of matrix products; auto: bfloat16 where a GPU has it, or a processor is faster with it "
        "(ours)",
    )
    joint_batch_norm: bool = Field(
        True, description="one BatchNorm pass over both domains and all mixtures (ours; off: one pass each)"
    )
    evaluations: int = Field(
        5, ge=1, description="evaluations in a training, evenly spaced, the last at its end"
    )
    evaluation_samples: int = Field(
        4000,
        ge=1,
        description="at most so many samples of source validation and target are scored, evenly spaced",
    )

    @model_validator(mode="before")
    @classmethod
    def _known_by_old_names(cls, content: Any) -> Any:
        content = with_new_names(content)
        if isinstance(content, dict) and is_pretrained(str(content.get("network", ""))):
            return {"learning_rate": PRETRAINED_RATE, "class_balance": True, **content}
        return content

    @model_validator(mode="after")
    def _something_to_learn(self) -> Self:
        if not active_terms(self):
            raise ValueError("every weight is 0: nothing would be learned")
        return self

    @field_validator("lambda_schedule")
    @classmethod
    def _in_order(cls, value: tuple[tuple[float, float], ...]) -> tuple[tuple[float, float], ...]:
        if any(left >= right for (left, _), (right, _) in pairwise(value)):
            raise ValueError("the shares of lambda_schedule must rise")
        return value

    @property
    def form(self) -> ImageForm:
        """How images are brought to one size.

        Raises:
            UsageError: there is no such network, or its package is not installed.
        """
        return image_form(self.network, self.image_size)

    @field_validator("image_size")
    @classmethod
    def _smallest_image(cls, value: int) -> int:
        if 0 < value < 8:
            raise ValueError("image_size is 0, or 8 or more")
        return value


def shown_value(value: object) -> str:
    """Return a setting's value for people; a tuple of pairs as ``lambda_schedule`` has them."""
    match value:
        case float():
            return f"{value:.4g}"
        case [[float() | int() as until, float() | int() as earlier], *rest]:
            return ", ".join([f"{earlier:.4g} until {until:.0%}", *map(shown_value, [[r] for r in rest])])
        case _:
            return str(value)
