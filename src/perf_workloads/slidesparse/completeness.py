"""Do the tensors of a checkpoint make up the model that its configuration tells of? Compared by names and shapes.

Layers are compared with each other, so that no list of architectures is needed: what one layer has, its neighbours of
the same kind must have. An engine need not notice what is missing: it then serves whatever memory held. The
configuration's figures are those of the text decoder; stacks of encoders are only compared within themselves.

Imports nothing heavy.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from perf_workloads.slidesparse.agreement import (
    OTHER_MODEL,
    check_biases,
    check_heads,
    check_widths,
    figure_of,
    kind_of,
)
from perf_workloads.slidesparse.headers import AGAIN, CONFIG, CheckpointError, Tensor

FLOATS = {"BF16", "F16", "F32"}
#: A tensor of a layer: in which stack, of which layer, and its name there.
_IN_LAYER = re.compile(r"^(?P<stack>(?:.*?\.)?layers)\.(?P<number>\d+)\.(?P<rest>.+)$")
#: Stacks whose layers ``num_hidden_layers`` counts: the decoder of a text, alone or beside encoders.
_DECODERS = ("model.layers", "model.language_model.layers", "language_model.model.layers")
#: Where a model with encoders keeps the figures of its decoder.
_TEXT = ("text_config", "llm_config", "language_config")
#: What must stand beside projections of these names, since engines make one product of them: ``up_proj`` beside a
#: gate of a feed-forward, which attention may have too. A feed-forward need not have a gate, and layers may take keys
#: and values from others.
_PARTNERS = (
    ({"gate_proj", "down_proj"}, "up_proj"),
    ({"k_proj"}, "q_proj"),
    ({"k_proj"}, "v_proj"),
    ({"v_proj"}, "k_proj"),
)
#: Says that keys are values, which then have no projection of their own.
_KEYS_ARE_VALUES = "attention_k_eq_v"
#: How many layers that predict further tokens stand behind the others (multi-token prediction).
_FURTHER = "num_nextn_predict_layers"
#: Has a row for each word of the vocabulary, where the model is a text decoder alone.
_EMBEDDING = "model.embed_tokens.weight"

Stacks = Mapping[str, Mapping[int, frozenset[str]]]


def check(folder: Path, config: Mapping[str, Any], tensors: Sequence[Tensor], *, layers_differ: bool = False) -> None:
    """Check that tensors and configuration are of one whole model.

    Args:
        folder: of the checkpoint, for messages.
        config: ``config.json``.
        tensors: of all files.
        layers_differ: whether layers may have other tensors than their neighbours.

    Raises:
        CheckpointError: a layer, a tensor of a layer, what a projection is fused with, the embedding or the last norm
            is missing, a linear layer has another type or shape than the configuration says, or attention has biases
            and should not, or the other way round.
    """
    layers = [tensor for tensor in tensors if tensor.is_layer]
    if not layers:
        if mamba := [tensor.name for tensor in tensors if tensor.mamba1 and tensor.is_projection]:
            raise CheckpointError(
                f"{folder}: its only projections are those of Mamba 1 blocks ({mamba[0]}), which vLLM serves as floats "
                "whatever a scheme says, so there is nothing to convert",
                hint="serve the checkpoint as it is",
            )
        raise CheckpointError(
            f"{folder}: no linear layers of a text decoder (….layers.N.…_proj.weight, no experts), so there is nothing "
            "to convert",
            hint="serve the checkpoint as it is",
        )
    stacks = _stacks(tensors)
    text = _text(config)
    _check_numbers(folder, text, stacks)
    for layer in layers:
        _check_layer(folder, layer)
    decoder = [layer for layer in layers if _is_decoder(_stack(layer), stacks)]
    for layer in decoder:
        check_widths(folder, text, layer)
    if not layers_differ:
        _check_names(folder, text, stacks)
    _check_partners(folder, text, layers)
    names = {tensor.name for tensor in tensors}
    check_heads(folder, text, decoder, names)
    check_biases(folder, text, decoder, names)
    _check_norm(folder, tensors, stacks)
    _check_tables(folder, config, tensors)


def _text(config: Mapping[str, Any]) -> dict[str, Any]:
    """Give the configuration of the text decoder: what stands for it alone, over what stands for all."""
    parts = [part for name in _TEXT if isinstance(part := config.get(name), dict)]
    return {name: value for part in ({**config}, *parts) for name, value in part.items()}


def _stacks(tensors: Sequence[Tensor]) -> Stacks:
    """List, by stack and number, the names that each layer's tensors have within it; stacks with projections."""
    stacks: dict[str, dict[int, set[str]]] = defaultdict(lambda: defaultdict(set))
    for tensor in tensors:
        if match := _IN_LAYER.match(tensor.name):
            stacks[match["stack"]][int(match["number"])].add(match["rest"])
    return {
        stack: {number: frozenset(names) for number, names in sorted(layers.items())}
        for stack, layers in sorted(stacks.items())
        if any(name.endswith("_proj.weight") for names in layers.values() for name in names)
    }


def _stack(layer: Tensor) -> str:
    match = _IN_LAYER.match(layer.name)
    return match["stack"] if match else ""


def _is_decoder(stack: str, stacks: Stacks) -> bool:
    """Whether the configuration's figures are those of a stack; of an unknown one beside others nobody knows."""
    return stack in _DECODERS or len(stacks) == 1


def _check_numbers(folder: Path, config: Mapping[str, Any], stacks: Stacks) -> None:
    """Check that layers are numbered from 0 to what the configuration says, without a gap.

    Layers that predict further tokens may stand behind those that it counts, and an engine need not have them.
    """
    said = figure_of(folder, config, "num_hidden_layers")
    further = (figure_of(folder, config, _FURTHER) or 0) if config.get(_FURTHER) else 0
    for stack, found in stacks.items():
        counted = said is not None and _is_decoder(stack, stacks)
        wanted = max(found) + 1
        if said is not None and counted:
            wanted = said + further if further and max(found) >= said else said
        missing = next((number for number in range(wanted) if number not in found), None)
        if missing is None and len(found) == wanted:
            continue
        what = f"it has layer {max(found)}" if missing is None else f"layer {missing} is missing"
        why = f"{CONFIG} tells of {said} layers" if counted else f"{stack} goes up to {max(found)}"
        if counted and wanted != said:
            why += f" and {further} more ({_FURTHER})"
        raise CheckpointError(f"{folder}: {what}, and {why}", hint=AGAIN)


def _check_layer(folder: Path, layer: Tensor) -> None:
    """Check that a linear layer is of a type that can be converted, and not empty."""
    if layer.dtype not in FLOATS:
        raise CheckpointError(f"{folder}: {layer.name} is {layer.dtype}; it must be {', '.join(sorted(FLOATS))}")
    if not math.prod(layer.shape):
        raise CheckpointError(f"{folder}: {layer.name} is empty: {list(layer.shape)}", hint=AGAIN)


def _check_names(folder: Path, config: Mapping[str, Any], stacks: Stacks) -> None:
    """Check that layers of a kind have the same tensors; ``layer_types`` says where there are several kinds."""
    for stack, layers in stacks.items():
        said, types = None, None
        if _is_decoder(stack, stacks):
            said, types = figure_of(folder, config, "num_hidden_layers"), config.get("layer_types")
        if not isinstance(types, list) or len(types) not in {said, len(layers)}:
            types = []
        kinds: dict[str, list[int]] = defaultdict(list)
        for number in layers:
            further = said is not None and number >= said
            kinds[_FURTHER if further else str(types[number]) if number < len(types) else ""].append(number)
        for numbers in kinds.values():
            everything = frozenset[str]().union(*(layers[number] for number in numbers))
            for number in numbers:
                if not (missing := sorted(everything - layers[number])):
                    continue
                other = next(each for each in numbers if missing[0] in layers[each])
                raise CheckpointError(
                    f"{folder}: layer {number} lacks {stack}.{number}.{missing[0]}, which layer {other} has; an "
                    "engine may serve whatever memory holds there",
                    hint=f"{AGAIN}; if layers are meant to differ, as some models' do, give --layers-differ",
                )


def _check_partners(folder: Path, config: Mapping[str, Any], layers: Sequence[Tensor]) -> None:
    """Check that projections that an engine makes one product of are all there, be it that all layers lack the same."""
    blocks: dict[str, set[str]] = defaultdict(set)
    for layer in layers:
        blocks[layer.name.removesuffix(f"{kind_of(layer)}.weight")].add(kind_of(layer))
    for block, kinds in blocks.items():
        for named, partner in _PARTNERS:
            if partner == "v_proj" and config.get(_KEYS_ARE_VALUES):
                continue
            if named <= kinds and partner not in kinds:
                raise CheckpointError(
                    f"{folder}: {block}{partner}.weight is missing beside {' and '.join(sorted(named))}; an engine "
                    "makes one product of them",
                    hint=AGAIN,
                )


def _check_norm(folder: Path, tensors: Sequence[Tensor], stacks: Stacks) -> None:
    """Check that there is a norm behind the layers, where they have norms."""
    normed = any("input_layernorm.weight" in names for layers in stacks.values() for names in layers.values())
    if normed and not any("norm" in tensor.name for tensor in tensors if not _IN_LAYER.match(tensor.name)):
        raise CheckpointError(
            f"{folder}: no norm behind the layers (model.norm.weight), though each has one", hint=AGAIN
        )


def _check_tables(folder: Path, config: Mapping[str, Any], tensors: Sequence[Tensor]) -> None:
    """Check that there is an embedding before the layers, of the right size, and a head where it is another tensor."""
    outside = [tensor for tensor in tensors if not _IN_LAYER.match(tensor.name)]
    rows = figure_of(folder, _text(config), "vocab_size")
    if rows is None:
        return
    tables = [tensor.name for tensor in outside if len(tensor.shape) == 2 and tensor.shape[0] >= rows]
    if all(name.startswith("lm_head.") for name in tables):
        raise CheckpointError(
            f"{folder}: no embedding ({_EMBEDDING}): {CONFIG} says vocab_size {rows}, and no tensor but "
            "the head has so many rows",
            hint=AGAIN,
        )
    for tensor in outside:
        if tensor.name == _EMBEDDING and tensor.shape[0] != rows:
            raise CheckpointError(
                f"{folder}: {_EMBEDDING} has {tensor.shape[0]} rows, and {CONFIG} says vocab_size {rows}",
                hint=OTHER_MODEL,
            )
    generates = any(str(each).endswith("ForCausalLM") for each in config.get("architectures") or ())
    if generates and config.get("tie_word_embeddings") is False and len(tables) < 2:
        raise CheckpointError(
            f"{folder}: no head (lm_head.weight): {CONFIG} says that it is not {tables[0]}, by tie_word_embeddings",
            hint=AGAIN,
        )
