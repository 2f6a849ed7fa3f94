"""What tensors does a safetensors file hold, and what does a checkpoint's JSON say? Read before any weights are.

A header says where each tensor's bytes are, so a truncated file is known from its size. Imports nothing heavy.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from perfgate.errors import PerfgateError

CONFIG, INDEX = "config.json", "model.safetensors.index.json"
#: How layers are named that are converted, in a checkpoint as in an engine; :func:`converts` has the exceptions.
NAMED = "*.layers.N.*_proj"
#: An engine may join a ``kv_a_proj_with_mqa`` to a ``q_a_proj``: both are codes, or neither.
_LAYER = re.compile(r"^(?P<stack>(?:[^.]+\.)*?)layers\.\d+\.(?P<rest>(?:.+\.)?[^.]*_proj(?:_with_mqa)?)$")
#: Stacks of encoders: of images, of sound, of text that is not written further.
_ENCODER = re.compile(r"encoder|vision|visual|audio|(?:^|\.)[va]pm\.")
#: Engines have their own products for experts, and keep what joins tokens for multi-token prediction as floats.
_FLOATS = re.compile(r"(?:^|\.)experts\.|(?:^|\.)eh_proj$")
#: What to do about a file that does not fit its header, or the others.
AGAIN = "copy the checkpoint again"
#: Headers are smaller than this; anything larger is no header.
_LONGEST_HEADER = 100 * 2**20


class CheckpointError(PerfgateError):
    """A checkpoint cannot be read, does not fit together, or cannot be converted as asked."""


def converts(name: str) -> bool:
    """Whether a linear layer of this name is converted: one of a text decoder, and no expert."""
    match = _LAYER.match(name)
    return match is not None and not _ENCODER.search(match["stack"]) and not _FLOATS.search(match["rest"])


@dataclass(frozen=True)
class Tensor:
    """One tensor of a file, as its header tells of it; ``mamba1`` says that it is of a block of that kind."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    mamba1: bool = False

    @property
    def is_layer(self) -> bool:
        """Whether it holds the weights of a linear layer that is converted."""
        return not self.mamba1 and self.is_projection

    @property
    def is_projection(self) -> bool:
        """Whether it is named as the weights of a linear layer that is converted."""
        return self.name.endswith(".weight") and converts(self.name.removesuffix(".weight")) and len(self.shape) == 2


def mark_mamba1(files: Mapping[str, tuple[Tensor, ...]]) -> dict[str, tuple[Tensor, ...]]:
    """Mark the tensors of Mamba 1 blocks: vLLM gives no scheme a say in these, and takes floats for them.

    Those of Mamba 2 it does serve in schemes; their ``A_log`` has one figure a head, that of Mamba 1 one a channel and
    state.

    Args:
        files: tensors of each file of a checkpoint. A block may be in several.
    """
    blocks = {
        tensor.name.removesuffix("A_log")
        for tensors in files.values()
        for tensor in tensors
        if tensor.name.endswith(".A_log") and len(tensor.shape) == 2
    }
    return {
        file: tuple(
            replace(tensor, mamba1=any(tensor.name.startswith(block) for block in blocks)) for tensor in tensors
        )
        for file, tensors in files.items()
    }


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
        tensors = tuple(_tensor(name, each) for name, each in sorted(header.items()))
        end = 8 + length + max((each["data_offsets"][1] for each in header.values()), default=0)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: the index names this file, and it is not there", hint=AGAIN) from None
    except (ValueError, KeyError, TypeError, IndexError, struct.error):
        raise CheckpointError(f"{path}: not a safetensors file, or its header is damaged", hint=AGAIN) from None
    if size != end:
        how = "is truncated" if size < end else "has more behind its end"
        raise CheckpointError(f"{path}: {how}: {size} bytes, its header tells of {end}", hint=AGAIN)
    return tensors


def _tensor(name: str, told: Mapping[str, Any]) -> Tensor:
    """Give what a header tells of a tensor.

    Raises:
        ValueError: its type is no name, or its shape no list of sizes.
    """
    dtype, shape = told["dtype"], tuple(told["shape"])
    if not isinstance(dtype, str) or not all(type(size) is int and size >= 0 for size in shape):
        raise ValueError
    return Tensor(name, dtype, shape)


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        CheckpointError: it is not there, or is none.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{path}: not there", hint="give the folder that holds config.json and weights") from None
    except (ValueError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path}: not valid JSON: {error}", hint=AGAIN) from None
    if not isinstance(found, dict):
        raise CheckpointError(f"{path}: not a JSON object", hint=AGAIN)
    return found
