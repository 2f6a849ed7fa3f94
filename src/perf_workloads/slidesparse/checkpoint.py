"""Is a folder a checkpoint that can be converted, and what is in it? Found out from headers, before anything is read.

A header says where each tensor's bytes are, so a truncated file is known from its size. Imports nothing heavy.
"""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perfgate.errors import PerfgateError

CONFIG, INDEX = "config.json", "model.safetensors.index.json"
#: Layers that are converted, by the names that Hugging Face's decoders give them.
LAYER = re.compile(r"\.layers\.(?P<number>\d+)\..*_proj\.weight$")
FLOATS = {"BF16", "F16", "F32"}
#: Headers are smaller than this; anything larger is no header.
_LONGEST_HEADER = 100 * 2**20
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


class CheckpointError(PerfgateError):
    """A checkpoint cannot be read, does not fit together, or cannot be converted as asked."""


@dataclass(frozen=True)
class Tensor:
    """One tensor of a file, as its header tells of it."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def is_layer(self) -> bool:
        """Whether it holds the weights of a linear layer that is converted."""
        return LAYER.search(self.name) is not None and len(self.shape) == 2


@dataclass(frozen=True)
class Checkpoint:
    """A folder of weights.

    Attributes:
        folder: where it is.
        config: ``config.json``.
        files: tensors of each file, by its name.
    """

    folder: Path
    config: Mapping[str, Any]
    files: Mapping[str, tuple[Tensor, ...]]

    @property
    def layers(self) -> int:
        """Count the linear layers that are converted."""
        return sum(tensor.is_layer for tensors in self.files.values() for tensor in tensors)


def inspect(folder: Path) -> Checkpoint:
    """Read all headers of a checkpoint and check that they fit together.

    Raises:
        CheckpointError: it cannot be converted; the message says why.
    """
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: not a folder", hint="give the one that holds config.json")
    config = _read_json(folder / CONFIG)
    if "quantization_config" in config:
        method = config["quantization_config"].get("quant_method", "an unknown method")
        raise CheckpointError(
            f"{folder / CONFIG}: the weights are quantised already, by {method}",
            hint="convert the checkpoint with float weights that it was made of",
        )
    index = _read_json(folder / INDEX).get("weight_map") if (folder / INDEX).exists() else None
    names = sorted(set(index.values())) if index else sorted(path.name for path in folder.glob("*.safetensors"))
    if not names:
        raise CheckpointError(
            f"{folder}: no *.safetensors files",
            hint="save the model with save_pretrained(folder), which writes safetensors",
        )
    checkpoint = Checkpoint(folder, config, {name: read_header(folder / name) for name in names})
    _check_index(checkpoint, index or {})
    _check_config(checkpoint)
    return checkpoint


def read_header(path: Path) -> tuple[Tensor, ...]:
    """List the tensors of a safetensors file, by name.

    Raises:
        CheckpointError: it is not one, or not all of it is there.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(8)
            length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
            header = json.loads(file.read(length)) if 2 <= length <= min(_LONGEST_HEADER, size - 8) else None
        if not isinstance(header, dict):
            raise ValueError
        header.pop("__metadata__", None)
        tensors = tuple(Tensor(name, each["dtype"], tuple(each["shape"])) for name, each in sorted(header.items()))
        end = 8 + length + max((each["data_offsets"][1] for each in header.values()), default=0)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: the index names this file, and it is not there", hint=_AGAIN) from None
    except (ValueError, KeyError, TypeError, IndexError, struct.error):
        raise CheckpointError(f"{path}: not a safetensors file, or its header is damaged", hint=_AGAIN) from None
    if size != end:
        how = "is truncated" if size < end else "has more behind its end"
        raise CheckpointError(f"{path}: {how}: {size} bytes, its header tells of {end}", hint=_AGAIN)
    return tensors


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{path}: not there", hint="give the folder that holds config.json and weights") from None
    except (ValueError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path}: not valid JSON: {error}", hint=_AGAIN) from None
    if not isinstance(found, dict):
        raise CheckpointError(f"{path}: not a JSON object", hint=_AGAIN)
    return found


def _check_index(checkpoint: Checkpoint, index: Mapping[str, str]) -> None:
    """Check that each tensor is in the file that the index names, and in no other."""
    where: dict[str, str] = {}
    for file, tensors in checkpoint.files.items():
        for tensor in tensors:
            if tensor.name in where:
                raise CheckpointError(f"{checkpoint.folder}: {tensor.name} is in {where[tensor.name]} and in {file}")
            where[tensor.name] = file
    for name, file in index.items():
        if where.get(name) != file:
            raise CheckpointError(f"{checkpoint.folder / INDEX}: {name} is not in {file}", hint=_AGAIN)


def _check_config(checkpoint: Checkpoint) -> None:
    """Check layers against the configuration: their number, types and widths."""
    config, folder = checkpoint.config, checkpoint.folder
    layers = [tensor for tensors in checkpoint.files.values() for tensor in tensors if tensor.is_layer]
    if not layers:
        raise CheckpointError(f"{folder}: no linear layers (….layers.N.…_proj.weight), so there is nothing to convert")
    found = {int(_number(tensor.name)) for tensor in layers}
    wanted = config.get("num_hidden_layers", len(found))
    if found != set(range(wanted)):
        missing = sorted(set(range(wanted)) - found)
        what = f"layer {missing[0]} is missing" if missing else f"it has layer {max(found)}"
        raise CheckpointError(f"{folder}: {what}, and {CONFIG} tells of {wanted} layers", hint=_AGAIN)
    for tensor in layers:
        if tensor.dtype not in FLOATS:
            raise CheckpointError(f"{folder}: {tensor.name} is {tensor.dtype}; it must be {', '.join(sorted(FLOATS))}")
        kind = tensor.name.split(".")[-2]
        for axis, side, names in ((0, "outputs", _OUTPUTS), (1, "inputs", _INPUTS)):
            figure = config.get(names.get(kind, ""), tensor.shape[axis])
            if tensor.shape[axis] != figure or not math.prod(tensor.shape):
                raise CheckpointError(
                    f"{folder}: {tensor.name} has {tensor.shape[axis]} {side}, and {CONFIG} says "
                    f"{names.get(kind)} {figure}",
                    hint="weights and configuration are of different models",
                )


def _number(name: str) -> str:
    match = LAYER.search(name)
    assert match is not None
    return match["number"]


_AGAIN = "copy the checkpoint again"
