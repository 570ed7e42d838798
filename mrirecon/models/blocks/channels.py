"""Complex images as real network channels, the only place where real and imaginary parts are apart.

Both functions are views on channels-last memory, the layout that convolutions prefer.
"""

import torch
from torch import Tensor


def to_channels(*images: Tensor) -> Tensor:
    """n complex images (batch, y, x) → real (batch, 2n, y, x) with channels [Re, Im, Re, Im, …]."""
    return torch.view_as_real(torch.stack(images, dim=-1)).flatten(-2).permute(0, 3, 1, 2)


def to_image(channels: Tensor) -> Tensor:
    """Real (batch, 2, y, x), any floating dtype → complex64 or complex128 image (batch, y, x)."""
    real = channels if channels.dtype == torch.float64 else channels.float()
    return torch.view_as_complex(real.permute(0, 2, 3, 1).contiguous())
