"""How does a gated delta net mix tokens: short convolutions, a decayed state, gated outputs?

The layer of Gated Delta Networks (arXiv 2412.06464) as fla's ``GatedDeltaNet`` builds it, on fla's operations on a GPU
and on plain torch on a CPU. Imports torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from perf_workloads.attention.config import DecoderConfig
from perf_workloads.attention.mixers import normalized
from perfgate.measure.notes import note

#: Tokens that a short convolution sees.
CONVOLUTION = 4

#: Name -> what it is. Those but fla_kda are the wrapper's.
IMPLEMENTATIONS = {
    "fla_chunk": "fla's chunk_gated_delta_rule",
    "fla_kda": "fla's chunk_kda, whose rule has a decay for each channel of a key: all of a head get the same",
    "naive_chunk": "plain torch, chunk by chunk",
    "naive_recurrent": "plain torch, token by token",
}


class GatedDeltaNet(nn.Module):  # type: ignore[misc]  # torch is not followed
    """One gated delta net.

    Args:
        config: its implementation is one of ``IMPLEMENTATIONS``.
    """

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.heads, self.implementation = config.heads, config.implementation
        keys, values = config.heads * config.keys, config.heads * config.values
        self.sizes = (keys, keys, values)
        self.qkv = nn.Linear(config.hidden, sum(self.sizes), bias=False)
        self.convolution = nn.Parameter(torch.empty(sum(self.sizes), CONVOLUTION))
        nn.init.uniform_(self.convolution, -(CONVOLUTION**-0.5), CONVOLUTION**-0.5)
        self.decay_and_strength = nn.Linear(config.hidden, 2 * config.heads, bias=False)
        self.log_rate = nn.Parameter(torch.empty(config.heads).uniform_(1, 16).log())
        # softplus of these is 0.001 to 0.1, evenly in the logarithm.
        first = torch.empty(config.heads).uniform_(math.log(0.001), math.log(0.1)).exp()
        self.rate_bias = nn.Parameter(first + (-torch.expm1(-first)).log())
        self.gate = nn.Linear(config.hidden, values, bias=False)
        self.scale = nn.Parameter(torch.ones(config.values))
        self.out = nn.Linear(values, config.hidden, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Mix x: [B, T, hidden]."""
        qkv = short_convolution(self.qkv(x), self.convolution, fla=self.implementation.startswith("fla_"))
        q, k, v = (part.unflatten(-1, (self.heads, -1)) for part in qkv.split(self.sizes, dim=-1))
        decay, strength = self.decay_and_strength(x).float().chunk(2, dim=-1)
        # Sums of decays are exponents: they and the references are computed in fp32, which autocast would undo.
        with torch.autocast(x.device.type, enabled=False):
            g = -self.log_rate.float().exp() * functional.softplus(decay + self.rate_bias.float())
            mixed = delta_rule(q, k, v, g, strength.sigmoid().to(v.dtype), self.implementation)
            mixed = normalized(mixed, self.scale)
        gate = functional.silu(self.gate(x)).unflatten(-1, (self.heads, -1))
        return self.out((mixed * gate).to(v.dtype).flatten(2))


def delta_rule(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, g: torch.Tensor, beta: torch.Tensor, implementation: str
) -> torch.Tensor:
    """Apply the gated delta rule, queries and keys divided by their length.

    Args:
        q: [B, T, H, K].
        k: [B, T, H, K].
        v: [B, T, H, V].
        g: [B, T, H] fp32, logarithm of the decay.
        beta: [B, T, H], strength of a write.
        implementation: one of ``IMPLEMENTATIONS``.
    """
    if implementation == "fla_kda":
        decay = g[..., None].expand(*g.shape, q.shape[-1])
        output = _fla("fla_kda", "fla.ops.kda", "chunk_kda")(q, k, v, decay, beta, use_qk_l2norm_in_kernel=True)[0]
        note("gated_delta_rule", "fla_kda")
        return output
    from perf_kernels.gated_delta_rule import gated_delta_rule

    result = gated_delta_rule(q, k, v, g, beta, implementation=implementation, normalize_qk=True)
    note("gated_delta_rule", result.implementation)
    return result.output


def short_convolution(x: torch.Tensor, weight: torch.Tensor, *, fla: bool) -> torch.Tensor:
    """Convolve each channel with the last few tokens of its own, and apply SiLU.

    Args:
        x: [B, T, D].
        weight: [D, W].
        fla: by fla's kernel; otherwise by torch's convolution.

    Returns:
        [B, T, D].
    """
    weight = weight.to(x.dtype)
    if fla:
        convolved = _fla("fla", "fla.modules.causal_conv1d", "causal_conv1d")(x, weight, activation="silu")[0]
        note("causal_conv1d", "fla")
        return convolved
    padded = functional.pad(x.transpose(1, 2), (weight.shape[1] - 1, 0))
    convolved = functional.conv1d(padded, weight[:, None], groups=len(weight))
    note("causal_conv1d", "torch")
    return functional.silu(convolved).transpose(1, 2)


def gradients_refused(implementation: str) -> str:
    """Give why fla would refuse the gradients of an implementation on this machine; "" if it would not.

    fla raises in the first backward pass, after minutes of tuning forward kernels, so it is asked without tensors. Its
    tilelang kernels, where they are installed, go before what it refuses; it chooses them by shapes and types, which
    what it is given has.
    """
    if implementation != "fla_chunk":
        return ""
    backward = _fla(implementation, "fla.ops.common.chunk_o", "chunk_bwd_dqkwg")
    heads = SimpleNamespace(shape=(1, 64, 1, 64), dtype=torch.bfloat16)
    try:
        backward(q=heads, k=heads, v=heads, do=heads, h=heads, dh=heads, g=heads)
    except RuntimeError as error:
        return str(error)
    except AttributeError:
        # It went on to the device, which nothing here has: it would compute.
        return ""
    return ""


def _fla(implementation: str, module: str, name: str) -> Callable[..., Any]:
    """Import a function of fla.

    Raises:
        ModuleNotFoundError: fla is not installed.
    """
    from perf_kernels.linear_attention import installed_fla

    function: Callable[..., Any] = installed_fla.function("GatedDeltaNet", implementation, module, name)
    return function
