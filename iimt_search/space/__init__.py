"""The space file: what to search, on which tasks, with which budget; errors name line and key."""

from iimt_search.space.load import KnownNames, load_space, space_from_text
from iimt_search.space.schema import Choices, NumberRange, SearchRange, Space, with_defaults

__all__ = [
    "Choices",
    "KnownNames",
    "NumberRange",
    "SearchRange",
    "Space",
    "load_space",
    "space_from_text",
    "with_defaults",
]
