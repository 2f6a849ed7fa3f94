"""Which model is run: transformers' BitNet of which shape, with ternary layers of which form, and whose weights?

Nothing here downloads anything. Weights are random unless a folder with real ones is given.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perf_workloads.bitnet.shapes import METHODS, MODELS, Method

#: The module that stays an ordinary linear layer.
HEAD = "lm_head"


@dataclass(frozen=True)
class BitnetSetup:
    """What to load, and how.

    Args:
        model: a name in ``MODELS``.
        method: form of the ternary weights; it also says the type of everything else, see ``METHODS``.
        layers: number of decoder layers instead of the model's own.
        vocabulary: size of the vocabulary instead of the model's own.
        device: as ``torch.device`` takes it.
        seed: of the random weights.
        weights: a folder with master weights and config.json, as ``save_pretrained`` writes it; None draws random ones.
    """

    model: str = "2b4t"
    method: Method = "int8"
    layers: int | None = None
    vocabulary: int | None = None
    device: str = "cpu"
    seed: int = 0
    weights: str | None = None


def load(setup: BitnetSetup, progress: Callable[[str], None] = lambda text: None) -> Any:
    """Build the model on its device, layer by layer: no more than one layer's master weights exist at a time.

    Args:
        setup: what to load.
        progress: is told which layer is being built.

    Returns:
        A ``BitNetForCausalLM`` whose linear layers, but for the head, are ternary. Head and embeddings share weights.

    Raises:
        ValueError: the model or the method is unknown, or the weights are missing or are those of another model.
    """
    # Read when huggingface_hub is first imported: even a lookup that fails costs seconds where no network answers.
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    import torch
    from transformers import AutoModelForCausalLM, BitNetConfig, GenerationConfig

    if setup.method not in METHODS:
        raise ValueError(f"unknown method {setup.method!r}: the known ones are {', '.join(METHODS)}")
    shape = shape_of(setup)
    config = BitNetConfig(
        **shape,
        tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": 500000.0},
        max_position_embeddings=4096,
        # No token ends a generation here, and a vocabulary that was cut down would not hold the model's own.
        bos_token_id=None,
        eos_token_id=None,
    )
    dtype = getattr(torch, METHODS[setup.method])
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation="sdpa")
    _fill(model, setup, dtype, progress)
    # It holds no weights, and was computed on no device.
    model.model.rotary_emb = type(model.model.rotary_emb)(config).to(setup.device)
    model.generation_config = GenerationConfig()
    return model.eval().requires_grad_(False)


def shape_of(setup: BitnetSetup) -> dict[str, int]:
    """Give the shape that a setup asks for, in the words of ``BitNetConfig``.

    Raises:
        ValueError: the model is unknown, or the folder holds another.
    """
    if setup.model not in MODELS:
        raise ValueError(f"unknown model {setup.model!r}: the known ones are {', '.join(MODELS)}")
    shape = dict(MODELS[setup.model])
    if setup.layers is not None:
        shape["num_hidden_layers"] = setup.layers
    if setup.vocabulary is not None:
        shape["vocab_size"] = setup.vocabulary
    if setup.weights is not None:
        _compare(Path(setup.weights), shape)
    return shape


def linear_modules(model: Any) -> dict[str, Any]:
    """Give the linear layers by name, in the order of the model: ternary ones and the head."""
    from perf_workloads.bitnet.layers import TernaryLinear

    return {name: module for name, module in model.named_modules() if isinstance(module, TernaryLinear) or name == HEAD}


def _fill(model: Any, setup: BitnetSetup, dtype: Any, progress: Callable[[str], None]) -> None:
    """Replace the linear layers, and give all other parameters their values."""
    import torch

    from perf_workloads.bitnet.layers import RowLinear, ternary_linear
    from perf_workloads.bitnet.weights import RandomWeights, StoredWeights

    source: Any
    if setup.weights is None:
        # Keeps the scale of what goes through a layer, whatever its width; 0.02 for 2560.
        source = RandomWeights(setup.seed, model.config.hidden_size**-0.5, setup.device, torch.bfloat16)
    else:
        source = StoredWeights(Path(setup.weights), setup.device)
    for name, module in list(model.named_modules()):
        if isinstance(module, torch.nn.Linear) and name != HEAD:
            progress(f"building {name}")
            master = source(f"{name}.weight", (module.out_features, module.in_features))
            model.set_submodule(name, ternary_linear(setup.method, master))
    for name, parameter in list(model.named_parameters()):
        owner, _, attribute = name.rpartition(".")
        values = source(name, tuple(parameter.shape)).to(dtype)
        setattr(model.get_submodule(owner), attribute, torch.nn.Parameter(values, requires_grad=False))
    model.lm_head = RowLinear(model.lm_head.in_features, model.lm_head.out_features, bias=False, device="meta")
    model.lm_head.weight = model.model.embed_tokens.weight


def _compare(folder: Path, shape: dict[str, int]) -> None:
    """Raise ValueError if a folder holds another model; it may have more layers than are wanted."""
    import json

    if not (folder / "config.json").is_file():
        raise ValueError(f"{folder}: no config.json there, so these are not weights of BitNet")
    stored = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    for name, wanted in shape.items():
        found = stored.get(name)
        enough = name == "num_hidden_layers" and isinstance(found, int) and found >= wanted
        if found != wanted and not enough:
            raise ValueError(f"{folder}: not the weights of this model: {name} is {found}, not {wanted}")
