"""Weights of the CIRIM family of ATOMMIC and of its predecessor mridc (Apache-2.0 toolboxes of the papers' author).

Both name the parts of cascade i alike behind different prefixes; shapes and the order of gates are as here.
"""

import re
from collections.abc import Mapping
from typing import Any, Literal

from torch import Tensor

from mrirecon.models.cirim import CIRIM

#: `reconstruction_module.i.` in ATOMMIC, `cirim.i.` in mridc 0.1 and later, `cascades.i.` in mridc v.0.0.1.
CASCADE = re.compile(r"(?:reconstruction_module|cirim|cascades)\.(\d+)\.(.+)")
PARTS = {
    "layers.0.convs.conv_layer": "conv1",
    "layers.0.rnn.ih": "cell1.w",
    "layers.0.rnn.hh": "cell1.u",
    "layers.1.convs.conv_layer": "conv2",
    "layers.1.rnn.ih": "cell2.w",
    "layers.1.rnn.hh": "cell2.u",
    "final_layer.0.conv_layer": "conv3",
}


def cirim_from_atommic(
    weights: Mapping[str, Tensor], settings: Mapping[str, Any], time_steps: int, release: Literal["atommic", "mridc001"]
) -> CIRIM:
    """The CIRIM, IRIM or RIM of a state dictionary with implicit data consistency.

    settings: the peer's hyper-parameters (`recurrent_layer`, `conv_filters`, `recurrent_kernels`, `num_cascades`).
    time_steps: the number really run; both peers round the configured one up to a multiple of 8. release decides how
    cascades are joined. Raises ValueError for explicit data consistency and KeyError for parts that are not a CIRIM's.
    """
    if not settings["no_dc"]:
        raise ValueError(
            "this checkpoint uses the author's explicit data consistency, which is not a form offered here"
        )
    model = CIRIM(
        cascades=settings["num_cascades"],
        unit=settings["recurrent_layer"].lower(),
        channels=settings["conv_filters"][0],
        time_steps=time_steps,
        recurrent_kernel=settings["recurrent_kernels"][0],
        detach_between_cascades=release == "mridc001",
        carry_hidden_state=release == "atommic",
    )
    mapped = {}
    for key, tensor in weights.items():
        match = CASCADE.fullmatch(key)
        if match is None:  # mridc v.0.0.1 also stores parts that its CIRIM never uses
            continue
        cascade, rest = match.groups()
        part, _, kind = rest.rpartition(".")
        if kind == "hh":  # IndRNN's scalars have no suffix and shape (1, channels, 1, 1)
            part, kind, tensor = rest, "", tensor.flatten()
        mapped[f"cascades.{cascade}.{PARTS[part]}{'.' + kind if kind else ''}"] = tensor
    model.load_state_dict(mapped)
    return model
