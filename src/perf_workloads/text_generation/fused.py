"""How does one token pass through the decoder in five launches a layer? Imports torch and our kernels.

The layers' own weights are used: query, key and value are moved into one block of memory, gate and up into another, and
the modules keep views of it. So prompts go through transformers' layers, and nothing is stored twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import embedding

from perf_kernels.decode_attention import decode_attention, workspace_for
from perf_kernels.decode_linear import decode_linear

Stored = tuple[torch.Tensor, torch.Tensor | None]


@dataclass(frozen=True)
class _Layer:
    """What a step reads of one decoder layer."""

    before_attention: torch.Tensor
    qkv: Stored
    q_norm: torch.Tensor
    k_norm: torch.Tensor
    keys: torch.Tensor
    values: torch.Tensor
    output: Stored
    before_mlp: torch.Tensor
    gate_up: Stored
    down: Stored


class FusedStep:
    """One step of decoding: from the last tokens to the next ones, which it puts in their place.

    Args:
        model: a Qwen3 model without biases and sliding windows; its weights are joined in place, once.
        cache: a static cache of transformers that has been filled once, so that its memory is there.
        batch: number of sequences.

    Attributes:
        token: [B] int64, the last tokens.
        position: int64, how many tokens the cache holds.
    """

    def __init__(self, model: Any, cache: Any, batch: int) -> None:
        config = model.config
        self._epsilon = config.rms_norm_eps
        self._embedding = model.get_input_embeddings().weight
        self._head = model.get_output_embeddings().weight
        self._norm = model.model.norm.weight
        self._layers = [
            _layer(layer, kept.keys, kept.values) for layer, kept in zip(model.model.layers, cache.layers, strict=True)
        ]
        self._codes = getattr(model.model.layers[0].mlp.down_proj, "codes", None)
        device = self._embedding.device
        keys = cache.layers[0].keys
        length = keys.shape[2]
        self._workspace = workspace_for(keys, config.num_attention_heads)
        cos, sin = model.model.rotary_emb(self._embedding[:1], torch.arange(length, device=device)[None])
        self._cos, self._sin = cos[0].contiguous(), sin[0].contiguous()
        self.token = torch.zeros(batch, dtype=torch.int64, device=device)
        self.position = torch.zeros((), dtype=torch.int64, device=device)

    @property
    def launches(self) -> int:
        """How many of our kernels one step launches."""
        return 5 * len(self._layers) + 1

    def __call__(self) -> torch.Tensor:
        """Run one step; give the logits [B, V] fp32 that the new tokens were chosen from."""
        x = embedding(self.token, self._embedding)
        for layer in self._layers:
            x = self._decoder_layer(layer, x)
        logits: torch.Tensor = decode_linear(
            x, self._head, norm=self._norm, epsilon=self._epsilon, out_dtype=torch.float32
        )
        self.token.copy_(logits.argmax(dim=-1))
        self.position.add_(1)
        return logits

    def _decoder_layer(self, layer: _Layer, x: torch.Tensor) -> torch.Tensor:
        shared = {"epsilon": self._epsilon, "codes": self._codes}
        qkv = decode_linear(x, *layer.qkv, norm=layer.before_attention, **shared)
        attended = decode_attention(
            qkv,
            layer.q_norm,
            layer.k_norm,
            self._cos,
            self._sin,
            self.position,
            layer.keys,
            layer.values,
            epsilon=self._epsilon,
            workspace=self._workspace,
        )
        x = decode_linear(attended, *layer.output, residual=x, **shared)
        inner = decode_linear(x, *layer.gate_up, norm=layer.before_mlp, gated=True, **shared)
        y: torch.Tensor = decode_linear(inner, *layer.down, residual=x, **shared)
        return y


def _layer(layer: Any, keys: torch.Tensor, values: torch.Tensor) -> _Layer:
    attention, mlp = layer.self_attn, layer.mlp
    return _Layer(
        before_attention=layer.input_layernorm.weight,
        qkv=joined([attention.q_proj, attention.k_proj, attention.v_proj]),
        q_norm=attention.q_norm.weight,
        k_norm=attention.k_norm.weight,
        keys=keys,
        values=values,
        output=stored(attention.o_proj),
        before_mlp=layer.post_attention_layernorm.weight,
        gate_up=joined([mlp.gate_proj, mlp.up_proj]),
        down=stored(mlp.down_proj),
    )


def stored(module: Any) -> Stored:
    """Give the weights of a linear layer as the kernel takes them."""
    return (module.weight, None) if isinstance(module, torch.nn.Linear) else module.stored


def joined(modules: list[Any]) -> Stored:
    """Move the weights of layers that share their input into one block, row after row; the layers keep views of it."""
    parts = []
    for name in ("weight",) if isinstance(modules[0], torch.nn.Linear) else ("values", "scale"):
        tensors = [getattr(module, name) for module in modules]
        sizes = [tensor.shape[0] for tensor in tensors]
        block = _one_block(tensors)
        if block is None:
            block = torch.cat(tensors)
            for module, view in zip(modules, block.split(sizes), strict=True):
                getattr(module, name).data = view
        parts.append(block)
    return parts[0], parts[1] if len(parts) > 1 else None


def _one_block(tensors: list[torch.Tensor]) -> torch.Tensor | None:
    """Give the block that tensors are views of, if they are already, one after the other."""
    first = tensors[0]
    place = first.data_ptr()
    for tensor in tensors:
        if tensor.untyped_storage().data_ptr() != first.untyped_storage().data_ptr() or tensor.data_ptr() != place:
            return None
        place += tensor.nbytes
    rows = sum(tensor.shape[0] for tensor in tensors)
    return first.as_strided((rows, *first.shape[1:]), first.stride(), first.storage_offset())
