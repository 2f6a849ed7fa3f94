"""Which device tensors can a call read besides those among its arguments? Imports torch.

What is found decides whether rotating the arguments keeps a call's data out of the L2 cache. Looked at: modules and
objects bound to the function, its closure, its defaults, ``functools.partial``, and modules among the arguments.
Globals and attributes of other objects are not.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch.utils import _pytree as pytree


def holds_tensors(fn: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]) -> bool:
    """Whether a call has tensors on the device at hand that are none of its arguments."""
    modules = (leaf for leaf in pytree.tree_leaves((tuple(args), kwargs)) if isinstance(leaf, torch.nn.Module))
    return any(_on_device(module) for module in modules) or any(map(_on_device, _held(fn, set())))


def _held(fn: Any, seen: set[int]) -> Iterator[Any]:
    """Give what a function carries with it, through wrappers and nested functions."""
    if id(fn) in seen:
        return
    seen.add(id(fn))
    parts: list[Any] = [getattr(fn, "__self__", None), getattr(fn, "__wrapped__", None)]
    parts += getattr(fn, "__defaults__", None) or ()
    parts += (getattr(fn, "__kwdefaults__", None) or {}).values()
    for cell in getattr(fn, "__closure__", None) or ():
        try:
            parts.append(cell.cell_contents)
        except ValueError:  # a cell that is not filled yet
            continue
    if isinstance(fn, functools.partial):
        parts += [fn.func, *fn.args, *fn.keywords.values()]
    if isinstance(fn, torch.nn.Module):
        parts.append(fn)
    for leaf in pytree.tree_leaves(parts):
        if isinstance(leaf, torch.Tensor | torch.nn.Module):
            yield leaf
        elif callable(leaf) and not isinstance(leaf, type):
            yield from _held(leaf, seen)


def _on_device(value: torch.Tensor | torch.nn.Module) -> bool:
    if isinstance(value, torch.Tensor):
        return bool(value.is_cuda)
    return any(tensor.is_cuda for tensor in (*value.parameters(), *value.buffers()))
