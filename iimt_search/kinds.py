"""The kinds of samples, and the encoders and augmentations that there are for each.

Torch-free, so that settings and space files can be checked against these tables; what an entry names is
imported when it is used.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

from pydantic import AfterValidator, WithJsonSchema

from iimt_search.registry import Registry, load_object

if TYPE_CHECKING:
    from iimt_search.data.augment import Augmentation
    from iimt_search.models.encoders import Built

Kind = Literal["image", "series", "vector"]


class EncoderEntry(NamedTuple):
    """An encoder that ``train.network`` can name.

    Attributes:
        kind: of the samples that it takes.
        width: of its first stage, where none is asked for.
        builder: ``module:function``; the function takes the shape of one sample, the width and the options,
            and returns the encoder and the dimension D of its embeddings.
        options: further arguments of the builder.
    """

    kind: Kind
    width: int
    builder: str
    options: Mapping[str, Any] = MappingProxyType({})

    def build(self, sample_shape: tuple[int, ...], width: int) -> "Built":
        """Return the encoder, samples (B, ...) → embeddings (B, D), and D."""
        built: Built = load_object(self.builder)(sample_shape, width, **self.options)
        return built


class AugmentationEntry(NamedTuple):
    """An augmentation that a domain can name.

    Attributes:
        kinds: of the samples that it takes.
        augmentation: ``module:name`` of an :class:`~iimt_search.data.augment.Augmentation`.
    """

    kinds: tuple[Kind, ...]
    augmentation: str

    def load(self) -> "Augmentation":
        """Return the augmentation itself."""
        augmentation: Augmentation = load_object(self.augmentation)
        return augmentation


_ENCODERS, _AUGMENT = "iimt_search.models.encoders", "iimt_search.data.augment"

ENCODERS = Registry(
    "encoder",
    EncoderEntry,
    {
        "small": EncoderEntry("image", 32, f"{_ENCODERS}:small_encoder"),
        "conv9-small": EncoderEntry("image", 64, f"{_ENCODERS}:conv9_encoder", {"growth": 1}),
        "conv9-large": EncoderEntry("image", 96, f"{_ENCODERS}:conv9_encoder", {"growth": 2}),
        "series": EncoderEntry("series", 32, f"{_ENCODERS}:series_encoder"),
        "mlp": EncoderEntry("vector", 128, f"{_ENCODERS}:mlp_encoder"),
    },
)

# What "auto" stands for.
DEFAULT_ENCODERS: dict[Kind, str] = {"image": "small", "series": "series", "vector": "mlp"}

AUGMENTATIONS = Registry(
    "augmentation",
    AugmentationEntry,
    {
        "digits": AugmentationEntry(("image",), f"{_AUGMENT}:augment_digits"),
        "image": AugmentationEntry(("image",), f"{_AUGMENT}:augment_image"),
        "objects": AugmentationEntry(("image",), f"{_AUGMENT}:augment_objects"),
        "series": AugmentationEntry(("series",), f"{_AUGMENT}:augment_series"),
        "motion": AugmentationEntry(("series",), f"{_AUGMENT}:augment_motion"),
        "noise": AugmentationEntry(("series", "vector"), f"{_AUGMENT}:augment_noise"),
        "none": AugmentationEntry(("image", "series", "vector"), f"{_AUGMENT}:augment_none"),
    },
)

# Names as fields of pydantic models; the documents list the built-in ones.
NetworkName = Annotated[
    str,
    AfterValidator(lambda name: ENCODERS.checked(name, "auto")),
    WithJsonSchema({"enum": ["auto", *ENCODERS.built_in]}),
]
AugmentationName = Annotated[
    str, AfterValidator(AUGMENTATIONS.checked), WithJsonSchema({"enum": [*AUGMENTATIONS.built_in]})
]
