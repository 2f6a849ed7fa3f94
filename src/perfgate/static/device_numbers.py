"""Which device does a number name, as in ``device=torch.cuda.current_device()``? Heavy: imports torch.

That GPU, where torch finds one. Where it finds none it takes no number, whatever it is told by ``pretend``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any
from unittest import mock

import torch
from torch.overrides import TorchFunctionMode


class _Numbers(TorchFunctionMode):  # type: ignore[misc]
    """Makes GPUs of the numbers that torch's functions are given for a device."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        named = _named(kwargs or {})
        if func in (torch.Tensor.to, torch.Tensor.cuda):
            args = (*args[:1], *map(_gpu, args[1:2]), *args[2:])
        if func is torch.device:
            args = (*map(_gpu, args[:1]), *args[1:])
        return func(*args, **named)


@contextlib.contextmanager
def taken() -> Iterator[None]:
    """Let a number name a GPU inside: where a tensor is made, and where it or a module is moved."""
    parse = torch._C._nn._parse_to

    def parse_to(*args: Any, **kwargs: Any) -> Any:
        return parse(*map(_gpu, args[:1]), *args[1:], **_named(kwargs))

    with mock.patch.object(torch._C._nn, "_parse_to", parse_to), _Numbers():
        yield


def _named(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _gpu(value) if name == "device" else value for name, value in kwargs.items()}


def _gpu(value: Any) -> Any:
    """Give the GPU of a number; anything else as it is."""
    return torch.device("cuda", value) if type(value) is int else value
