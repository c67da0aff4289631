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
# Features are made of images by a network that stays as it is: :mod:`iimt_search.features`.
SampleKind = Literal["image", "series", "vector", "features"]


class ImageForm(NamedTuple):
    """How images are brought to one size.

    Attributes:
        size: side of the middle square in pixels; 0: what is natural for the data.
        interpolation: of image files, ``bicubic`` or ``bilinear``; antialiased.
    """

    size: int = 0
    interpolation: str = "bicubic"


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

    kinds: tuple[SampleKind, ...]
    augmentation: str

    def load(self) -> "Augmentation":
        """Return the augmentation itself."""
        augmentation: Augmentation = load_object(self.augmentation)
        return augmentation


_ENCODERS, _AUGMENT = "iimt_search.models.encoders", "iimt_search.data.augment"

# Where networks that were trained elsewhere come from: the beginnings of their names.
PRETRAINED = ("torchvision", "timm", "python")
OWN = "python:"


def is_pretrained(network: str) -> bool:
    """Return whether a name is of a network of torchvision, of timm, or of one's own."""
    return network.partition(":")[0] in PRETRAINED


def _pretrained_entry(name: str) -> EncoderEntry:
    return EncoderEntry("image", 0, "iimt_search.models.pretrained:build_backbone", {"name": name})


def image_form(network: str, image_size: int) -> ImageForm:
    """Return how the images of a training are brought to one size.

    Args:
        network: the encoder's name; a pretrained one has a form of its own.
        image_size: what the settings ask for, in pixels; 0: what is natural.

    Raises:
        UsageError: there is no such network, or its package is not installed.
    """
    if not is_pretrained(network):
        return ImageForm(image_size)
    form: ImageForm = load_object("iimt_search.models.pretrained:form_of")(network)
    return ImageForm(image_size or form.size, form.interpolation)


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
    dict.fromkeys(PRETRAINED, _pretrained_entry),
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
        "photos": AugmentationEntry(("image",), f"{_AUGMENT}:augment_photos"),
        "views": AugmentationEntry(("features",), f"{_AUGMENT}:augment_views"),
        "none": AugmentationEntry(("image", "series", "vector", "features"), f"{_AUGMENT}:augment_none"),
    },
)

# Names as fields of pydantic models; the documents list the built-in ones.
NetworkName = Annotated[
    str,
    AfterValidator(lambda name: ENCODERS.checked(name, "auto")),
    WithJsonSchema({"enum": ["auto", *ENCODERS.built_in, *(f"{family}:NAME" for family in PRETRAINED)]}),
]
AugmentationName = Annotated[
    str, AfterValidator(AUGMENTATIONS.checked), WithJsonSchema({"enum": [*AUGMENTATIONS.built_in]})
]
