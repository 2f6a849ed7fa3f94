"""How does a linear layer compute when its weights are kept in 8 or 4 bits? Imports torch.

Each kind of layer computes a few tokens and many alike, with a backend for each; ``stored`` gives its weights as the
fused kernels take them.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.functional import linear, pad

from perf_workloads.text_generation import gptq
from perf_workloads.text_generation.setups import GenerationSetup

#: Tokens up to which the backend "triton" takes our kernel, as many as it can; more are multiplied as without it.
FEW_TOKENS = 64
#: Rows of activations that torch's products of 8 bits get on a GPU: at least so many (of integers it takes more than
#: 16), and a multiple of half as many.
PADDED_ROWS = 32
#: Largest codes.
INT8, FP8 = 127.0, 448.0


class StoredLinear(torch.nn.Module):  # type: ignore[misc]  # torch is not followed
    """A linear layer without a bias whose weights are codes [N, K] with one scale a row.

    Args:
        values: [N, K] int8 or FP8 e4m3.
        scale: [N] fp32.
        dtype: of the arithmetic.
        codes: what activations are rounded to, token by token; None leaves them as they are.
        triton: take our kernel for a few tokens.
    """

    def __init__(
        self,
        values: torch.Tensor,
        scale: torch.Tensor,
        dtype: torch.dtype,
        codes: torch.dtype | None,
        triton: bool,
    ) -> None:
        super().__init__()
        self.values = torch.nn.Buffer(values)
        self.scale = torch.nn.Buffer(scale)
        self.dtype, self.codes, self.triton = dtype, codes, triton

    @property
    def stored(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Give the weights as the kernels take them."""
        return self.values, self.scale

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Multiply ``x: [..., K]``."""
        if self.triton and x.numel() // x.shape[-1] <= FEW_TOKENS:
            return _kernel(x, self.values, self.scale, self.codes)
        if self.codes is None:
            return linear(x, self.values.to(self.dtype) * self.scale[:, None].to(self.dtype))
        rows = x.reshape(-1, x.shape[-1])
        padded = pad(rows, (0, 0, 0, _missing_rows(rows.shape[0]))) if rows.is_cuda else rows
        largest = padded.abs().amax(dim=1, keepdim=True).float().clamp_min(1e-12)
        product = self._int_mm if self.codes == torch.int8 else self._scaled_mm
        y = product(padded, largest / (INT8 if self.codes == torch.int8 else FP8))
        return y[: rows.shape[0]].view(*x.shape[:-1], -1)

    def _int_mm(self, rows: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        sums = torch._int_mm((rows.float() / scale).round().to(torch.int8), self.values.t())
        return (sums.float() * scale * self.scale[None, :]).to(self.dtype)

    def _scaled_mm(self, rows: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        codes = (rows.float() / scale).to(torch.float8_e4m3fn)
        return torch._scaled_mm(
            codes, self.values.t(), scale_a=scale, scale_b=self.scale[None, :], out_dtype=self.dtype
        )


def _missing_rows(rows: int) -> int:
    """Give the rows of zeros that a product of 8 bits on a GPU gets on top."""
    half = PADDED_ROWS // 2
    return max(PADDED_ROWS - rows, -rows % half)


class GptqLinear(torch.nn.Module):  # type: ignore[misc]  # torch is not followed
    """A linear layer on GPTQ tensors as checkpoints have them; the full weight is rebuilt for every product."""

    def __init__(self, tensors: gptq.GptqTensors, dtype: torch.dtype) -> None:
        super().__init__()
        for name in ("qweight", "qzeros", "scales", "g_idx"):
            self.register_buffer(name, getattr(tensors, name))
        self.zero_offset, self.dtype = tensors.zero_offset, dtype

    @property
    def tensors(self) -> gptq.GptqTensors:
        """Give the tensors."""
        return gptq.GptqTensors(self.qweight, self.qzeros, self.scales, self.g_idx, self.zero_offset)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Multiply ``x: [..., K]``."""
        return linear(x, gptq.rebuild(self.tensors).to(self.dtype).t())


class PackedLinear(torch.nn.Module):  # type: ignore[misc]  # torch is not followed
    """A linear layer on weights of 4 bits in the layout of our kernel, which takes a few tokens.

    Args:
        values: [N, K / 8] int32.
        scale: [N, K / G] int32: fp16 scale below, zero point above.
        dtype: of the arithmetic.
    """

    def __init__(self, values: torch.Tensor, scale: torch.Tensor, dtype: torch.dtype) -> None:
        super().__init__()
        self.values = torch.nn.Buffer(values)
        self.scale = torch.nn.Buffer(scale)
        self.dtype = dtype
        self.codes = None

    @classmethod
    def from_gptq(cls, tensors: gptq.GptqTensors, dtype: torch.dtype) -> PackedLinear:
        """Pack GPTQ tensors anew, code by code.

        Raises:
            ValueError: rows of a group do not follow each other.
        """
        from perf_kernels.decode_linear import pack_int4

        gptq.group_size(tensors)
        codes, zeros = gptq.codes_and_zeros(tensors)
        scale = tensors.scales.to(torch.float16).t().contiguous()
        words, scales = pack_int4(codes.t().contiguous(), scale, zeros.t().contiguous())
        return cls(words, scales, dtype)

    @property
    def stored(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Give the weights as the kernels take them."""
        return self.values, self.scale

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Multiply ``x: [..., K]``."""
        if x.numel() // x.shape[-1] <= FEW_TOKENS:
            return _kernel(x, self.values, self.scale, None)
        return linear(x, self.rebuilt())

    def rebuilt(self) -> torch.Tensor:
        """Give the weight [N, K] in full, with little more memory than its own."""
        rows, groups = self.scale.shape
        words = self.values.view(rows, groups, -1)
        weight = torch.empty((rows, groups, 8, words.shape[2]), dtype=self.dtype, device=words.device)
        for nibble in range(8):
            weight[:, :, nibble] = (words >> 4 * nibble) & 15
        scale = (self.scale & 0xFFFF).to(torch.int16).view(torch.float16).to(self.dtype)
        weight.sub_((self.scale >> 16)[:, :, None, None]).mul_(scale[:, :, None, None])
        return weight.view(rows, -1)


@torch.no_grad()  # type: ignore[untyped-decorator]  # torch is not followed
def quantize_layers(model: Any, setup: GenerationSetup) -> None:
    """Replace the linear layers of the decoder layers, one after the other, by quantised ones.

    Without gradients: a scale that remembered what it was made of would keep each rebuilt weight alive with the cache.
    """
    for parent, name, layer in inner_linears(model):
        parent.register_module(name, _quantized(layer.weight, setup))


def inner_linears(model: Any) -> list[tuple[torch.nn.Module, str, torch.nn.Linear]]:
    """List the linear layers of the decoder layers with their parents: all but the head."""
    return [
        (parent, name, layer)
        for parent in model.model.layers.modules()
        for name, layer in parent.named_children()
        if isinstance(layer, torch.nn.Linear)
    ]


def weight_types(model: Any) -> set[str]:
    """Name the types in which the weights of the decoder layers' linear layers are kept, e.g. "int8"."""
    found = set()
    for layer in model.model.layers.modules():
        if isinstance(layer, torch.nn.Linear):
            found.add(layer.weight.dtype)
        elif isinstance(layer, StoredLinear | PackedLinear):
            found.add(layer.values.dtype)
        elif isinstance(layer, GptqLinear):
            found.add(layer.qweight.dtype)
    return {str(dtype).removeprefix("torch.") for dtype in found}


def _quantized(weight: torch.Tensor, setup: GenerationSetup) -> torch.nn.Module:
    dtype, triton = weight.dtype, setup.backend == "triton"
    if setup.method == "int4-gptq":
        return gptq_layer(gptq.quantize(weight, setup.group_size), dtype, triton=triton)
    largest = weight.float().abs().amax(dim=1).clamp_min(1e-12)
    if setup.method == "fp8":
        scale = largest / FP8
        return StoredLinear(
            (weight / scale[:, None]).to(torch.float8_e4m3fn), scale, dtype, torch.float8_e4m3fn, triton
        )
    scale = largest / INT8
    codes = torch.int8 if setup.method == "int8-dynamic" else None
    return StoredLinear((weight / scale[:, None]).round().to(torch.int8), scale, dtype, codes, triton)


def gptq_layer(tensors: gptq.GptqTensors, dtype: torch.dtype, *, triton: bool) -> torch.nn.Module:
    """Give the layer of a backend on GPTQ tensors."""
    return PackedLinear.from_gptq(tensors, dtype) if triton else GptqLinear(tensors, dtype)


def _kernel(x: torch.Tensor, values: torch.Tensor, scale: torch.Tensor, codes: torch.dtype | None) -> torch.Tensor:
    from perf_kernels.decode_linear import decode_linear

    y: torch.Tensor = decode_linear(x, values, scale, codes=codes)
    return y
