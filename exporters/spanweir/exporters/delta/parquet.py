"""Columns of Python values -> compressed pages, one of a leaf column for each chunk of rows, and files of chunks.

What arro3 makes of the same rows costs four times as much, and keeps the interpreter locked meanwhile (0.9): here texts
are moved two times, and the lock is let go while they are compressed. Files have the schema that arro3 writes, PLAIN
pages of version 1 and one row group, which all readers know. Source: parquet.thrift of the Parquet format, 2.12, in
Thrift's compact protocol.
"""

import zlib
from collections.abc import Callable, Collection, Sequence
from io import BytesIO
from typing import Any, Final, NamedTuple, TypeAlias

from arro3.core import RecordBatch
from arro3.core import Table as ArrowTable
from arro3.io import read_parquet, write_parquet

from spanweir.exporters.delta.arrow import Layout
from spanweir.exporters.delta.shred import Cells, Column, Leaf, bits, joined, leaves, shred

_TYPES: Final = {
    "BOOLEAN": 0, "INT": 1, "DATE": 1, "LONG": 2, "BIGINT": 2, "TIMESTAMP": 2, "DOUBLE": 5, "STRING": 6, "BINARY": 6,
}  # fmt: skip
_CODECS: Final = {"uncompressed": 0, "snappy": 1, "gzip": 2, "zstd": 6, "lz4_raw": 7}
_NO_ROWS: Final = b"\x16\x00\x19\x0c"
"""`num_rows` 0 and no row groups, in the footer of a file without rows."""
_MAGIC: Final = b"PAR1"
_PAGE_BYTES: Final = 64 << 10
"""Columns of a chunk with less in them wait for those of the file's other chunks: letting go of the lock for each costs
more than compressing it, where other threads wait for the lock."""
_I32, _I64, _BINARY, _STRUCT = 5, 6, 8, 12
Compress: TypeAlias = Callable[[bytes], Any]


class Page(NamedTuple):
    """Cells of one leaf column, as they stand in a file."""

    content: bytes
    cells: int
    size_bytes: int
    """Not compressed."""
    nulls: int
    least: int | None
    most: int | None


class Chunk(NamedTuple):
    """Some rows: of each leaf column of the table a page, or the cells of one that would be small."""

    encoder: "Encoder"
    num_rows: int
    pages: Sequence[Page | Cells]

    def batch(self) -> RecordBatch:
        """The rows, read back."""
        return self.encoder.batch(self)


class Encoder:
    """Of one table."""

    def __init__(self, layout: Layout, compression: str) -> None:
        """`compression` is a codec, with its level in parentheses if it has one: `zstd(3)`."""
        self._layout = layout
        self._leaves = leaves(layout.columns)
        codec, _, level = compression.rstrip(")").partition("(")
        self._compress = _compress(codec, int(level) if level else None)
        self._heads = [_column_head(leaf, _CODECS[codec]) for leaf in self._leaves]
        self._places = {leaf.path[0]: place for place, leaf in enumerate(self._leaves) if len(leaf.path) == 1}
        self._footers: dict[tuple[str, ...], tuple[bytes, bytes]] = {}

    def chunk(self, columns: Sequence[Column]) -> Chunk:
        """Columns of the table, as `shred` takes them; none is empty. Raises what `shred` raises."""
        rows = len(columns[0])
        cells = [
            leaf for (_, kind), column in zip(self._layout.columns, columns, strict=True)
            for leaf in shred(kind, column, rows)
        ]  # fmt: skip
        return Chunk(self, rows, list(map(self._page_if_large, self._leaves, cells)))

    def file(self, chunks: Sequence[Chunk], without: Collection[str] = ()) -> bytes:
        """A file of the chunks' rows, without some columns of the table."""
        parts, groups, offset = [_MAGIC], list[bytes](), len(_MAGIC)
        size = compressed = 0
        columns = zip(self._leaves, self._heads, zip(*[chunk.pages for chunk in chunks], strict=True), strict=True)
        for leaf, head, of_chunks in columns:
            if leaf.path[0] in without:
                continue
            pages = self._pages(leaf, of_chunks)
            column_bytes = sum([len(page.content) for page in pages])
            column_size = sum([page.size_bytes for page in pages])
            groups.append(_column(leaf, head, pages, column_size, column_bytes, offset))
            parts += [page.content for page in pages]
            offset += column_bytes
            size += column_size
            compressed += column_bytes
        rows = sum([chunk.num_rows for chunk in chunks])
        head, tail = self._footer(tuple(without))
        footer = b"".join(
            [
                head, _integer(_I64, 1, rows), b"\x19\x1c\x19", _sizes(len(groups), _STRUCT), *groups,
                _integer(_I64, 1, size), _integer(_I64, 1, rows), _integer(_I64, 3, compressed), b"\0", tail,
            ]
        )  # fmt: skip
        return b"".join([*parts, footer, len(footer).to_bytes(4, "little"), _MAGIC])

    def batch(self, chunk: Chunk) -> RecordBatch:
        (batch,) = read_parquet(BytesIO(self.file([chunk])), batch_size=chunk.num_rows).read_all().to_batches()
        return batch

    def tally(self, chunk: Chunk, name: str) -> tuple[int, int | None, int | None]:
        """How many nulls there are, the least and the most, of a column of numbers that has no others in it."""
        found = chunk.pages[self._places[name]]
        nulls = found.nulls if isinstance(found, Page) else found.levels.entries - found.values
        return nulls, found.least, found.most

    def _footer(self, without: tuple[str, ...]) -> tuple[bytes, bytes]:
        """What stands before and after `num_rows` and the row groups: the schema, and who wrote it, are arro3's."""
        found = self._footers.get(without)
        if found is None:
            file = BytesIO()
            write_parquet(ArrowTable.from_batches([], schema=self._layout.schema).drop_columns(list(without)), file)
            content = file.getvalue()
            head, tail = content[4:-8].split(_NO_ROWS)
            found = self._footers[without] = head, tail
        return found

    def _page_if_large(self, leaf: Leaf, cells: Cells) -> Page | Cells:
        large = leaf.kind == "BOOLEAN" or sum(map(len, cells.parts)) >= _PAGE_BYTES
        return self._page(leaf, cells) if large else cells

    def _pages(self, leaf: Leaf, of_chunks: Sequence[Page | Cells]) -> list[Page]:
        """Small ones that follow each other are put together."""
        pages: list[Page] = []
        waiting: list[Cells] = []
        for each in of_chunks:
            if isinstance(each, Cells):
                waiting.append(each)
                continue
            pages += self._page_of(leaf, waiting)
            pages.append(each)
            waiting = []
        return pages + self._page_of(leaf, waiting)

    def _page_of(self, leaf: Leaf, cells: Sequence[Cells]) -> list[Page]:
        """None of nothing."""
        if len(cells) < 2:
            return [self._page(leaf, each) for each in cells]
        return [self._page(leaf, joined(cells, (1,) * len(cells)))]

    def _page(self, leaf: Leaf, cells: Cells) -> Page:
        levels = cells.levels
        body = b"".join(
            [
                _levels(levels.repetitions or 0, levels.entries, leaf.repetition),
                _levels(levels.definitions, levels.entries, leaf.definition),
                *cells.parts,
            ]
        )
        compressed = self._compress(body)
        header = b"".join(
            [
                b"\x15\0", _integer(_I32, 1, len(body)), _integer(_I32, 1, len(compressed)), b"\x2c",
                _integer(_I32, 1, levels.entries), b"\x15\0\x15\6\x15\6\0\0",
            ]
        )  # fmt: skip
        size = len(header) + len(body)
        content = b"".join((header, compressed))
        return Page(content, levels.entries, size, levels.entries - cells.values, cells.least, cells.most)


def _levels(levels: bytes | int, count: int, most: int) -> bytes:
    if not most:
        return b""
    if isinstance(levels, int) or levels.count(levels[0]) == count:
        runs = _varint(count << 1) + bytes((levels if isinstance(levels, int) else levels[0],))
    else:
        groups = -(-count // 8)
        runs = _varint(groups << 1 | 1) + bits(levels + bytes(groups * 8 - count), most.bit_length())
    return len(runs).to_bytes(4, "little") + runs


def _column_head(leaf: Leaf, codec: int) -> bytes:
    """A column's metadata up to the numbers: type, encodings PLAIN and RLE, path, codec."""
    path = [name.encode() for name in leaf.path]
    names = b"".join([_varint(len(name)) + name for name in path])
    kind = _TYPES[leaf.kind]
    return b"".join(
        [b"\x26\0\x1c", _integer(_I32, 1, kind), b"\x19\x25\0\6\x19", _sizes(len(path), _BINARY), names,
         _integer(_I32, 1, codec)]
    )  # fmt: skip


def _column(leaf: Leaf, head: bytes, pages: Sequence[Page], size: int, compressed: int, offset: int) -> bytes:
    parts = [
        head, _integer(_I64, 1, sum([page.cells for page in pages])), _integer(_I64, 1, size),
        _integer(_I64, 1, compressed), _integer(_I64, 2, offset),
    ]  # fmt: skip
    least = [page.least for page in pages if page.least is not None]
    most = [page.most for page in pages if page.most is not None]
    if least and most:
        width = 4 if _TYPES[leaf.kind] == 1 else 8
        low, high = min(least).to_bytes(width, "little", signed=True), max(most).to_bytes(width, "little", signed=True)
        length = bytes((width,))
        nulls = _integer(_I64, 3, sum([page.nulls for page in pages]))
        parts += [b"\x3c", nulls, b"\x28", length, high, b"\x18", length, low, b"\0"]
    return b"".join([*parts, b"\0\0"])


def _integer(kind: int, step: int, value: int) -> bytes:
    """A field that is no less than 0; `step` is from the number of the field before it."""
    return bytes((step << 4 | kind,)) + _varint(value << 1)


def _sizes(count: int, kind: int) -> bytes:
    """How a list begins."""
    return bytes((count << 4 | kind,)) if count < 15 else bytes((0xF0 | kind,)) + _varint(count)


def _varint(value: int) -> bytes:
    if value < 0x80:
        return bytes((value,))
    made = bytearray()
    while value >= 0x80:
        made.append(value & 0x7F | 0x80)
        value >>= 7
    made.append(value)
    return bytes(made)


def _compress(codec: str, level: int | None) -> Compress:
    """All but gzip's let go of the interpreter's lock, and of small blocks that too."""
    import cramjam

    match codec:
        case "uncompressed":
            return lambda content: content
        case "gzip":
            return lambda content: zlib.compress(content, 6 if level is None else level, wbits=31)
        case "zstd":
            return lambda content: cramjam.zstd.compress(content, level=1 if level is None else level)
        case "lz4_raw":
            return lambda content: cramjam.lz4.compress_block(content, store_size=False)
    return cramjam.snappy.compress_raw
