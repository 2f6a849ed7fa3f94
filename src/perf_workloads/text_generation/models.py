"""Where do the weights of a setup come from, and what has one generation to do with them at the least?

Nothing here downloads anything. Weights are random unless a folder with real ones is given.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from perf_workloads.text_generation.setups import SHAPES, GenerationSetup, linear_layer_count


def load(setup: GenerationSetup) -> Any:
    """Build the model on its device, ready to generate greedily and to ignore any end-of-sequence token.

    Random weights are drawn on the device in bf16 and then cast, so that all setups of a model and a seed have the same
    numbers before they are quantised. The global random state is left as it was.

    Raises:
        ValueError: the weights are missing, are those of another model, or are quantised in another way than asked for.
    """
    # Read when huggingface_hub is first imported: even a lookup that fails costs seconds where no network answers.
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    from transformers import GenerationConfig

    model = _draw(setup) if setup.weights is None else _read(setup, Path(setup.weights))
    # Settings that came with real weights (sampling, end-of-sequence tokens) would change what is measured.
    model.generation_config = GenerationConfig()
    return model.eval().requires_grad_(False)


def weight_bytes(model: Any) -> int:
    """Count the bytes of weights that one forward pass reads, scales and zero points included.

    Of embeddings that are not the head's weights, too, a pass reads some rows only: they do not count.
    """
    tensors = {id(tensor): tensor for tensor in model.state_dict(keep_vars=True).values()}
    if not model.config.tie_word_embeddings:
        tensors.pop(id(model.get_input_embeddings().weight))
    return sum(tensor.nbytes for tensor in tensors.values())


def generation_work(model: Any, input_tokens: int, new_tokens: int, batch: int = 1) -> tuple[float, float]:
    """Count what one generation has to do at the least: bytes read and floating-point operations.

    Each new token is one forward pass that reads all weights once. The arithmetic is that of the linear layers: two
    operations a weight and token, where the head sees one token a pass. Attention and cache come on top.
    """
    config = model.config
    heads = config.num_attention_heads * config.head_dim
    shared = config.num_key_value_heads * config.head_dim
    layer = config.hidden_size * (2 * heads + 2 * shared + 3 * config.intermediate_size)
    inner = config.num_hidden_layers * layer * (input_tokens + new_tokens - 1)
    head = config.hidden_size * config.vocab_size * new_tokens
    return float(weight_bytes(model) * new_tokens), 2.0 * batch * (inner + head)


def linear_layers(model: Any) -> list[Any]:
    """List the linear layers that are not quantised, the head among them."""
    import torch

    return [module for module in model.modules() if isinstance(module, torch.nn.Linear)]


def _draw(setup: GenerationSetup) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    device = torch.device(setup.device)
    # torch.manual_seed seeds every device, so every device that has a generator is put back.
    with torch.random.fork_rng(), device:
        torch.manual_seed(setup.seed)
        model = AutoModelForCausalLM.from_config(
            _config(setup.model), dtype=torch.bfloat16, attn_implementation=setup.attention
        )
    return _prepared(model, setup)


def _config(name: str) -> Any:
    from transformers import Qwen3Config

    shape = SHAPES[name]
    return Qwen3Config(
        **shape,
        # Keeps the scale of what goes through a layer (0.02 for Qwen3-4B). With the default of 0.02 a narrow model
        # says its last token for ever, and a wrong cache would go unnoticed.
        initializer_range=shape["hidden_size"] ** -0.5,
        rope_parameters={"rope_type": "default", "rope_theta": 1e6},
    )


def _prepared(model: Any, setup: GenerationSetup) -> Any:
    """Check the layers, cast, and quantise."""
    import torch

    found, expected = len(linear_layers(model)), linear_layer_count(setup.model)
    if found != expected:
        raise ValueError(f"{setup.model} as it is installed has {found} linear layers, not {expected}")
    model = model.to(getattr(torch, setup.dtype))
    if setup.method != "dense":
        from perf_workloads.text_generation.layers import quantize_layers

        quantize_layers(model, setup)
    return model


def _read(setup: GenerationSetup, folder: Path) -> Any:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from perf_workloads.text_generation import gptq

    if not (folder / "config.json").is_file():
        raise ValueError(f"{folder}: no config.json there, so these are not the weights of {setup.model}")
    settings = gptq.checkpoint_settings(folder)
    if settings is not None and setup.method != "int4-gptq":
        raise ValueError(f"{folder}: its weights have 4 bits already, so {setup.method} cannot be made of them")
    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    for name, expected in SHAPES[setup.model].items():
        found = getattr(config, name, None)
        if found != expected:
            raise ValueError(f"{folder}: not the weights of {setup.model}: {name} is {found}, not {expected}")
    if settings is not None:
        return _read_gptq(setup, folder, config, settings)
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=getattr(torch, setup.dtype), attn_implementation=setup.attention, local_files_only=True
    )
    return _prepared(model.to(setup.device), setup)


def _read_gptq(setup: GenerationSetup, folder: Path, config: Any, settings: dict[str, Any]) -> Any:
    """Read a GPTQ checkpoint without the packages that make such: no full-precision weight is ever allocated."""
    import torch
    from transformers import AutoModelForCausalLM

    from perf_workloads.text_generation import gptq
    from perf_workloads.text_generation.layers import gptq_layer, inner_linears

    dtype = getattr(torch, setup.dtype)
    # transformers would look for a package that reads these settings.
    del config.quantization_config
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation=setup.attention)
    tensors = gptq.read_tensors(folder, setup.device)
    names = {module: name for name, module in model.named_modules()}
    for parent, name, _ in inner_linears(model):
        path = f"{names[parent]}.{name}"
        parts = {part: tensors.pop(f"{path}.{part}") for part in ("qweight", "qzeros", "scales", "g_idx")}
        layer = gptq.GptqTensors(**parts, zero_offset=gptq.zero_offset(settings))
        parent.register_module(name, gptq_layer(layer, dtype, triton=setup.backend == "triton"))
    rest = {name: tensor.to(dtype) for name, tensor in tensors.items()}
    if config.tie_word_embeddings:
        rest["lm_head.weight"] = rest["model.embed_tokens.weight"]
    _, unknown = model.load_state_dict(rest, strict=False, assign=True)
    missing = [name for name, tensor in model.state_dict().items() if tensor.is_meta]
    if missing or unknown:
        raise ValueError(f"{folder}: not there: {missing}; not understood: {unknown}")
    model.tie_weights()
    # What is computed and not stored was made without memory.
    model.model.rotary_emb = type(model.model.rotary_emb)(config).to(setup.device)
    return model
