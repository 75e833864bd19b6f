"""The digest that a file carries of itself, by which a damaged copy is known.

An entry of the file's metadata holds the SHA-256 of all its bytes, with `PLACEHOLDER` where the digest stands.
"""

from __future__ import annotations

import hashlib

from ai_edge_litert import schema_py_generated as schema

DIGEST_NAME = "bnncc_sha256"
# The name of the metadata buffer in which bnncc describes its file, as JSON: every file of its has one.
METADATA_NAME = "bnncc"
# No constant of a network is this text, which a file's equal buffers would share.
PLACEHOLDER = b"here is the SHA-256 of the file "


def seal(content: bytes) -> bytes:
    """A file whose entry `DIGEST_NAME` holds anything of its length, with the digest there; another one as it is."""
    start = _position(content)
    if start is None:
        return content
    end = start + len(PLACEHOLDER)
    return b"".join([content[:start], _digest(content, start), content[end:]])


def is_damaged(content: bytes) -> bool:
    """True where a file has a digest, and it is another file's, or what leads to it is no offset in the file; and where
    a file of bnncc's has lost its own."""
    try:
        start = _position(content)
        if start is None:
            return _lost(content)
    except Exception:  # the schema's generated code indexes the raw bytes
        return True
    return content[start : start + len(PLACEHOLDER)] != _digest(content, start)


def _digest(content: bytes, start: int) -> bytes:
    found = hashlib.sha256(content[:start])
    found.update(PLACEHOLDER)
    found.update(content[start + len(PLACEHOLDER) :])
    return found.digest()


def _position(content: bytes) -> int | None:
    """Where the entry's bytes begin; None where there is no such entry."""
    model = schema.Model.GetRootAs(content)
    for index in range(model.MetadataLength()):
        entry = model.Metadata(index)
        if entry.Name() == DIGEST_NAME.encode():
            table = model.Buffers(entry.Buffer())._tab
            field = table.Offset(4)  # `data`, the first field of a Buffer
            if field and table.VectorLen(field) == len(PLACEHOLDER):
                return int(table.Vector(field))
    return None


def has_none(content: bytes) -> bool:
    """True where a file of bnncc's, which is not damaged, has no digest: an earlier bnncc made it."""
    names = _names(content)
    return METADATA_NAME.encode() in names and DIGEST_NAME.encode() not in names


def _lost(content: bytes) -> bool:
    """Whether a file of bnncc's without a digest once had one.

    The digest's entry lies behind the description's, and its name is in the file even where nothing leads to it any
    more.  Earlier versions wrote no digest, and the description last.
    """
    names = _names(content)
    return METADATA_NAME.encode() in names and (names[-1] != METADATA_NAME.encode() or DIGEST_NAME.encode() in content)


def _names(content: bytes) -> list[bytes | None]:
    """Of the entries, in order; None where one has none."""
    model = schema.Model.GetRootAs(content)
    return [model.Metadata(index).Name() for index in range(model.MetadataLength())]
