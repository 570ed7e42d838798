"""Numeric arrays of MATLAB v5 files, every tag of which is checked: SciPy's reader crashes on some damaged ones.

Format: "MAT-File Format", The MathWorks, version 5: a header of 128 bytes, then elements, each with its type and size.
"""

import math
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

HEADER = 128
MATRIX, COMPRESSED = 14, 15
COMPLEX = 0x800
#: Types of stored numbers, and classes of arrays.
NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
CLASSES = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8"}


def read_array(path: Path, name: str) -> NDArray:
    """The numeric array called `name`, axes in MATLAB's order; complex if it has an imaginary part.

    Raises ValueError for a damaged file, and if there is no such array.
    """
    with path.open("rb") as file:
        order = {b"IM": "<", b"MI": ">"}[file.read(HEADER)[-2:]]
        while tag := file.read(8):
            kind, size = struct.unpack(f"{order}II", tag)
            content: bytes | memoryview = file.read(size)
            if len(content) < size:
                raise ValueError("the file ends within an array")
            if kind == COMPRESSED:
                stream = zlib.decompressobj()
                kind, size = struct.unpack(f"{order}II", stream.decompress(content, 8))
                content = stream.decompress(stream.unconsumed_tail, size)
                stream.decompress(stream.unconsumed_tail, 1)  # comes to the check sum
            if kind == MATRIX:
                parts = _elements(memoryview(content), order)
                flags = np.frombuffer(next(parts)[1], f"{order}u4")
                shape = tuple(np.frombuffer(next(parts)[1], f"{order}i4").tolist())
                if bytes(next(parts)[1]).decode("latin1") == name:
                    return _array(int(flags[0]), shape, parts, order)
    raise ValueError(f"there is no array '{name}'")


def _array(flags: int, shape: tuple[int, ...], parts: Iterator[tuple[int, memoryview]], order: str) -> NDArray:
    dtype = np.dtype(CLASSES[flags & 0xFF])
    if min(shape) < 0:
        raise ValueError(f"an array cannot have the shape {shape}")

    def numbers() -> NDArray:
        kind, data = next(parts)
        values = np.frombuffer(data, order + NUMBERS[kind])
        if len(values) != math.prod(shape):
            raise ValueError(f"{len(values)} numbers are no array of shape {shape}")
        return values.reshape(shape, order="F")

    real = numbers()
    if not flags & COMPLEX:
        return real.astype(dtype)
    result = np.empty(shape, np.result_type(dtype, np.complex64), order="F")  # of a size that the numbers confirmed
    result.real, result.imag = real, numbers()
    return result


def _elements(content: memoryview, order: str) -> Iterator[tuple[int, memoryview]]:
    """Type and data of each element of an array, one after the other; small ones lie within their tag."""
    position = 0
    while position + 8 <= len(content):
        kind, size = struct.unpack_from(f"{order}II", content, position)
        if kind >> 16:
            kind, size, start, step = kind & 0xFFFF, kind >> 16, position + 4, 8
        else:
            start, step = position + 8, 8 + -(-size // 8) * 8
        if start + size > len(content):
            raise ValueError("an element is longer than its array")
        yield kind, content[start : start + size]
        position += step
    raise ValueError("an array ends within its elements")
