"""How do GPTQ checkpoints keep weights of 4 bits? Makes such tensors, takes them apart, and loads them from files.

``qweight`` [K / 8, N] int32: word r of a column holds rows 8 r to 8 r + 7, the first in the lowest bits. ``qzeros``
[K / G, N / 8] int32: zero points of eight columns, less one in the format "gptq", as they are in "gptq_v2". ``scales``
[K / G, N]. ``g_idx`` [K] int32: the group of each row. ``w[k, n] = (q[k, n] - zero[g, n]) scale[g, n]``.

Imports torch.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

BITS = 4
PACK = 32 // BITS
LARGEST = 2**BITS - 1


@dataclass(frozen=True)
class GptqTensors:
    """The tensors of one linear layer, and what is added to a stored zero point."""

    qweight: torch.Tensor
    qzeros: torch.Tensor
    scales: torch.Tensor
    g_idx: torch.Tensor
    zero_offset: int = 1


def quantize(weight: torch.Tensor, group_size: int) -> GptqTensors:
    """Quantise ``weight: [N, K]`` by rounding to nearest, symmetric, group by group, in the format "gptq".

    GPTQ itself spreads each rounding error over the weights that are still to be rounded, which takes calibration data.
    Format, memory and speed are the same; the error of the logits is larger.

    Raises:
        ValueError: groups do not divide the columns, or words the rows.
    """
    outputs, inputs = weight.shape
    if inputs % group_size or outputs % PACK or inputs % PACK:
        raise ValueError(
            f"a weight [{outputs}, {inputs}] cannot be packed: rows and columns must be multiples of {PACK}, columns "
            f"of the group size {group_size}"
        )
    groups = weight.float().view(outputs, -1, group_size)
    scale = (2 * groups.abs().amax(dim=2) / LARGEST).clamp_min(1e-6).to(torch.float16)
    zero = (LARGEST + 1) // 2
    codes = ((groups / scale[:, :, None].float()).round() + zero).clamp(0, LARGEST).to(torch.int32)
    return GptqTensors(
        qweight=_pack(codes.view(outputs, inputs).t().contiguous(), dim=0),
        qzeros=_pack(torch.full((inputs // group_size, outputs), zero - 1, dtype=torch.int32, device=weight.device), 1),
        scales=scale.t().contiguous(),
        g_idx=torch.arange(inputs, dtype=torch.int32, device=weight.device) // group_size,
    )


def _pack(codes: torch.Tensor, dim: int) -> torch.Tensor:
    """Pack eight neighbours along a dimension into one int32, the first in the lowest bits."""
    parts = codes.unflatten(dim, (-1, PACK)).unbind(dim + 1)
    words = torch.zeros_like(parts[0])
    for place, part in enumerate(parts):
        words |= part << BITS * place
    return words


def _unpack(words: torch.Tensor, dim: int) -> torch.Tensor:
    """Undo :func:`_pack`; int8, as eager backends do."""
    shifts = torch.arange(0, 32, BITS, dtype=torch.int32, device=words.device)
    shape = [1] * (words.ndim + 1)
    shape[dim + 1] = PACK
    parts = torch.bitwise_right_shift(words.unsqueeze(dim + 1), shifts.view(shape)).to(torch.int8)
    return torch.bitwise_and(parts, LARGEST).flatten(dim, dim + 1)


def codes_and_zeros(tensors: GptqTensors) -> tuple[torch.Tensor, torch.Tensor]:
    """Give the codes [K, N] and the zero points [K / G, N], int8."""
    return _unpack(tensors.qweight, 0), _unpack(tensors.qzeros, 1) + tensors.zero_offset


def rebuild(tensors: GptqTensors) -> torch.Tensor:
    """Give the weight [K, N] in full, in the type of the scales, with the operations of an eager GPTQ backend."""
    codes, zeros = codes_and_zeros(tensors)
    group = tensors.g_idx.long()
    return tensors.scales[group] * (codes - zeros[group])


def group_size(tensors: GptqTensors) -> int:
    """Give the rows of a group.

    Raises:
        ValueError: rows of a group do not follow each other (``desc_act``).
    """
    rows = tensors.g_idx.shape[0]
    size: int = rows // tensors.scales.shape[0]
    if not torch.equal(tensors.g_idx, torch.arange(rows, dtype=torch.int32, device=tensors.g_idx.device) // size):
        raise ValueError(
            "these GPTQ tensors order rows by activation (desc_act): the backend 'triton' takes groups that follow "
            "each other, the backend 'rebuild' takes any"
        )
    return size


def checkpoint_settings(folder: Path) -> dict[str, Any] | None:
    """Give the quantisation settings of a checkpoint, or None if its weights are not quantised.

    Raises:
        ValueError: it is quantised in another way.
    """
    settings = json.loads((folder / "config.json").read_text()).get("quantization_config")
    if settings is None:
        return None
    kind, bits = settings.get("quant_method"), settings.get("bits")
    if (kind, bits) != ("gptq", BITS):
        raise ValueError(f"{folder}: its weights are quantised by {kind!r} to {bits} bits; read are 'gptq' and {BITS}")
    return dict(settings)


def zero_offset(settings: dict[str, Any]) -> int:
    """Give what is added to the zero points that a checkpoint stores."""
    return 0 if settings.get("checkpoint_format") == "gptq_v2" else 1


def read_tensors(folder: Path, device: str) -> dict[str, torch.Tensor]:
    """Read all tensors of a checkpoint in safetensors files.

    Raises:
        ValueError: there are none.
    """
    from safetensors.torch import load_file

    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise ValueError(f"{folder}: no *.safetensors there")
    tensors: dict[str, torch.Tensor] = {}
    for file in files:
        tensors |= load_file(file, device=device)
    return tensors
