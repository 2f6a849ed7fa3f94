"""How do gradients run on tensors without memory? In the order of torch's engine, which refuses them. Heavy: torch.

torch's own engine hands each step to a thread of the tensor's device, and stops where there is none. Here the steps run
one after the other in Python, so that an ``autograd.Function`` launches the kernels of its ``backward``. Hooks on
tensors and on steps are not called, and a leaf's gradient is not handed to what would follow its accumulation.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any
from unittest import mock

import torch
from torch.autograd import graph
from torch.autograd.function import FunctionCtx

#: Set on the context of a function that wants None where no gradient came.
_NONE_WANTED = "_perfgate_none_wanted"


@contextlib.contextmanager
def in_python() -> Iterator[None]:
    """Let ``backward`` and ``torch.autograd.grad`` run their steps here instead of in torch's engine."""
    original = FunctionCtx.set_materialize_grads

    def note(self: Any, value: bool) -> None:
        original(self, value)
        setattr(self, _NONE_WANTED, not value)

    with (
        mock.patch.object(torch.autograd, "_engine_run_backward", _run),
        mock.patch.object(FunctionCtx, "set_materialize_grads", note),
    ):
        yield


def _run(
    outputs: Sequence[Any],
    gradients: Sequence[torch.Tensor | None],
    retain_graph: bool,
    create_graph: bool,
    inputs: Sequence[Any],
    allow_unreachable: bool = False,
    accumulate_grad: bool = False,
) -> tuple[torch.Tensor | None, ...]:
    """Run the steps from outputs to leaves: what ``Engine.run_backward`` of torch does, with its arguments.

    Raises:
        RuntimeError: an input was not used, and ``allow_unreachable`` is False.
        Exception: whatever a step raises.
    """
    ends = [_edge(each) for each in outputs]
    wanted = [_edge(each) for each in inputs]
    arrived: dict[Any, dict[int, torch.Tensor]] = {}
    for edge, gradient in zip(ends, gradients, strict=True):
        _add(arrived, edge, gradient)
    found: dict[tuple[Any, int], torch.Tensor] = {}
    steps = list(_in_order([node for node, _ in ends]))
    runs = _leading(steps, wanted) if wanted else {node for node in steps if not _is_leaf(node)}
    if accumulate_grad:
        runs |= {node for node in steps if _is_leaf(node) and (not wanted or (node, 0) in wanted)}
    with torch.set_grad_enabled(create_graph):
        for node in steps:
            given = arrived.pop(node, {})
            found |= {(node, place): gradient for place, gradient in given.items() if (node, place) in wanted}
            if given and node in runs:
                edges = [edge for edge in node.next_functions if edge[0] is not None]
                for edge, gradient in zip(edges, _step(node, given), strict=True):
                    _add(arrived, edge, gradient)
    if accumulate_grad:
        return ()
    if not allow_unreachable and any(edge not in found for edge in wanted):
        raise RuntimeError("One of the differentiated Tensors appears to not have been used in the graph")
    return tuple(found.get(edge) for edge in wanted)


def _edge(tensor: Any) -> tuple[Any, int]:
    edge = tensor if isinstance(tensor, graph.GradientEdge) else graph.get_gradient_edge(tensor)
    return edge.node, edge.output_nr


def _is_leaf(node: Any) -> bool:
    return hasattr(node, "variable")


def _in_order(roots: Sequence[Any]) -> Iterator[Any]:
    """Give each step after all that hand it a gradient."""
    nodes: list[Any] = []
    seen = set()
    waiting = list(roots)
    while waiting:
        node = waiting.pop()
        if node not in seen:
            seen.add(node)
            nodes.append(node)
            waiting.extend(each for each, _ in node.next_functions if each is not None)
    before = Counter(each for node in nodes for each, _ in node.next_functions if each is not None)
    ready = [node for node in nodes if not before[node]]
    while ready:
        node = ready.pop()
        yield node
        for each, _ in node.next_functions:
            if each is not None:
                before[each] -= 1
                if not before[each]:
                    ready.append(each)


def _leading(steps: Sequence[Any], wanted: Sequence[tuple[Any, int]]) -> set[Any]:
    """Give the steps, of all in their order, without which a wanted gradient is not reached."""
    ends = {node for node, _ in wanted}
    leading: set[Any] = set()
    for node in reversed(steps):
        if any(each in ends or each in leading for each, _ in node.next_functions):
            leading.add(node)
    return leading


def _add(arrived: dict[Any, dict[int, torch.Tensor]], edge: tuple[Any, int], gradient: torch.Tensor | None) -> None:
    """Add a gradient to those that arrived at a step, in the shape and type of what it is the gradient of."""
    if gradient is None:
        return
    node, place = edge
    like = node._input_metadata[place]
    if gradient.shape != torch.Size(like.shape):
        gradient = gradient.sum_to_size(like.shape)
    gradient = gradient.to(like.dtype)
    given = arrived.setdefault(node, {})
    given[place] = given[place] + gradient if place in given else gradient


def _step(node: Any, given: dict[int, torch.Tensor]) -> tuple[torch.Tensor | None, ...]:
    """Run one step on the gradients that arrived at it, by their places; give those for the steps that follow."""
    expected = node._input_metadata
    gradients = [given.get(place) for place in range(len(expected))]
    if not isinstance(node, torch.autograd.function.BackwardCFunction):
        made = node(*gradients)
        made = made if isinstance(made, tuple) else (made,)
        return tuple(each for each, (after, _) in zip(made, node.next_functions, strict=True) if after is not None)
    if not getattr(node, _NONE_WANTED, False):
        gradients = [
            torch.zeros(tuple(like.shape), dtype=like.dtype, device=like.device) if gradient is None else gradient
            for like, gradient in zip(expected, gradients, strict=True)
        ]
    made = node.apply(*gradients)
    made = made if isinstance(made, tuple) else (made,)
    # A gradient is given for each argument, the next steps are known only of tensors.
    return tuple(each for each, needed in zip(made, node.needs_input_grad, strict=False) if needed)
