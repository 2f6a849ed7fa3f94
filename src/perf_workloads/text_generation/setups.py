"""What can be run: which model, in which arithmetic, with which quantisation by which backend, cache and mode?

Imports nothing heavy: cases are named with it when they are collected.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

Dtype = Literal["float32", "float16", "bfloat16"]
#: How the weights of the linear layers between embedding and head are kept; the head stays as it is.
Method = Literal["dense", "int8-weight-only", "int8-dynamic", "fp8", "int4-gptq"]
#: What multiplies by them. "rebuild": the full-precision weight is made again for every product, as eager torchao and
#: GPTQ do. "int-mm" and "scaled-mm": torch's integer and FP8 products. "triton": our kernel, for up to 64 tokens.
Backend = Literal["torch", "rebuild", "int-mm", "scaled-mm", "triton"]
Cache = Literal["dynamic", "static"]
#: "graph": the prompt is one replay of a CUDA graph of transformers' layers, each further token one of fused kernels.
#: "compile": transformers' own ``torch.compile`` of the forward pass, which takes CUDA graphs too.
Mode = Literal["eager", "graph", "compile"]

#: Shapes by name, in the words of ``Qwen3Config``, whose defaults are another model's: every figure is stated here.
SHAPES: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "qwen3-4b": MappingProxyType(
            {
                "hidden_size": 2560,
                "num_hidden_layers": 36,
                "num_attention_heads": 32,
                "num_key_value_heads": 8,
                "head_dim": 128,
                "intermediate_size": 9728,
                "vocab_size": 151936,
                "tie_word_embeddings": True,
            }
        ),
        # The same proportions in small: grouped heads, head_dim unlike hidden_size / heads, tied embeddings.
        "tiny-qwen3": MappingProxyType(
            {
                "hidden_size": 160,
                "num_hidden_layers": 4,
                "num_attention_heads": 8,
                "num_key_value_heads": 2,
                "head_dim": 32,
                "intermediate_size": 608,
                "vocab_size": 2048,
                "tie_word_embeddings": True,
            }
        ),
    }
)
#: Linear layers of one decoder layer: query, key, value, output, gate, up, down.
LINEAR_LAYERS_IN_A_LAYER = 7
#: Columns that share a scale in GPTQ tensors: what published checkpoints have, and what divides the tiny model.
GROUP_SIZES: Mapping[str, int] = MappingProxyType({"qwen3-4b": 128, "tiny-qwen3": 32})

BACKENDS: Mapping[Method, tuple[Backend, ...]] = MappingProxyType(
    {
        "dense": ("torch", "triton"),
        "int8-weight-only": ("rebuild", "triton"),
        "int8-dynamic": ("int-mm", "triton"),
        "fp8": ("scaled-mm", "triton"),
        "int4-gptq": ("rebuild", "triton"),
    }
)
_SHORT = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}


@dataclass(frozen=True)
class GenerationSetup:
    """What to load, and how.

    Args:
        model: a name in ``SHAPES``.
        dtype: of the arithmetic, and of the weights that are not quantised.
        device: as ``torch.device`` takes it. On ``"meta"`` the model has shapes and no weights.
        method: how the weights of the linear layers are kept.
        backend: what multiplies by them.
        attention: transformers' name of the attention implementation.
        seed: of the random weights.
        weights: a folder with real weights of that model, as ``save_pretrained`` or a GPTQ quantiser writes it; None
            draws random ones.
    """

    model: str
    dtype: Dtype = "bfloat16"
    device: str = "cuda"
    method: Method = "dense"
    backend: Backend = "torch"
    attention: str = "sdpa"
    seed: int = 0
    weights: str | None = None

    def __post_init__(self) -> None:
        """Refuse what does not exist.

        Raises:
            ValueError: the model is unknown, or the backend cannot serve the method.
        """
        if self.model not in SHAPES:
            raise ValueError(f"unknown model {self.model!r}: the known ones are {', '.join(sorted(SHAPES))}")
        if self.backend not in BACKENDS[self.method]:
            known = ", ".join(BACKENDS[self.method])
            raise ValueError(f"no backend {self.backend!r} for {self.method}: there are {known}")

    @property
    def label(self) -> str:
        """Name method and backend, e.g. "bf16-torch" or "int4-gptq-triton"."""
        return f"{_SHORT[self.dtype] if self.method == 'dense' else self.method}-{self.backend}"

    @property
    def group_size(self) -> int:
        """Give the columns that share a scale in GPTQ tensors made here."""
        return GROUP_SIZES[self.model]


@dataclass(frozen=True)
class Configuration:
    """A setup and how it generates.

    Raises:
        ValueError: graphs are asked for without the static cache and the kernels that they are made of.
    """

    setup: GenerationSetup
    cache: Cache = "dynamic"
    mode: Mode = "eager"

    def __post_init__(self) -> None:
        """Refuse what cannot be captured or compiled."""
        if self.mode != "eager" and self.cache != "static":
            raise ValueError(f"mode {self.mode!r} needs the static cache")
        if self.mode == "graph" and self.setup.backend != "triton":
            raise ValueError("mode 'graph' needs the backend 'triton'")

    @property
    def label(self) -> str:
        """Name it, e.g. "bf16-torch-dynamic-eager"."""
        return f"{self.setup.label}-{self.cache}-{self.mode}"


def linear_layer_count(model: str) -> int:
    """Give the products with weights in one forward pass: 253 for Qwen3-4B, the head among them."""
    return LINEAR_LAYERS_IN_A_LAYER * int(SHAPES[model]["num_hidden_layers"]) + 1
