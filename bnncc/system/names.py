"""Names that may be a stranger's: of files, classes, operators."""

from __future__ import annotations

import unicodedata


def shown(text: str) -> str:
    """`text` with control characters as escapes, but for the ends of lines and tabs: a terminal does what they say."""
    return "".join(ascii(one)[1:-1] if _is_control(one) else one for one in text)


def as_utf8(text: str) -> bytes:
    """UTF-8; what a name in another encoding has, which is no text, as escapes, which JSON reads as well."""
    return text.encode(errors="backslashreplace")


def _is_control(one: str) -> bool:
    """Also what turns the direction of writing; not what a name in another encoding has."""
    return one not in "\n\t" and unicodedata.category(one) in ("Cc", "Cf")
