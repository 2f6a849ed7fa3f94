"""Which model is run: its shape, where its weights come from, and what one generation has to do at the least.

Nothing here downloads anything. Weights are random unless a folder with real ones is given.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

Dtype = Literal["float32", "float16", "bfloat16"]

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


@dataclass(frozen=True)
class GenerationSetup:
    """What to load, and how.

    Args:
        model: a name in ``SHAPES``.
        dtype: of the weights and the arithmetic.
        device: as ``torch.device`` takes it. On ``"meta"`` the model has shapes and no weights.
        attention: transformers' name of the attention implementation.
        seed: of the random weights.
        weights: a folder with real weights of that model, as ``save_pretrained`` writes it; None draws random ones.
    """

    model: str
    dtype: Dtype = "bfloat16"
    device: str = "cuda"
    attention: str = "sdpa"
    seed: int = 0
    weights: str | None = None


def load(setup: GenerationSetup) -> Any:
    """Build the model on its device, ready to generate greedily and to ignore any end-of-sequence token.

    Random weights are drawn on the device and in the dtype they are used in: a copy in fp32 on the CPU would
    take minutes and 16 GB for four billion parameters. The global random state is left as it was.

    Raises:
        ValueError: the model is unknown, or the weights are missing or are those of another model.
    """
    if setup.model not in SHAPES:
        raise ValueError(f"unknown model {setup.model!r}: the known ones are {', '.join(sorted(SHAPES))}")
    # Read when huggingface_hub is first imported: even a lookup that fails costs seconds where no network answers.
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    from transformers import GenerationConfig

    model = _draw(setup) if setup.weights is None else _read(setup, Path(setup.weights))
    # Settings that came with real weights (sampling, end-of-sequence tokens) would change what is measured.
    model.generation_config = GenerationConfig()
    return model.eval().requires_grad_(False)


def random_prompt(model: Any, tokens: int, seed: int = 0) -> Any:
    """Give ``input_ids: [1, tokens]`` int64 on the model's device; the same ids on every device."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(model.config.vocab_size, (1, tokens), generator=generator, device="cpu")
    return ids.to(model.device)


def generation_work(model: Any, input_tokens: int, new_tokens: int) -> tuple[float, float]:
    """Count what one generation has to do at the least: bytes read and floating-point operations.

    Each new token is one forward pass that reads all weights once. The arithmetic is that of the linear layers: two
    operations a weight and token, where the head sees one token a pass. Attention and cache come on top.
    """
    head = model.get_output_embeddings()
    linears = sum(layer.weight.numel() for layer in linear_layers(model) if layer is not head)
    weight_bytes = sum(parameter.nbytes for parameter in model.parameters())
    flops = 2.0 * linears * (input_tokens + new_tokens - 1) + 2.0 * head.weight.numel() * new_tokens
    return float(weight_bytes * new_tokens), flops


def linear_layers(model: Any) -> list[Any]:
    """List the linear layers, the head among them."""
    import torch

    return [module for module in model.modules() if isinstance(module, torch.nn.Linear)]


def _draw(setup: GenerationSetup) -> Any:
    import torch
    from transformers import AutoModelForCausalLM, Qwen3Config

    shape = SHAPES[setup.model]
    config = Qwen3Config(
        **shape,
        # Keeps the scale of what goes through a layer (0.02 for Qwen3-4B). With the default of 0.02 a narrow model
        # says its last token for ever, and a wrong cache would go unnoticed.
        initializer_range=shape["hidden_size"] ** -0.5,
        rope_parameters={"rope_type": "default", "rope_theta": 1e6},
    )
    device = torch.device(setup.device)
    # torch.manual_seed seeds every device, so every device that has a generator is put back.
    with torch.random.fork_rng(), device:
        torch.manual_seed(setup.seed)
        return AutoModelForCausalLM.from_config(
            config, dtype=getattr(torch, setup.dtype), attn_implementation=setup.attention
        )


def _read(setup: GenerationSetup, folder: Path) -> Any:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    if not (folder / "config.json").is_file():
        raise ValueError(f"{folder}: no config.json there, so these are not the weights of {setup.model}")
    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    for name, expected in SHAPES[setup.model].items():
        found = getattr(config, name, None)
        if found != expected:
            raise ValueError(f"{folder}: not the weights of {setup.model}: {name} is {found}, not {expected}")
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=getattr(torch, setup.dtype), attn_implementation=setup.attention, local_files_only=True
    )
    return model.to(setup.device)
