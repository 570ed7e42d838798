"""Soft thresholding of wavelet coefficients on a CPU in compiled loops (Numba); see `classical.wavelet`.

Coefficients lie in the usual nested quadrants, low-pass first. Loops run along rows in memory, so the compiler turns
them into vector code: along x the even and the odd samples of a row are taken apart first.
"""

import numpy as np
from numba import njit

from mrirecon.physics.compiled import cached

_compiled = njit(nogil=True, fastmath={"contract", "nsz"})


@_compiled
def _add_scaled(target, a, first, b, second):
    for k in range(len(target)):
        target[k] += a * first[k] + b * second[k]


@_compiled
def _row_buffers(m, taps):
    half = m // 2 + taps
    return np.empty(2 * half, np.float32), np.empty(half, np.float32), np.empty(half, np.float32)


@_compiled
def _analyse_row(row, start, low, high, line, even, odd, bands):
    """One row (m,), read circularly from `start` on, → its low-pass (m / 2,) and its high-pass in `bands`."""
    m, taps = len(row), len(low)
    half, start = m // 2, start % m
    line[: m - start] = row[start:]
    line[m - start : m] = row[:start]
    for k in range(m, m + taps):
        line[k] = line[k - m]
    for k in range(half + taps // 2):
        even[k], odd[k] = line[2 * k], line[2 * k + 1]
    lows, highs = bands[:half], bands[half:m]
    lows[:] = 0
    highs[:] = 0
    for j in range(taps // 2):
        _add_scaled(lows, low[2 * j], even[j : j + half], low[2 * j + 1], odd[j : j + half])
        _add_scaled(highs, high[2 * j], even[j : j + half], high[2 * j + 1], odd[j : j + half])


@_compiled
def _synthesise_row(bands, start, low, high, line, even, odd, row):
    """The adjoint of `_analyse_row`: `bands` (m,) → `row` (m,)."""
    m, taps = len(row), len(low)
    half, halo, start = m // 2, taps // 2 - 1, start % m
    lows, highs = line[: half + halo], line[half + halo : 2 * (half + halo)]
    lows[halo:] = bands[:half]
    highs[halo:] = bands[half:m]
    for k in range(halo):
        lows[k], highs[k] = bands[(k - halo) % half], bands[half + (k - halo) % half]
    even[:half] = 0
    odd[:half] = 0
    for j in range(taps // 2):
        at = halo - j
        _add_scaled(even[:half], low[2 * j], lows[at : at + half], high[2 * j], highs[at : at + half])
        _add_scaled(odd[:half], low[2 * j + 1], lows[at : at + half], high[2 * j + 1], highs[at : at + half])
    for k in range(half):
        line[2 * k], line[2 * k + 1] = even[k], odd[k]
    row[start:] = line[: m - start]
    row[:start] = line[m - start : m]


@cached(fastmath={"contract", "nsz"})
def analyse(image, part, coefficients, low, high, levels, starts):
    """W of the real (part = 0) or imaginary (1) parts of an image (n, 2m), interleaved → coefficients (n, m).

    low, high: taps. starts: (levels, 2), the sample of y and of x that each level begins with.
    """
    n, m = coefficients.shape
    rows, row = np.empty((n, m), np.float32), np.empty(m, np.float32)
    line, even, odd = _row_buffers(m, len(low))
    for level in range(levels):
        for y in range(n):
            if level == 0:
                for x in range(m):
                    row[x] = image[y, 2 * x + part]
            else:
                row[:m] = coefficients[y, :m]
            _analyse_row(row[:m], starts[level, 1], low, high, line, even, odd, rows[y, :m])
        for k in range(n // 2):
            lows, highs = coefficients[k, :m], coefficients[n // 2 + k, :m]
            lows[:] = 0
            highs[:] = 0
            for t in range(0, len(low), 2):
                even_row = rows[(2 * k + t + starts[level, 0]) % n, :m]
                odd_row = rows[(2 * k + t + 1 + starts[level, 0]) % n, :m]
                _add_scaled(lows, low[t], even_row, low[t + 1], odd_row)
                _add_scaled(highs, high[t], even_row, high[t + 1], odd_row)
        n, m = n // 2, m // 2


@cached(fastmath={"contract", "nsz"})
def synthesise(coefficients, image, low, high, levels, starts):
    """The adjoint of `analyse`, which is its inverse. Overwrites `coefficients`."""
    taps = len(low)
    rows = np.empty(image.shape, np.float32)
    line, even, odd = _row_buffers(image.shape[1], taps)
    for level in range(levels - 1, -1, -1):
        n, m = image.shape[0] >> level, image.shape[1] >> level
        target = image if level == 0 else coefficients
        for k in range(n // 2):
            for parity in range(2):
                row = rows[(2 * k + parity + starts[level, 0]) % n, :m]
                row[:] = 0
                for j in range(taps // 2):
                    at = (k - j) % (n // 2)
                    t = 2 * j + parity
                    _add_scaled(row, low[t], coefficients[at, :m], high[t], coefficients[n // 2 + at, :m])
        for y in range(n):
            _synthesise_row(rows[y, :m], starts[level, 1], low, high, line, even, odd, target[y, :m])


@cached(fastmath={"contract", "nsz"}, error_model="numpy")
def threshold(real, imag, value, levels, approximation):
    """Shrink the magnitude of coefficients (n, m), in place; the coarsest low-pass band only if `approximation`."""
    n, m = real.shape
    for y in range(n):
        kept = 0 if approximation or y >= n >> levels else m >> levels
        r, i = real[y], imag[y]
        for x in range(kept, m):
            magnitude = np.sqrt(r[x] * r[x] + i[x] * i[x])
            factor = max(magnitude - value, np.float32(0)) / max(magnitude, np.float32(1e-30))
            r[x] *= factor
            i[x] *= factor
