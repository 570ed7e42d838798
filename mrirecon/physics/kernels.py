"""A^H A on a CPU in compiled loops (Numba): multiply, transform, weight, transform back and combine, coil by coil.

Sixteen image columns go through a Fourier transform side by side, one per lane of the processor's vectors, in a piece
of memory that stays in a core's cache. Forward transforms leave the frequencies in the order in which they arise, and
transforms back begin in that order, so nothing is sorted; the mask's weights are (`Plan.order`).

Arrays are float32 with real and imaginary parts interleaved, as complex64 lies in memory. Work arrays hold 16 real
parts, then the 16 imaginary parts: element k of all 16 transforms begins at 2 · LANES · k.
"""

import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic, models, overload, register_model
from numpy.typing import NDArray

from mrirecon.physics.compiled import LANES, cached

#: Floats of one element of 16 transforms.
PAIR = 2 * LANES
#: Radices with a butterfly of straight code. Other prime factors take loops, and a time that grows as their square.
RADICES = (2, 3, 4, 5, 8)


@dataclass(frozen=True)
class Plan:
    """How a transform of n samples is split into passes (mixed radix, decimation in frequency; Cooley & Tukey, 1965).

    radices: of the passes. table: of each pass the factors exp(-2πi j q / length) of its butterflies and, for a prime
    beyond RADICES, its own roots of unity. order: the frequency that is found at each position after the last pass.
    """

    radices: NDArray[np.int64]
    table: NDArray[np.float32]
    order: NDArray[np.int64]

    @staticmethod
    def of(n: int) -> "Plan":
        radices: list[int] = []
        rest = n
        for radix in (8, 4, 2, 3, 5, *range(7, n + 1, 2)):
            while rest % radix == 0 and rest > 1:
                radices.insert(0, radix)  # 8 or 4 come last, where there are no factors to multiply by
                rest //= radix
        table, length = [np.zeros(0, np.complex128)], n
        order = np.zeros(1, np.int64)
        for radix in radices:
            m = length // radix
            table.append(np.exp(-2j * np.pi / length * np.outer(np.arange(m), np.arange(1, radix))).ravel())
            if radix not in RADICES:
                table.append(np.exp(-2j * np.pi / radix * np.arange(radix)))
            length = m
        for radix in reversed(radices):
            order = np.concatenate([q + radix * order for q in range(radix)])
        return Plan(np.array(radices, np.int64), np.concatenate(table).astype(np.complex64).view(np.float32), order)


# --- sixteen floats as one value ---

_VECTOR = ir.VectorType(ir.FloatType(), LANES)
#: Products and sums may be one rounding instead of two.
_FLAGS = ("contract", "nsz")
#: Which lanes of two vectors, the second counted from LANES, make a new one.
_EVEN, _ODD = range(0, PAIR, 2), range(1, PAIR, 2)
_LOW = [i // 2 + LANES * (i % 2) for i in range(LANES)]
_HIGH = [i + LANES // 2 for i in _LOW]


class _Lanes(types.Type):
    """Numba's type of 16 floats."""

    def __init__(self) -> None:
        super().__init__("Lanes")


_lanes = _Lanes()


@register_model(_Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any):
        super().__init__(manager, kind, _VECTOR)


def _address(context: Any, builder: Any, kind: Any, array: Any, index: Any) -> Any:
    data = context.make_array(kind)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), _VECTOR.as_pointer())


def _shuffle(builder: Any, a: Any, b: Any, lanes: Sequence[int]) -> Any:
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(ir.IntType(32), LANES), list(lanes)))


def _spread(builder: Any, scalar: Any) -> Any:
    first = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), scalar, ir.Constant(ir.IntType(32), 0))
    return _shuffle(builder, first, first, [0] * LANES)


@intrinsic
def load(typing: Any, array: Any, index: Any) -> Any:
    """The 16 floats of an array from `index` on."""

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.load(_address(context, builder, signature.args[0], *values), align=4)

    return _lanes(array, types.intp), emit


@intrinsic
def store(typing: Any, array: Any, index: Any, value: Any) -> Any:
    """Write 16 floats to an array from `index` on."""

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        builder.store(values[2], _address(context, builder, signature.args[0], *values[:2]), align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, _lanes), emit


@intrinsic
def spread(typing: Any, scalar: Any) -> Any:
    """One float in all lanes."""
    return _lanes(types.float32), lambda context, builder, signature, values: _spread(builder, values[0])


def _rearrangement(first: Sequence[int], second: Sequence[int]) -> Any:
    """Two vectors → two vectors of their lanes."""

    @intrinsic
    def rearranged(typing: Any, a: Any, b: Any) -> Any:
        def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            both = [_shuffle(builder, values[0], values[1], lanes) for lanes in (first, second)]
            return context.make_tuple(builder, signature.return_type, both)

        return types.UniTuple(_lanes, 2)(_lanes, _lanes), emit

    return rearranged


#: 16 interleaved complex numbers → their real parts and their imaginary parts, and back.
_separated, _interleaved = _rearrangement(_EVEN, _ODD), _rearrangement(_LOW, _HIGH)


def _arithmetic(symbol: Callable[..., Any], instruction: str) -> None:
    @intrinsic
    def lane_by_lane(typing: Any, a: Any, b: Any) -> Any:
        def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            return getattr(builder, instruction)(*values, flags=_FLAGS)

        return _lanes(_lanes, _lanes), emit

    @overload(symbol)
    def implementation(a, b):  # Numba compares signatures
        return (lambda a, b: lane_by_lane(a, b)) if a is _lanes and b is _lanes else None


for _symbol, _instruction in (
    (operator.add, "fadd"),
    (operator.iadd, "fadd"),
    (operator.sub, "fsub"),
    (operator.mul, "fmul"),
):
    _arithmetic(_symbol, _instruction)


@intrinsic
def transpose(typing: Any, source: Any, first: Any, step: Any, target: Any, to: Any, to_step: Any) -> Any:
    """Lane i of the k-th of 16 vectors in `source` becomes lane k of the i-th in `target`; steps between vectors."""

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        source, first, step, target, to, to_step = values

        def at(kind: Any, array: Any, start: Any, stride: Any, k: int) -> Any:
            index = builder.add(start, builder.mul(stride, ir.Constant(stride.type, k)))
            return _address(context, builder, kind, array, index)

        rows = [builder.load(at(signature.args[0], source, first, step, k), align=4) for k in range(LANES)]
        half = LANES // 2
        for _ in range(LANES.bit_length() - 1):  # each perfect shuffle exchanges one bit of (vector, lane)
            rows = [_shuffle(builder, rows[i], rows[i + half], lanes) for i in range(half) for lanes in (_LOW, _HIGH)]
        for k, row in enumerate(rows):
            builder.store(row, at(signature.args[3], target, to, to_step, k), align=4)
        return context.get_dummy_value()

    return types.void(source, types.intp, types.intp, target, types.intp, types.intp), emit


# --- Fourier transforms ---


class _Complex:
    """Complex numbers in 16 lanes, as pairs of values of the code that is being made."""

    def __init__(self, builder: Any):
        self._builder = builder

    def plus(self, a: Any, b: Any) -> Any:
        return tuple(self._builder.fadd(x, y, flags=_FLAGS) for x, y in zip(a, b, strict=True))

    def minus(self, a: Any, b: Any) -> Any:
        return tuple(self._builder.fsub(x, y, flags=_FLAGS) for x, y in zip(a, b, strict=True))

    def scaled(self, a: Any, factor: float) -> Any:
        constant = ir.Constant(_VECTOR, [float(np.float32(factor))] * LANES)
        return tuple(self._builder.fmul(x, constant, flags=_FLAGS) for x in a)

    def times(self, a: Any, b: Any) -> Any:
        product = [[self._builder.fmul(x, y, flags=_FLAGS) for y in b] for x in a]
        return (
            self._builder.fsub(product[0][0], product[1][1], flags=_FLAGS),
            self._builder.fadd(product[0][1], product[1][0], flags=_FLAGS),
        )

    def times_minus_i(self, a: Any) -> Any:
        return a[1], self._builder.fneg(a[0])

    def transform(self, z: list[Any]) -> list[Any]:
        """Σ_k z_k exp(-2πi q k / r) for q = 0 … r − 1, of r = 2, 4, 8 or an odd prime."""
        r = len(z)
        if r == 1:
            return z
        if r % 2 == 0:
            even, odd = self.transform(z[::2]), self.transform(z[1::2])
            turned = [self._turned(value, q, r) for q, value in enumerate(odd)]
            pairs = list(zip(even, turned, strict=True))
            return [self.plus(*pair) for pair in pairs] + [self.minus(*pair) for pair in pairs]
        half = range(1, r // 2 + 1)
        sums, differences = ({k: of(z[k], z[r - k]) for k in half} for of in (self.plus, self.minus))
        transformed = [z[0]] * r
        for k in half:
            transformed[0] = self.plus(transformed[0], sums[k])
        for q in half:
            cosines, sines = z[0], None
            for k in half:
                angle = 2 * math.pi * (q * k % r) / r
                cosines = self.plus(cosines, self.scaled(sums[k], math.cos(angle)))
                term = self.scaled(differences[k], math.sin(angle))
                sines = term if sines is None else self.plus(sines, term)
            turned_sines = self.times_minus_i(sines)
            transformed[q], transformed[r - q] = self.plus(cosines, turned_sines), self.minus(cosines, turned_sines)
        return transformed

    def _turned(self, a: Any, q: int, r: int) -> Any:
        """a · exp(-2πi q / r) for q < r / 2 and r = 2, 4 or 8."""
        for _ in range(q * 4 // r):
            a = self.times_minus_i(a)
        return self.scaled(self.plus(a, self.times_minus_i(a)), math.sqrt(0.5)) if q * 8 // r % 2 else a


@intrinsic(prefer_literal=True)
def _butterfly(
    typing: Any, radix: Any, back: Any, plain: Any, buffer: Any, first: Any, step: Any, table: Any, factors: Any
) -> Any:
    """Transform `radix` elements in place, from `first` on in steps, times the table's factors from `factors` on.

    plain (literal 0 or 1): all factors are one. back (literal 0 or 1): the adjoint. Exchanging real and imaginary parts
    makes it the same sums with the same factors, which then come before and not after the sums.
    """
    r, backwards, turning = radix.literal_value, bool(back.literal_value), not plain.literal_value

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        _, _, _, buffer, first, step, table, factors = values

        def plus(index: Any, number: int) -> Any:
            return builder.add(index, ir.Constant(index.type, number))

        def element(k: int) -> list[Any]:
            start = builder.add(first, builder.mul(step, ir.Constant(step.type, k)))
            parts = (LANES, 0) if backwards else (0, LANES)
            return [_address(context, builder, signature.args[3], buffer, plus(start, part)) for part in parts]

        def turned(z: list[Any]) -> list[Any]:
            return [z[0], *(numbers.times(*pair) for pair in zip(z[1:], turns, strict=True))] if turning else z

        data = context.make_array(signature.args[6])(context, builder, table).data
        turns = [
            tuple(_spread(builder, builder.load(builder.gep(data, [plus(factors, 2 * q + part)]))) for part in (0, 1))
            for q in range(r - 1)
        ]
        numbers = _Complex(builder)
        places = [element(k) for k in range(r)]
        z = [tuple(builder.load(part, align=4) for part in place) for place in places]
        z = numbers.transform(turned(z)) if backwards else turned(numbers.transform(z))
        for place, value in zip(places, z, strict=True):
            for part, lanes in zip(place, value, strict=True):
                builder.store(lanes, part, align=4)
        return context.get_dummy_value()

    arguments = (radix, back, plain, buffer, types.intp, types.intp, table, types.intp)
    return types.void(*arguments), emit


@njit(nogil=True)
def _product(a_real, a_imag, b_real, b_imag):
    return a_real * b_real - a_imag * b_imag, a_real * b_imag + a_imag * b_real


@njit(nogil=True)
def _prime_butterfly(p, back, buffer, first, step, table, factors, roots, work):
    """`_butterfly` for an odd prime that is only known at run time; `work` has room for p elements."""
    real, imag = (LANES, 0) if back else (0, LANES)
    for k in range(p):
        z_real, z_imag = load(buffer, first + k * step + real), load(buffer, first + k * step + imag)
        if back and k > 0:
            turn = factors + 2 * (k - 1)
            z_real, z_imag = _product(z_real, z_imag, spread(table[turn]), spread(table[turn + 1]))
        store(work, k * PAIR, z_real)
        store(work, k * PAIR + LANES, z_imag)
    for k in range(1, p // 2 + 1):  # sums in place of the first half, differences in place of the second
        for part in range(0, PAIR, LANES):
            one, other = load(work, k * PAIR + part), load(work, (p - k) * PAIR + part)
            store(work, k * PAIR + part, one + other)
            store(work, (p - k) * PAIR + part, one - other)
    for q in range(p // 2 + 1):
        cos_real, cos_imag = load(work, 0), load(work, LANES)
        sin_real, sin_imag = spread(np.float32(0)), spread(np.float32(0))
        turn = 0
        for k in range(1, p // 2 + 1):
            turn = turn + q if turn + q < p else turn + q - p
            cosine, sine = spread(table[roots + 2 * turn]), spread(-table[roots + 2 * turn + 1])
            cos_real += cosine * load(work, k * PAIR)
            cos_imag += cosine * load(work, k * PAIR + LANES)
            sin_real += sine * load(work, (p - k) * PAIR)
            sin_imag += sine * load(work, (p - k) * PAIR + LANES)
        for frequency in (q, p - q):
            if frequency == p:
                continue
            if frequency == q:
                z_real, z_imag = cos_real + sin_imag, cos_imag - sin_real
            else:
                z_real, z_imag = cos_real - sin_imag, cos_imag + sin_real
            if not back and frequency > 0:
                turn = factors + 2 * (frequency - 1)
                z_real, z_imag = _product(z_real, z_imag, spread(table[turn]), spread(table[turn + 1]))
            store(buffer, first + frequency * step + real, z_real)
            store(buffer, first + frequency * step + imag, z_imag)


def _transform(back: int) -> Any:
    """The transform of 16 columns, not scaled, in place; back = 1: its adjoint."""

    @njit(nogil=True)
    def run(buffer, start, n, radices, table):
        length, position, work = n, 0, np.empty(0, np.float32)
        if back:
            length, position = 1, len(table)
        for number in range(len(radices)):
            radix = radices[len(radices) - 1 - number if back else number]
            m = length if back else length // radix
            factors = 2 * m * (radix - 1)
            roots = 0 if radix in RADICES else 2 * radix
            if back:
                length = m * radix
                position -= factors + roots
            if roots > len(work):
                work = np.empty(radix * PAIR, np.float32)
            for block in range(start, start + n * PAIR, length * PAIR):
                for j in range(m):
                    first, factor = block + j * PAIR, position + 2 * j * (radix - 1)
                    if radix == 8 and m == 1:
                        _butterfly(8, back, 1, buffer, first, PAIR, table, factor)
                    elif radix == 4 and m == 1:
                        _butterfly(4, back, 1, buffer, first, PAIR, table, factor)
                    elif radix == 8:
                        _butterfly(8, back, 0, buffer, first, m * PAIR, table, factor)
                    elif radix == 4:
                        _butterfly(4, back, 0, buffer, first, m * PAIR, table, factor)
                    elif radix == 2:
                        _butterfly(2, back, 0, buffer, first, m * PAIR, table, factor)
                    elif radix == 3:
                        _butterfly(3, back, 0, buffer, first, m * PAIR, table, factor)
                    elif radix == 5:
                        _butterfly(5, back, 0, buffer, first, m * PAIR, table, factor)
                    else:
                        _prime_butterfly(radix, back, buffer, first, m * PAIR, table, factor, position + factors, work)
            if not back:
                position += factors + roots
                length = m

    return run


_forward, _back = _transform(0), _transform(1)


# --- A^H A ---


@njit(nogil=True)
def _zeros(count):
    """Of `count` floats, at a multiple of 64 bytes: vectors that straddle two cache lines take a third longer."""
    memory = np.zeros(count + LANES, np.float32)
    skipped = -memory.ctypes.data % (4 * LANES) // 4
    return memory[skipped : skipped + count]


@njit(nogil=True)
def _coil_image(maps, image, at, target, to):
    """S x of 16 pixels."""
    map_real, map_imag = _separated(load(maps, at), load(maps, at + LANES))
    real, imag = _separated(load(image, at), load(image, at + LANES))
    real, imag = _product(map_real, map_imag, real, imag)
    store(target, to, real)
    store(target, to + LANES, imag)


@njit(nogil=True)
def _combine(maps, at, source, of, total, to, begin):
    """Add conj(S) z of 16 pixels to `total`, or begin it."""
    map_real, map_imag = _separated(load(maps, at), load(maps, at + LANES))
    real, imag = _product(load(source, of), load(source, of + LANES), map_real, spread(np.float32(0)) - map_imag)
    if not begin:
        real, imag = real + load(total, to), imag + load(total, to + LANES)
    store(total, to, real)
    store(total, to + LANES, imag)


@njit(nogil=True)
def _weigh(buffer, at, weight):
    store(buffer, at, load(buffer, at) * weight)
    store(buffer, at + LANES, load(buffer, at + LANES) * weight)


@cached()
def normal_of_lines(maps, image, weights, radices, table, out, first, last):
    """A^H A x for a mask that is constant along the last axis, of the columns in blocks `first` to `last` − 1.

    maps: (coils, n, 2m). image, out: (n, 2m). weights: (n,), in the plan's order. m ≥ 16; the last block of 16 columns
    overlaps the one before it where m is no multiple.
    """
    coils, n, row = maps.shape
    buffer, total = _zeros(n * PAIR), _zeros(n * PAIR)
    pixels, combined = image.ravel(), out.ravel()
    for block in range(first, last):
        column = min(block * PAIR, row - PAIR)
        for coil in range(coils):
            coil_map = maps[coil].ravel()
            for k in range(n):
                _coil_image(coil_map, pixels, k * row + column, buffer, k * PAIR)
            _forward(buffer, 0, n, radices, table)
            for k in range(n):
                _weigh(buffer, k * PAIR, spread(weights[k]))
            _back(buffer, 0, n, radices, table)
            for k in range(n):
                _combine(coil_map, k * row + column, buffer, k * PAIR, total, k * PAIR, coil == 0)
        for k in range(n):
            real, imag = _interleaved(load(total, k * PAIR), load(total, k * PAIR + LANES))
            store(combined, k * row + column, real)
            store(combined, k * row + column + LANES, imag)


@cached()
def normal_of_points(maps, image, weights, radices, table, row_radices, row_table, total, first, last):
    """The part of A^H A x that coils `first` to `last` − 1 contribute, for any mask.

    maps: (coils, n, 2m). image: (n, 2m). weights: (blocks of 16 n, 16 m), in the order of both plans, 16 rows side by
    side. total: (blocks of 16 columns, 2 · 16 n); m ≥ 16, and the last block overlaps the one before it.
    """
    _, n, row = maps.shape
    m = row // 2
    blocks, rows = len(total), len(weights)
    size = rows * LANES * PAIR  # of one block of columns, with rows up to a multiple of 16
    work, buffer = _zeros(blocks * size), _zeros(m * PAIR)
    pixels = image.ravel()
    for coil in range(first, last):
        coil_map = maps[coil].ravel()
        for block in range(blocks):
            column = min(block * PAIR, row - PAIR)
            for k in range(n):
                _coil_image(coil_map, pixels, k * row + column, work, block * size + k * PAIR)
            _forward(work, block * size, n, radices, table)
        for group in range(rows):  # 16 rows at a time become columns, are transformed, and become rows again
            corner, weight = group * LANES * PAIR, weights[group]
            for block in range(blocks):
                column = min(block * PAIR, row - PAIR) * LANES
                for part in range(0, PAIR, LANES):
                    transpose(work, block * size + corner + part, PAIR, buffer, column + part, PAIR)
            _forward(buffer, 0, m, row_radices, row_table)
            for k in range(m):
                _weigh(buffer, k * PAIR, load(weight, k * LANES))
            _back(buffer, 0, m, row_radices, row_table)
            for block in range(blocks):
                column = min(block * PAIR, row - PAIR) * LANES
                for part in range(0, PAIR, LANES):
                    transpose(buffer, column + part, PAIR, work, block * size + corner + part, PAIR)
        for block in range(blocks):
            column = min(block * PAIR, row - PAIR)
            _back(work, block * size, n, radices, table)
            for k in range(n):
                at = block * size + k * PAIR
                _combine(coil_map, k * row + column, work, at, total[block], k * PAIR, coil == first)


@cached()
def sum_of_parts(parts, out):
    """Σ of `parts` (threads, blocks of 16 columns, 2 · 16 n) → out (n, 2m)."""
    count, blocks, _ = parts.shape
    n, row = out.shape
    combined = out.ravel()
    for block in range(blocks):
        column = min(block * PAIR, row - PAIR)
        for k in range(n):
            real, imag = load(parts[0, block], k * PAIR), load(parts[0, block], k * PAIR + LANES)
            for part in range(1, count):
                real += load(parts[part, block], k * PAIR)
                imag += load(parts[part, block], k * PAIR + LANES)
            real, imag = _interleaved(real, imag)
            store(combined, k * row + column, real)
            store(combined, k * row + column + LANES, imag)
