"""What is a ternary linear layer, for each form of its weights? Modules that replace ``torch.nn.Linear``.

Imports torch: import it where it is used.
"""

from __future__ import annotations

from typing import Any

import torch

from perf_workloads.bitnet import products
from perf_workloads.bitnet.shapes import Method

Tensor = Any


class TernaryLinear(torch.nn.Module):  # type: ignore[misc]  # torch is not followed
    """A linear layer without bias whose weights are -1, 0 or 1 times one scale.

    Args:
        weight: master weights [N, K], fp32 or bf16, on the layer's device; not kept unless the form needs them.

    ``forward`` takes [..., K] of a float type and gives [..., N] of the same.
    """

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.out_features, self.in_features = weight.shape
        self.keep(weight)

    def keep(self, weight: Tensor) -> None:
        """Register what ``multiply`` needs."""
        codes, gamma = products.ternarise(weight)
        self.register_buffer("codes", self.form(codes))
        self.register_buffer("gamma", gamma)

    def form(self, codes: Tensor) -> Tensor:
        """Give the codes [N, K] the form that they are kept in."""
        raise NotImplementedError

    def multiply(self, x: Tensor) -> Tensor:
        """Multiply rows ``x: [M, K]``; [M, N], of any float type."""
        q, scale = products.quantize(x)
        return self.sums(q).float() * (self.gamma / scale)

    def sums(self, q: Tensor) -> Tensor:
        """Multiply quantised rows ``q: [M, K]`` fp32 by the codes; [M, N]."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """Multiply ``x: [..., K]``; see the class."""
        return self.multiply(x.reshape(-1, self.in_features)).to(x.dtype).view(*x.shape[:-1], self.out_features)

    @property
    def weight_bytes(self) -> int:
        """Count the bytes that the weights take."""
        return sum(buffer.nbytes for buffer in self.buffers())

    def extra_repr(self) -> str:
        """Describe the shape, as torch's linear layer does."""
        return f"in_features={self.in_features}, out_features={self.out_features}"


class Fp32Linear(TernaryLinear):
    """Codes as fp32: what "offline" means in the published figures."""

    def form(self, codes: Tensor) -> Tensor:
        """Give fp32."""
        return codes.float()

    def sums(self, q: Tensor) -> Tensor:
        """Give exact integers as fp32."""
        return products.float_sums(q, self.codes)


class Bf16Linear(TernaryLinear):
    """Codes as bf16. Operands are exact; the sums are rounded to bf16."""

    def form(self, codes: Tensor) -> Tensor:
        """Give bf16."""
        return codes.bfloat16()

    def sums(self, q: Tensor) -> Tensor:
        """Give sums rounded to bf16."""
        return products.float_sums(q, self.codes)


class Int8Linear(TernaryLinear):
    """Codes as int8, multiplied by ``torch._int_mm``."""

    def form(self, codes: Tensor) -> Tensor:
        """Give int8, row-major: ``_int_mm`` gets its transposed view."""
        return codes.to(torch.int8).contiguous()

    def sums(self, q: Tensor) -> Tensor:
        """Give exact integers as int32."""
        return products.int8_sums(q, self.codes)


class PackedLinear(TernaryLinear):
    """Codes four to a byte: by our kernel on a GPU, field by field through ``torch._int_mm`` on a CPU."""

    def form(self, codes: Tensor) -> Tensor:
        """Give [N, ceil(K / 256) * 64] uint8."""
        from perf_kernels.ternary_matmul import pack_ternary

        return pack_ternary(codes.to(torch.int8))

    def multiply(self, x: Tensor) -> Tensor:
        """Let the kernel quantise the activations as well, on a GPU."""
        if not x.is_cuda:
            return super().multiply(x)
        from perf_kernels.ternary_matmul import ternary_matmul

        return ternary_matmul(x, self.codes, self.gamma)

    def sums(self, q: Tensor) -> Tensor:
        """Give exact integers as int32."""
        return products.packed_sums(q, self.codes)


class OnlineLinear(TernaryLinear):
    """The anti-pattern: master weights, quantised again in every call, as ``AutoBitLinear`` does when "online"."""

    def keep(self, weight: Tensor) -> None:
        """Keep the master weights."""
        self.register_buffer("weight", weight.detach().float())

    def multiply(self, x: Tensor) -> Tensor:
        """Quantise the weights, then multiply."""
        codes, gamma = products.ternarise(self.weight)
        q, scale = products.quantize(x)
        return products.float_sums(q, codes) * (gamma / scale)


class RowLinear(torch.nn.Linear):  # type: ignore[misc]  # torch is not followed
    """An ordinary linear layer that multiplies rows [M, K], whatever the shape and strides of its input.

    The head of a model gets the last position of the prompt, a strided slice [1, 1, K]. torch 2.13 multiplies that as a
    batch, and in bf16 on a CPU without bf16 instructions takes 180 times as long as for the same row: 16.5 s instead of
    0.09 s for a vocabulary of 128256.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Multiply ``x: [..., K]``; [..., N]."""
        rows = torch.nn.functional.linear(x.reshape(-1, self.in_features), self.weight, self.bias)
        return rows.view(*x.shape[:-1], self.out_features)


_CLASSES: dict[Method, type[TernaryLinear]] = {
    "fp32": Fp32Linear,
    "bf16": Bf16Linear,
    "int8": Int8Linear,
    "online": OnlineLinear,
    "packed": PackedLinear,
}


def ternary_linear(method: Method, weight: Tensor) -> TernaryLinear:
    """Make a layer of master weights [N, K].

    Raises:
        ValueError: the method is unknown.
    """
    if method not in _CLASSES:
        raise ValueError(f"unknown method {method!r}: the known ones are {', '.join(_CLASSES)}")
    return _CLASSES[method](weight)
