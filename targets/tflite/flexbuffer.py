"""The options of LCE's operators: a FlexBuffer map of ints."""

from __future__ import annotations

from flatbuffers import flexbuffers


def pack_ints(**values: int) -> bytes:
    """LCE looks the keys up by binary search, so they are sorted."""
    builder = flexbuffers.Builder()
    with builder.Map():
        for key in sorted(values):
            builder.Int(key, values[key])
    return bytes(builder.Finish())


def unpack_ints(content: bytes) -> dict[str, int]:
    """What `pack_ints` was given; nothing where there are no options."""
    return dict(flexbuffers.Loads(content)) if content else {}
