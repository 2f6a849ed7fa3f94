"""How does one step of a backward pass turn gradients into gradients, and which does it refuse? Heavy: torch.

As torch's engine does, in its words.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch
from torch.autograd.function import BackwardCFunction, FunctionCtx, _SingleLevelFunction

from perfgate.errors import PerfgateError
from perfgate.static import backward_refused

#: Set on the context of a function that wants None where no gradient came.
_NONE_WANTED = "_perfgate_none_wanted"
#: Set on the context of a function: its call.
_CALL = "_perfgate_call"
#: Set in the metadata of a step whose saved tensors torch's engine would have freed.
_FREED = "perfgate freed"

_TWICE = (
    "Trying to backward through the graph a second time (or directly access saved tensors after they have already been "
    "freed). Saved intermediate values of the graph are freed when you call .backward() or autograd.grad(). Specify "
    "retain_graph=True if you need to backward through the graph a second time or if you need to access saved tensors "
    "after calling backward."
)


@dataclass(frozen=True)
class _Call:
    """What a function was called with and gave, as far as its gradients ask for it.

    Attributes:
        tensors: of each argument, whether it is a tensor.
        outputs: shape, type and device of each; None of what is no tensor.
    """

    tensors: tuple[bool, ...]
    outputs: tuple[tuple[torch.Size, torch.dtype, torch.device] | None, ...]


@contextlib.contextmanager
def noted() -> Iterator[None]:
    """Let functions that are called inside note what :func:`run` asks of them."""
    original = FunctionCtx.set_materialize_grads

    def note_wanted(self: Any, value: bool) -> None:
        original(self, value)
        setattr(self, _NONE_WANTED, not value)

    with (
        mock.patch.object(FunctionCtx, "set_materialize_grads", note_wanted),
        mock.patch.object(_SingleLevelFunction, "apply", classmethod(_noting_call)),
    ):
        yield


def _noting_call(cls: Any, *args: Any, **kwargs: Any) -> Any:
    """Call a function as its class does, and note on its step what its gradients will be compared with."""
    given = super(_SingleLevelFunction, cls).apply(*args, **kwargs)
    outputs = given if isinstance(given, tuple) else (given,)
    tensors = [each for each in outputs if isinstance(each, torch.Tensor)]
    node = next((each.grad_fn for each in tensors if isinstance(each.grad_fn, cls._backward_cls)), None)
    if node is not None:
        made = [(each.shape, each.dtype, each.device) if isinstance(each, torch.Tensor) else None for each in outputs]
        setattr(node, _CALL, _Call(tuple(isinstance(each, torch.Tensor) for each in args), tuple(made)))
    return given


def is_leaf(node: Any) -> bool:
    """Tell whether a step only accumulates the gradient of a leaf."""
    return hasattr(node, "variable")


def free(node: Any) -> None:
    """Note that torch's engine would have freed what a step saved."""
    node.metadata[_FREED] = True


def run(node: Any, given: dict[int, torch.Tensor]) -> list[tuple[tuple[Any, int], torch.Tensor | None]]:
    """Run one step on the gradients that arrived at it, by their places; give those for the steps that follow.

    Raises:
        PerfgateError: only torch's engine can run it.
        RuntimeError: it was run before without ``retain_graph``, or gives what is no gradient of its arguments.
        Exception: whatever the step raises.
    """
    if is_leaf(node) and node.variable._backward_hooks:
        raise backward_refused.refused("a hook on a tensor (register_hook)")
    if _FREED in node.metadata and _saves(node):
        raise RuntimeError(_TWICE)
    gradients: list[Any] = [given.get(place) for place in range(len(node._input_metadata))]
    if isinstance(node, BackwardCFunction):
        made = _of_function(node, gradients)
        # A gradient is given for each argument, the next steps are known only of tensors.
        places = [place for place, needed in enumerate(node.needs_input_grad) if needed]
    else:
        made = node(*gradients)
        made = made if isinstance(made, tuple) else (made,)
        places = [place for place, (after, _) in enumerate(node.next_functions) if after is not None]
    edges = [edge for edge in node.next_functions if edge[0] is not None]
    for edge, place in zip(edges, places, strict=True):
        _check(node, place, edge, made[place])
    return [(edge, made[place]) for edge, place in zip(edges, places, strict=True)]


def _check(node: Any, place: int, edge: tuple[Any, int], gradient: torch.Tensor | None) -> None:
    """Refuse what cannot become a gradient of the shape and on the device that it is for, in the engine's words."""
    if gradient is None:
        return
    like = edge[0]._input_metadata[edge[1]]
    shape = torch.Size(like.shape)
    wrong = ""
    summed = [1] * (gradient.dim() - len(shape)) + list(shape)
    if len(summed) != gradient.dim() or any(w not in (1, g) for w, g in zip(summed, gradient.shape, strict=True)):
        wrong = f"got {list(gradient.shape)} but expected shape compatible with {list(shape)}"
    # The engine moves numbers.
    elif gradient.device != like.device and shape:
        wrong = f"expected device {like.device} but got {gradient.device}"
    if wrong:
        raise RuntimeError(f"Function {node.name()} returned an invalid gradient at index {place} - {wrong}")


def _saves(node: Any) -> bool:
    """Tell whether a step saved tensors, without unpacking them: a checkpoint would compute them."""
    return any(name.startswith("_raw_saved_") and getattr(node, name) != () for name in dir(node))


def _of_function(node: Any, gradients: list[Any]) -> tuple[torch.Tensor | None, ...]:
    """Run a step written in Python; give a gradient for each argument of its function."""
    call: _Call | None = getattr(node, _CALL, None)
    if not getattr(node, _NONE_WANTED, False):
        gradients = _with_zeros(node, gradients, call)
    made = node.apply(*gradients)
    made = made if isinstance(made, tuple) else (made,)
    expected = len(node.needs_input_grad)
    if len(made) < expected or any(each is not None for each in made[expected:]):
        raise RuntimeError(
            f"function {node.name()} returned an incorrect number of gradients (expected {expected}, got {len(made)})"
        )
    for place, each in enumerate(made[:expected]):
        if each is not None and call is not None and not call.tensors[place]:
            raise RuntimeError(
                f"function {node.name()} returned a gradient different than None at position {place + 1}, but the "
                "corresponding forward input was not a Variable"
            )
        if each is not None and not isinstance(each, torch.Tensor):
            raise RuntimeError(f"function {node.name()}: expected Variable or None (got {type(each).__name__})")
    return made[:expected]


def _with_zeros(node: Any, gradients: list[Any], call: _Call | None) -> list[Any]:
    """Put zeros where no gradient came, as its output was; None where the output was no tensor."""
    if all(each is not None for each in gradients):
        return gradients
    if call is None:
        # torch tells nothing of outputs that have no gradient, neither type nor shape.
        raise PerfgateError(
            f"{node.name()} was made before the launch",
            "What its forward gave is not known, so neither are the gradients of what was not used.",
            "call the function inside of the launch",
        )
    return [
        torch.zeros(output[0], dtype=output[1], device=output[2]) if each is None and output is not None else each
        for each, output in zip(gradients, call.outputs, strict=True)
    ]
