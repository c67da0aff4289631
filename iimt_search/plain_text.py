"""Text of others as it may be shown: nothing in it steers a terminal or turns a line around."""

import re

# Control characters, and those that turn the direction of writing: a name must not look like another.
_STEERING = re.compile("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u2028\u2029]")
_STEERING_BUT_NEWLINES = re.compile(_STEERING.pattern.replace("\x00-\x1f", "\x00-\x09\x0b-\x1f"))


def _escaped(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"


def visible(text: str, newlines: bool = False) -> str:
    r"""Return a text with ``\xNN`` or ``\uNNNN`` in the place of each character that steers.

    Args:
        text: what others wrote.
        newlines: leave line ends as they are.

    Example:
        >>> visible("a\x1b[2Jb")
        'a\\x1b[2Jb'
    """
    return (_STEERING_BUT_NEWLINES if newlines else _STEERING).sub(_escaped, text)


# In a URL up to the last "@" of a word: who writes one by hand may forget to quote an "@" in it. Not a port.
_PASSWORDS = (
    (re.compile(r"(\w://[^\s/:@]*):(?!\d{1,5}/)[^\s'\"]*@"), r"\1@"),
    (re.compile(r"((?:^|[?&\s;'\"])(?:ssl)?password=)[^\s&;'\"]+", re.IGNORECASE), r"\1…"),
)


def without_passwords(text: str) -> str:
    """Return a text without the passwords of the URLs and connection strings in it.

    Example:
        >>> without_passwords("cannot reach postgresql://me:secret@host/db?sslpassword=x")
        'cannot reach postgresql://me@host/db?sslpassword=…'
    """
    for pattern, shown in _PASSWORDS:
        text = pattern.sub(shown, text)
    return text


def clipped(text: object, most: int = 1000) -> str:
    """Return a text of at most about ``most`` letters, cut in its middle.

    Example:
        >>> clipped("a" * 30, 12)
        'aaaaaaaa … aaaa'
    """
    whole = str(text)
    head = most * 2 // 3
    return whole if len(whole) <= most else f"{whole[:head]} … {whole[len(whole) - (most - head) :]}"


def markdown(value: object) -> str:
    r"""Return a value as Markdown text, on one line, that cannot be taken for markup.

    Example:
        >>> markdown("<b>|*")
        '&lt;b>\\|\\*'
    """
    escaped = str(value).replace("&", "&amp;").replace("<", "&lt;").replace("\\", "\\\\")
    for sign in "|`*[]":
        escaped = escaped.replace(sign, f"\\{sign}")
    return visible(" ".join(escaped.split()))
