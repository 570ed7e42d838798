"""A^H A in one pass over the coils on a CPU: the tensors and threads around `physics.kernels`."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mrirecon.physics.compiled import LANES, in_parts


def can_fuse(maps: Tensor, axes: tuple[int, ...]) -> bool:
    """Whether `FusedNormal` takes these maps (batch, coils, y, x), for a mask that varies along `axes`.

    It works on LANES columns at once; narrower images are left to plain operators.
    """
    columns = maps.shape[-2 if axes == (-1,) else -1]
    return bool(axes) and maps.device.type == "cpu" and maps.dtype == torch.complex64 and columns >= LANES


class FusedNormal:
    """A^H A for maps and a mask that stay as they are. No gradients; A^H A is its own.

    maps: complex64 (batch, coils, y, x) on the CPU, with D_x folded in; as attribute, laid out as the loops need them.
    weights: float32 (batch, 1, y or 1, x or 1), the mask over the transforms' scaling. axes: along which the mask
    varies, not none.
    """

    def __init__(self, maps: Tensor, weights: Tensor, axes: tuple[int, ...]):
        from mrirecon.physics.kernels import Plan

        self._along_x = axes == (-1,)
        laid_out = self._laid_out(maps)
        self.maps = laid_out.mT if self._along_x else laid_out
        self._maps = _floats(laid_out)
        batch, _, n, width = self._maps.shape
        self._plan, self._row_plan = Plan.of(n), Plan.of(width // 2)
        sampled = weights.detach().expand(batch, -1, -1, -1)[:, 0].numpy()
        if len(axes) == 1:
            self._weights = np.ascontiguousarray(sampled.reshape(batch, n)[:, self._plan.order])
        else:
            ordered = np.zeros((batch, -(-n // LANES) * LANES, width // 2), np.float32)
            ordered[:, :n] = sampled[:, self._plan.order][:, :, self._row_plan.order]
            self._weights = (
                ordered.reshape(batch, -1, LANES, width // 2).swapaxes(-1, -2).reshape(batch, -1, LANES * width // 2)
            )

    def __call__(self, image: Tensor) -> Tensor:
        """A^H A x: complex64 (batch, y, x) → (batch, y, x)."""
        pixels = _floats(self._laid_out(image))
        out = torch.empty(pixels.shape).numpy()  # torch's memory begins at multiples of 64 bytes
        apply = self._points if self._weights.ndim == 3 else self._lines
        for entry in range(len(pixels)):
            apply(entry, pixels[entry], out[entry])
        found = torch.view_as_complex(torch.from_numpy(out).unflatten(-1, (-1, 2)))
        return found.mT.contiguous() if self._along_x else found

    def _lines(self, entry: int, image: NDArray[np.float32], out: NDArray[np.float32]) -> None:
        from mrirecon.physics.kernels import normal_of_lines

        def part(first: int, last: int, number: int) -> None:
            normal_of_lines(
                self._maps[entry], image, self._weights[entry], self._plan.radices, self._plan.table, out, first, last
            )

        in_parts(part, _blocks(image))

    def _points(self, entry: int, image: NDArray[np.float32], out: NDArray[np.float32]) -> None:
        from mrirecon.physics.kernels import normal_of_points, sum_of_parts

        coils, n, _ = self._maps[entry].shape
        plan, row_plan = self._plan, self._row_plan
        parts = torch.empty(min(coils, torch.get_num_threads()), _blocks(image), n * 2 * LANES).numpy()

        def part(first: int, last: int, number: int) -> None:
            normal_of_points(
                self._maps[entry],
                image,
                self._weights[entry],
                plan.radices,
                plan.table,
                row_plan.radices,
                row_plan.table,
                parts[number],
                first,
                last,
            )

        in_parts(part, coils)
        sum_of_parts(parts, out)

    def _laid_out(self, images: Tensor) -> Tensor:
        """(..., y, x), or (..., x, y) where rows are transformed: the transforms go down the columns."""
        return (images.mT if self._along_x else images).resolve_conj().contiguous()


def _floats(images: Tensor) -> NDArray[np.float32]:
    """complex64 (..., n, m) → float32 (..., n, 2m), the same memory."""
    return torch.view_as_real(images.detach()).flatten(-2).numpy()


def _blocks(image: NDArray[np.float32]) -> int:
    return -(-image.shape[-1] // (2 * LANES))
