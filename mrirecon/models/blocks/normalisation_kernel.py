"""Instance norm and LeakyReLU on a CPU in compiled loops (Numba); see `normalisation`.

Images are rows of several pixels, each with all its channels side by side: float32, or bfloat16 as uint16. Sums are in
float32.
"""

import numpy as np
from numba import njit, types
from numba.extending import overload

from mrirecon.physics.compiled import cached

_MATHS = {"contract", "nsz"}


def _widened(row, bits):
    """The row as float32; one of bfloat16 in the memory of `bits` (uint32)."""


@overload(_widened)
def _widened_for(row, bits):
    if row.dtype == types.float32:
        return lambda row, bits: row

    def widen(row, bits):
        for k in range(len(row)):
            bits[k] = np.uint32(row[k]) << np.uint32(16)
        return bits.view(np.float32)

    return widen


def _put(values, bits, row):
    """Write float32 `values`, whose memory is `bits`, to the row; rounded to the nearest if that is bfloat16."""


@overload(_put)
def _put_for(values, bits, row):
    if row.dtype == types.float32:

        def put(values, bits, row):
            row[:] = values
    else:

        def put(values, bits, row):
            for k in range(len(row)):
                half = np.uint32(0x7FFF) + ((bits[k] >> np.uint32(16)) & np.uint32(1))
                row[k] = (bits[k] + half) >> np.uint32(16)

    return put


@njit(nogil=True, fastmath=_MATHS)
def _add(total, row):
    for k in range(len(total)):
        total[k] += row[k]


@njit(nogil=True, fastmath=_MATHS)
def _add_squares(total, row, mean):
    for k in range(len(total)):
        total[k] += (row[k] - mean[k]) * (row[k] - mean[k])


@njit(nogil=True, fastmath=_MATHS)
def _normalise(row, mean, scale, slope, out):
    for k in range(len(row)):
        value = (row[k] - mean[k]) * scale[k]
        out[k] = max(value, slope * value)


@cached(fastmath=_MATHS)
def sums(rows, total, first, last):
    """Σ of the rows `first` to `last` − 1 of (rows, width) → total (width,)."""
    bits = np.empty(len(total), np.uint32)
    total[:] = 0
    for r in range(first, last):
        _add(total, _widened(rows[r], bits))


@cached(fastmath=_MATHS)
def squares(rows, mean, total, first, last):
    """Σ (row − mean)² of the rows `first` to `last` − 1 → total (width,)."""
    bits = np.empty(len(total), np.uint32)
    total[:] = 0
    for r in range(first, last):
        _add_squares(total, _widened(rows[r], bits), mean)


@cached(fastmath=_MATHS)
def normalised(rows, mean, scale, slope, out, first, last):
    """LeakyReLU((row − mean) · scale) of the rows `first` to `last` − 1 → out (rows, width), slope < 1."""
    bits, result = np.empty(len(mean), np.uint32), np.empty(len(mean), np.uint32)
    for r in range(first, last):
        _normalise(_widened(rows[r], bits), mean, scale, slope, result.view(np.float32))
        _put(result.view(np.float32), result, out[r])


@cached(fastmath=_MATHS)
def whole(rows, channels, epsilon, slope, out, scale):
    """All of it for one image, by one thread; scale (width,) is 1 / √(variance + epsilon) of each channel."""
    count, width = rows.shape
    total, mean = np.empty(width, np.float32), np.empty(width, np.float32)
    sums(rows, total, 0, count)
    _spread_means(total, channels, count, mean)
    squares(rows, mean, total, 0, count)
    _spread_means(total, channels, count, scale)
    for k in range(width):
        scale[k] = np.float32(1) / np.sqrt(scale[k] + epsilon)
    normalised(rows, mean, scale, slope, out, 0, count)


@njit(nogil=True)
def _spread_means(total, channels, count, mean):
    """Sums over `count` rows → the mean of each channel, once per pixel of a row."""
    pixels = len(total) // channels
    for c in range(channels):
        value = np.float32(0)
        for k in range(c, len(total), channels):
            value += total[k]
        for k in range(c, len(total), channels):
            mean[k] = value / np.float32(count * pixels)
