"""Is a folder a checkpoint that can be converted, and what is in it? Found out from headers, before anything is read.

Imports nothing heavy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perf_workloads.slidesparse import completeness
from perf_workloads.slidesparse.headers import (
    AGAIN,
    CONFIG,
    INDEX,
    CheckpointError,
    Tensor,
    mark_mamba1,
    read_header,
    read_json,
)

_SUFFIX = ".safetensors"


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

    @property
    def mamba1(self) -> int:
        """Count the projections of Mamba 1 blocks, which stay floats."""
        return sum(t.mamba1 and t.is_projection for tensors in self.files.values() for t in tensors)


def inspect(folder: Path, *, layers_differ: bool = False) -> Checkpoint:
    """Read all headers of a checkpoint and check that they fit together.

    Args:
        folder: with ``config.json`` and ``*.safetensors``.
        layers_differ: whether layers are not compared with each other.

    Raises:
        CheckpointError: it cannot be read or converted; the message says why.
    """
    try:
        return _inspect(folder, layers_differ)
    except OSError as error:
        raise CheckpointError(
            f"{error.filename or folder}: cannot be read: {error.strerror or error}",
            hint="give a folder whose files can be read by whoever converts it",
        ) from None


def _inspect(folder: Path, layers_differ: bool) -> Checkpoint:
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: not a folder", hint="give the one that holds config.json")
    config = read_json(folder / CONFIG)
    _check_not_quantised(folder, config)
    index = _read_index(folder / INDEX) if (folder / INDEX).exists() else {}
    names = sorted(set(index.values())) or sorted(path.name for path in folder.glob(f"*{_SUFFIX}"))
    if not names:
        raise CheckpointError(
            f"{folder}: no *{_SUFFIX} files",
            hint="save the model with save_pretrained(folder), which writes safetensors",
        )
    checkpoint = Checkpoint(folder, config, mark_mamba1({name: read_header(folder / name) for name in names}))
    _check_index(checkpoint, index)
    tensors = [tensor for found in checkpoint.files.values() for tensor in found]
    completeness.check(folder, config, tensors, layers_differ=layers_differ)
    return checkpoint


def _check_not_quantised(folder: Path, config: Mapping[str, Any]) -> None:
    """Refuse codes; ``null`` says that there is no quantisation, as a missing key does."""
    quantization = config.get("quantization_config")
    if quantization is None:
        return
    named = quantization.get("quant_method") if isinstance(quantization, dict) else None
    raise CheckpointError(
        f"{folder / CONFIG}: the weights are quantised already, by {named or 'an unknown method'}",
        hint="convert the checkpoint with float weights that it was made of",
    )


def _read_index(path: Path) -> dict[str, str]:
    """Read which file each tensor is in.

    Raises:
        CheckpointError: it names none, or one outside the checkpoint's folder.
    """
    found = read_json(path).get("weight_map")
    if not isinstance(found, dict) or not found:
        raise CheckpointError(f"{path}: weight_map must be an object that names the file of each tensor", hint=AGAIN)
    for tensor, file in found.items():
        if not isinstance(file, str) or Path(file).name != file or not file.endswith(_SUFFIX):
            raise CheckpointError(
                f"{path}: {tensor} is said to be in {file!r}; it must be a *{_SUFFIX} file of the checkpoint's own "
                "folder, since a file of the same name is written",
                hint=f"move its files into {path.parent}, and name them in the index without a folder",
            )
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
            raise CheckpointError(f"{checkpoint.folder / INDEX}: {name} is not in {file}", hint=AGAIN)
