"""What the headers of an ELF file say (System V ABI, gABI 4.1): its segments, and the functions that it takes."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

# By ABI: the number of the machine, and whether its words have 64 bits.
MACHINES = {
    "aarch64-linux-gnu": (183, True),
    "arm-linux-gnueabihf": (40, False),
    "arm64-v8a": (183, True),
    "armeabi-v7a": (40, False),
}
# Of newer phones, and of Raspberry Pi 5's kernel.
PAGE = 16 * 1024
LOAD, DYNAMIC, RELRO, STACK = 1, 2, 0x6474E552, 0x6474E551
EXECUTABLE, WRITABLE = 1, 2
# Entries of the dynamic section, and a symbol's section where the file only takes it.
STRINGS, SYMBOLS, SYMBOL_SIZE, TEXT_RELOCATIONS, HASH = 5, 6, 11, 22, 4
UNDEFINED = 0


def elf(path: Path) -> tuple[int, bool]:
    """The machine's number, and whether words have 64 bits."""
    file = Elf(path)
    return file.machine, file.is_wide


@dataclass(frozen=True)
class Segment:
    """A program header."""

    kind: int
    flags: int
    offset: int
    address: int
    file_size: int
    size: int
    alignment: int

    @property
    def end(self) -> int:
        return self.address + self.size


class Elf:
    """A little-endian file of 32 or 64 bits."""

    def __init__(self, path: Path) -> None:
        self._content = path.read_bytes()
        assert self._content[:4] == b"\x7fELF"
        self.is_wide = self._content[4] == 2
        (self.machine,) = struct.unpack_from("<H", self._content, 18)
        at, count_at = (32, 56) if self.is_wide else (28, 44)
        size = 56 if self.is_wide else 32
        begin = self._word(at)
        (count,) = struct.unpack_from("<H", self._content, count_at)
        self.segments = [self._segment(begin + index * size) for index in range(count)]

    def loaded(self) -> list[Segment]:
        return self.of_kind(LOAD)

    def of_kind(self, kind: int) -> list[Segment]:
        return [segment for segment in self.segments if segment.kind == kind]

    def dynamic(self) -> dict[int, int]:
        """By tag, the last value; of a shared library without text relocations, addresses are offsets in the file's
        first segment.
        """
        (segment,) = self.of_kind(DYNAMIC)
        size = 16 if self.is_wide else 8
        entries = range(segment.offset, segment.offset + segment.file_size, size)
        return {self._word(entry): self._word(entry + size // 2) for entry in entries}

    def imports(self) -> set[str]:
        """The names of the symbols that others must bring."""
        entries = self.dynamic()
        symbols, strings, size = entries[SYMBOLS], entries[STRINGS], entries[SYMBOL_SIZE]
        (count,) = struct.unpack_from("<I", self._content, entries[HASH] + 4)
        names = set()
        for symbol in range(symbols + size, symbols + count * size, size):
            (name,) = struct.unpack_from("<I", self._content, symbol)
            (section,) = struct.unpack_from("<H", self._content, symbol + (6 if self.is_wide else 14))
            if section == UNDEFINED:
                end = self._content.index(b"\0", strings + name)
                names.add(self._content[strings + name : end].decode())
        return names

    def _word(self, at: int) -> int:
        return int(struct.unpack_from("<Q" if self.is_wide else "<I", self._content, at)[0])

    def _segment(self, at: int) -> Segment:
        fields = struct.unpack_from("<IIQQQQQQ" if self.is_wide else "<8I", self._content, at)
        if self.is_wide:
            kind, flags, offset, address, _, file_size, size, alignment = fields
        else:
            kind, offset, address, _, file_size, size, flags, alignment = fields
        return Segment(kind, flags, offset, address, file_size, size, alignment)


def assert_that_it_loads_on_pages_of_16_kib(path: Path) -> None:
    """Every segment is aligned for them, none is written and executed, and what becomes read-only after relocation
    shares no page with what does not.
    """
    file = Elf(path)
    writable = [segment for segment in file.loaded() if segment.flags & WRITABLE]
    for segment in file.loaded():
        assert segment.alignment == PAGE
        assert segment.address % PAGE == segment.offset % PAGE
        assert segment.flags & (WRITABLE | EXECUTABLE) != WRITABLE | EXECUTABLE
    pages = [{*range(segment.address // PAGE, -(-segment.end // PAGE))} for segment in file.loaded()]
    assert sum(map(len, pages)) == len(set().union(*pages))
    for read_only in file.of_kind(RELRO):
        (owner,) = (one for one in writable if one.address <= read_only.address < one.end)
        end = -(-read_only.end // PAGE) * PAGE
        assert owner.end <= end
    assert not any(segment.flags & EXECUTABLE for segment in file.of_kind(STACK))
    assert TEXT_RELOCATIONS not in file.dynamic()
