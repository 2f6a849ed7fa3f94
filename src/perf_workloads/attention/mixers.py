"""How does a token see those before it: by softmax attention with a backend that is forced, or by linear attention?

Imports torch. Every mixer notes what computed it, and none takes anything else when that cannot run.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from perf_workloads.attention.config import DecoderConfig
from perfgate.measure.notes import note

_BACKENDS = {
    "math": SDPBackend.MATH,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "flash": SDPBackend.FLASH_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
}


def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, backend: str) -> torch.Tensor:
    """Attend causally by softmax with one backend; torch raises where it cannot run.

    Left to itself, scaled_dot_product_attention takes its flash kernel wherever it can: a "softmax" and a "flash" row
    are then the same kernel.

    Args:
        q: [B, H, T, D].
        k: [B, H, T, D].
        v: [B, H, T, D].
        backend: one of ``SDPA_BACKENDS``.
    """
    note("sdpa_backend", backend)
    with sdpa_kernel([_BACKENDS[backend]]):
        return functional.scaled_dot_product_attention(q, k, v, is_causal=True)


class SoftmaxAttention(nn.Module):  # type: ignore[misc]  # torch is not followed
    """Causal attention of several heads.

    Args:
        config: its implementation is the backend.
    """

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.backend = config.implementation
        self.qkv = nn.Linear(config.hidden, 3 * config.hidden, bias=False)
        self.out = nn.Linear(config.hidden, config.hidden, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Mix x: [B, T, hidden]."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return self.out(attend(q, k, v, self.backend).transpose(1, 2).flatten(2))


class LinearAttention(nn.Module):  # type: ignore[misc]  # torch is not followed
    """Causal linear attention: positive features of queries and keys, each head's output divided by its RMS.

    The RMS takes the place of the sum of scores that the normalised form divides by: scale plays no part, and there is
    nothing to lose in bf16 by summing keys up.

    Args:
        config: its implementation is one of ``perf_kernels.linear_attention.IMPLEMENTATIONS``.
    """

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.implementation = config.implementation
        self.qkv = nn.Linear(config.hidden, 3 * config.hidden, bias=False)
        self.scale = nn.Parameter(torch.ones(config.values))
        self.out = nn.Linear(config.hidden, config.hidden, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Mix x: [B, T, hidden]."""
        from perf_kernels.linear_attention import linear_attention

        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).unbind(2)
        q, k = functional.elu(q) + 1, functional.elu(k) + 1
        # The references compute in fp32, which autocast would undo.
        with torch.autocast(x.device.type, enabled=False):
            result = linear_attention(q, k, v, implementation=self.implementation)
            note("linear_attention", result.implementation)
            mixed = normalized(result.output, self.scale)
        return self.out(mixed.to(v.dtype).flatten(2))


def normalized(x: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Divide the last dimension of x by its RMS, in fp32, and multiply it by a scale."""
    return functional.rms_norm(x.float(), scale.shape, scale.float(), 1e-5)


def mixer(config: DecoderConfig) -> Any:
    """Build the mixer of one layer.

    Raises:
        ValueError: an unknown mixer.
    """
    from perf_workloads.attention.delta_net import GatedDeltaNet

    kinds = {"softmax": SoftmaxAttention, "linear": LinearAttention, "gated_deltanet": GatedDeltaNet}
    if config.mixer not in kinds:
        raise ValueError(f"mixer: {config.mixer!r} is unknown; it must be one of {', '.join(kinds)}")
    return kinds[config.mixer](config)
