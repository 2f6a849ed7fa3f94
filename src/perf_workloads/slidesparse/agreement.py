"""Do the linear layers of a checkpoint have the sizes and biases that its configuration tells of?

Imports nothing heavy.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Any

from perf_workloads.slidesparse.headers import CONFIG, CheckpointError, Tensor

#: Which figure of the configuration the inputs and outputs of a layer must equal.
_INPUTS = {
    "q_proj": "hidden_size",
    "k_proj": "hidden_size",
    "v_proj": "hidden_size",
    "gate_proj": "hidden_size",
    "up_proj": "hidden_size",
    "down_proj": "intermediate_size",
}
_OUTPUTS = {
    "o_proj": "hidden_size",
    "down_proj": "hidden_size",
    "gate_proj": "intermediate_size",
    "up_proj": "intermediate_size",
}
#: Widths that heads make up, by layer: the axis, and the figure that counts the heads.
_HEADS = {
    "q_proj": (0, "num_attention_heads"),
    "k_proj": (0, "num_key_value_heads"),
    "v_proj": (0, "num_key_value_heads"),
    "o_proj": (1, "num_attention_heads"),
}
#: Models whose queries, keys and values have biases, though their configuration does not say so; of others
#: ``attention_bias`` tells.
_BIASED = ("qwen2", "qwen2_vl", "qwen2_vl_text", "qwen2_5_vl", "qwen2_5_vl_text")
_SIDES = ("outputs", "inputs")
OTHER_MODEL = "weights and configuration are of different models: copy both from the same one"


def check_widths(folder: Path, config: Mapping[str, Any], layer: Tensor) -> None:
    """Check the widths of a linear layer of the decoder; those of shared experts have figures of their own."""
    for axis, names in enumerate((_OUTPUTS, _INPUTS)):
        name = names.get(kind_of(layer))
        figure = None if name is None else figure_of(folder, config, name)
        if name == "intermediate_size" and ".shared_" in layer.name:
            continue
        if figure is not None and layer.shape[axis] not in {figure, config.get(f"{name}_mlp")}:
            raise CheckpointError(
                f"{folder}: {layer.name} has {layer.shape[axis]} {_SIDES[axis]}, and {CONFIG} says {name} {figure}",
                hint=OTHER_MODEL,
            )


def check_heads(folder: Path, config: Mapping[str, Any], layers: Sequence[Tensor], names: Set[str]) -> None:
    """Check the widths of attention, where a layer has q, k, v and o and the configuration counts heads."""
    heads, hidden = figure_of(folder, config, "num_attention_heads"), figure_of(folder, config, "hidden_size")
    head = figure_of(folder, config, "head_dim")
    told = f"head_dim {head}"
    if head is None:
        if heads is None or hidden is None:
            return
        head = hidden // heads
        told = f"hidden_size {hidden} / num_attention_heads {heads}"
    for layer in layers:
        axis, name = _HEADS.get(kind_of(layer), (0, ""))
        count = figure_of(folder, config, name) if name else None
        if count is None:
            continue
        beside = layer.name.removesuffix(f"{kind_of(layer)}.weight")
        if any(f"{beside}{each}.weight" not in names for each in _HEADS):
            # Attention of another kind: its keys and values are compressed, shared or fused.
            continue
        # A gate for each query may stand beside it.
        allowed = {count * head, 2 * count * head} if kind_of(layer) == "q_proj" else {count * head}
        if layer.shape[axis] not in allowed:
            raise CheckpointError(
                f"{folder}: {layer.name} has {layer.shape[axis]} {_SIDES[axis]}, and {CONFIG} says {count * head}: "
                f"{name} {count} x {told}",
                hint=OTHER_MODEL,
            )


def check_biases(folder: Path, config: Mapping[str, Any], layers: Sequence[Tensor], names: Set[str]) -> None:
    """Check that attention of q, k and v has biases if its model has: an engine drops those that it does not expect."""
    said, model = config.get("attention_bias"), config.get("model_type")
    if model in _BIASED:
        biased, told = True, f"model_type {model}, which has biases"
    elif isinstance(said, bool):
        biased, told = said, f"attention_bias {json.dumps(said)}"
    else:
        return
    for layer in layers:
        beside = layer.name.removesuffix(f"{kind_of(layer)}.weight")
        projections = [f"{beside}{kind}" for kind in ("q_proj", "k_proj", "v_proj")]
        if any(f"{each}.weight" not in names for each in projections):
            continue
        for each in projections:
            if (f"{each}.bias" in names) is not biased:
                how = "is missing" if biased else "is there"
                raise CheckpointError(f"{folder}: {each}.bias {how}, and {CONFIG} says {told}", hint=OTHER_MODEL)


def figure_of(folder: Path, config: Mapping[str, Any], name: str) -> int | None:
    """Give a figure of the configuration; None where it is not given, or given for each layer as a list.

    Raises:
        CheckpointError: it is no whole number above 0.
    """
    value = config.get(name)
    if value is None or isinstance(value, list):
        return None
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise CheckpointError(
            f"{folder / CONFIG}: {name} is {value!r}; it must be a whole number above 0", hint=OTHER_MODEL
        )
    return value


def kind_of(layer: Tensor) -> str:
    """Name a linear layer as within its block, e.g. ``q_proj``."""
    return layer.name.split(".")[-2]
