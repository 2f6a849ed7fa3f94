"""Where do master weights come from: a random generator, or a folder with real ones?

Imports torch: import it where it is used.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch

Tensor = Any
_INDEX = "model.safetensors.index.json"
_SINGLE = "model.safetensors"


class Weights(Protocol):
    """Gives master weights by the name of the parameter."""

    def __call__(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """Give the weights of one parameter, as a tensor of a float type."""


class RandomWeights:
    """Draws weights ~ N(0, deviation), norms as ones. Each depends on its own name and the seed alone.

    Args:
        seed: other seeds give other weights.
        deviation: standard deviation.
        device: where they are drawn and stay.
        dtype: in which they are drawn.
    """

    def __init__(self, seed: int, deviation: float, device: str, dtype: torch.dtype) -> None:
        self._seed, self._deviation, self._device, self._dtype = seed, deviation, device, dtype

    def __call__(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """Draw the weights of one parameter."""
        if len(shape) == 1:
            return torch.ones(shape, dtype=self._dtype, device=self._device)
        digest = hashlib.blake2b(f"{self._seed} {name}".encode(), digest_size=7).digest()
        generator = torch.Generator(self._device).manual_seed(int.from_bytes(digest, "big"))
        # fp32 is drawn several times faster than bf16.
        drawn = torch.randn(shape, dtype=torch.float32, device=self._device, generator=generator)
        return drawn.mul_(self._deviation).to(self._dtype)


class StoredWeights:
    """Reads weights of safetensors files, one parameter at a time.

    Args:
        folder: as ``save_pretrained`` writes it.
        device: where they go.

    Raises:
        ValueError: the folder has no such files.
    """

    def __init__(self, folder: Path, device: str) -> None:
        self._folder, self._device = folder, device
        self._files = _files(folder)
        self._open: dict[str, Any] = {}

    def __call__(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """Read the weights of one parameter.

        Raises:
            ValueError: there are none of that name, or they are not of that shape and a float type.
        """
        if name not in self._files:
            raise ValueError(f"{self._folder}: no weights named {name}")
        tensor = self._file(self._files[name]).get_tensor(name)
        if not tensor.is_floating_point():
            raise ValueError(
                f"{self._folder}: {name} is {tensor.dtype}, packed already; master weights are needed, as in the "
                "checkpoint whose name ends in -bf16"
            )
        if tuple(tensor.shape) != shape:
            raise ValueError(f"{self._folder}: {name} is {list(tensor.shape)}, not {list(shape)}")
        return tensor.to(self._device)

    def _file(self, name: str) -> Any:
        if name not in self._open:
            from safetensors import safe_open

            self._open[name] = safe_open(self._folder / name, framework="pt")
        return self._open[name]


def _files(folder: Path) -> Mapping[str, str]:
    """Give the file of each parameter."""
    if (folder / _INDEX).is_file():
        index: dict[str, str] = json.loads((folder / _INDEX).read_text(encoding="utf-8"))["weight_map"]
        return index
    if (folder / _SINGLE).is_file():
        from safetensors import safe_open

        with safe_open(folder / _SINGLE, framework="pt") as file:
            return dict.fromkeys(file.keys(), _SINGLE)
    raise ValueError(f"{folder}: neither {_SINGLE} nor {_INDEX} is there")
