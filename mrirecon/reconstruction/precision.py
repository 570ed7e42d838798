"""In which precision a network computes."""

from typing import Literal

import torch

from mrirecon.models.cirim import CIRIM
from mrirecon.models.rim import RIM
from mrirecon.physics.measurement import Reconstructor
from mrirecon.reconstruction.methods import CLASSICAL

Precision = Literal["fp32", "bf16"]


#: Networks that only add updates to an image in single precision. In images of three real scans at 3× to 8×, bf16 moved
#: the shipped one's PSNR by at most 0.006 dB and its SSIM by 0.0001. For others nothing of the kind was measured.
SAFE_IN_BF16 = (RIM, CIRIM)


def fast_precision(method: Reconstructor, device: torch.device) -> Precision:
    """The precision where nobody asks for one: bf16 for a network that it does not harm, on a device made for it."""
    return "bf16" if isinstance(method, SAFE_IN_BF16) and _has_bf16_units(device) else "fp32"


def chosen_precision(asked: Literal["auto"] | Precision, method: Reconstructor, device: torch.device) -> Precision:
    """What `asked` comes to. Classical methods compute in fp32, whatever is asked."""
    if asked == "auto":
        return fast_precision(method, device)
    return asked if _is_network(method) else "fp32"


def _is_network(method: Reconstructor) -> bool:
    kind = type(method)
    return f"{kind.__module__}.{kind.__qualname__}" not in CLASSICAL.values()


def _has_bf16_units(device: torch.device) -> bool:
    """Matrix units for bf16: AMX or AVX-512 on a CPU, tensor cores from compute capability 8.0 on."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported() and torch.cuda.get_device_capability(device) >= (8, 0)
    return torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
