"""How do gradients run on tensors without memory? In the order of torch's engine, which refuses them. Heavy: torch.

torch's own engine hands each step to a thread of the tensor's device, and stops where there is none. Here the steps run
one after the other in Python, so that an ``autograd.Function`` launches the kernels of its ``backward``.

Called are the steps, what unpacks their saved tensors (checkpoints), and what follows the accumulation of a leaf
(``register_post_accumulate_grad_hook``). What the engine alone could call is refused: ``retain_grad``, hooks on tensors
and modules, ``backward(inputs=...)`` of what is no leaf. Hooks on a step itself (``y.grad_fn.register_hook``) cannot be
seen, and are not called.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any
from unittest import mock

import torch
from torch.autograd import graph

from perfgate.static import backward_refused, backward_step

#: Each pass has its own, by which checkpoints know what they recomputed.
_passes = itertools.count()


@contextlib.contextmanager
def in_python() -> Iterator[None]:
    """Let ``backward`` and ``torch.autograd.grad`` run their steps here instead of in torch's engine."""
    with (
        mock.patch.object(torch.autograd, "_engine_run_backward", _run),
        backward_step.noted(),
        backward_refused.without_hooks(),
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
        PerfgateError: only torch's engine can do this.
        RuntimeError: an output has no gradient; an input was not used, and ``allow_unreachable`` is False; a step gives
            what is no gradient of its arguments, or was run before without ``retain_graph``.
        Exception: whatever a step raises.
    """
    ends = [_edge(each) for each in _requiring(outputs)]
    wanted = [_edge(each) for each in inputs]
    if accumulate_grad and not all(backward_step.is_leaf(node) for node, _ in wanted):
        raise backward_refused.refused(
            "backward(inputs=...) of what is no leaf", "torch.autograd.grad(loss, y) gives the gradient of y"
        )
    arrived: dict[Any, dict[int, torch.Tensor]] = {}
    for edge, gradient in zip(ends, gradients, strict=True):
        _add(arrived, edge, gradient)
    found: dict[tuple[Any, int], torch.Tensor] = {}
    steps = list(_in_order([node for node, _ in ends]))
    runs = _leading(steps, wanted) if wanted else {node for node in steps if not backward_step.is_leaf(node)}
    if accumulate_grad:
        runs |= {node for node in steps if backward_step.is_leaf(node) and (not wanted or (node, 0) in wanted)}
    number = next(_passes)
    with (
        torch.set_grad_enabled(create_graph),
        mock.patch.object(torch.autograd, "_is_checkpoint_valid", return_value=not wanted),
        mock.patch.object(torch._C, "_current_graph_task_id", return_value=number),
    ):
        for node in steps:
            given = arrived.pop(node, {})
            found |= {(node, place): gradient for place, gradient in given.items() if (node, place) in wanted}
            # Also where only None arrived: the engine runs whatever it reaches.
            if node in runs:
                for edge, gradient in backward_step.run(node, given):
                    _add(arrived, edge, gradient)
                if not retain_graph:
                    backward_step.free(node)
    if accumulate_grad:
        return ()
    if not allow_unreachable and any(edge not in found for edge in wanted):
        raise RuntimeError("One of the differentiated Tensors appears to not have been used in the graph")
    return tuple(found.get(edge) for edge in wanted)


def _requiring(outputs: Sequence[Any]) -> Iterator[Any]:
    for place, each in enumerate(outputs):
        if isinstance(each, torch.Tensor) and not each.requires_grad:
            raise RuntimeError(f"element {place} of tensors does not require grad and does not have a grad_fn")
        yield each


def _edge(tensor: Any) -> tuple[Any, int]:
    edge = tensor if isinstance(tensor, graph.GradientEdge) else graph.get_gradient_edge(tensor)
    return edge.node, edge.output_nr


def _in_order(roots: Sequence[Any]) -> Iterator[Any]:
    """Give each step after all that hand it a gradient; of those that are ready, the one made last, as the engine."""
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
    ready = [(-node._sequence_nr(), place, node) for place, node in enumerate(nodes) if not before[node]]
    heapq.heapify(ready)
    places = itertools.count(len(nodes))
    while ready:
        *_, node = heapq.heappop(ready)
        yield node
        for each, _ in node.next_functions:
            if each is not None:
                before[each] -= 1
                if not before[each]:
                    heapq.heappush(ready, (-each._sequence_nr(), next(places), each))


def _leading(steps: Sequence[Any], wanted: Sequence[tuple[Any, int]]) -> set[Any]:
    """Give the steps, of all in their order, without which a wanted gradient is not reached."""
    ends = {node for node, _ in wanted}
    leading: set[Any] = set()
    for node in reversed(steps):
        if any(each in ends or each in leading for each, _ in node.next_functions):
            leading.add(node)
    return leading


def _add(arrived: dict[Any, dict[int, torch.Tensor]], edge: tuple[Any, int], gradient: torch.Tensor | None) -> None:
    """Add a gradient to those that arrived at a step, in shape, type and device of what it is the gradient of."""
    if gradient is None:
        return
    node, place = edge
    like = node._input_metadata[place]
    if gradient.shape != torch.Size(like.shape):
        gradient = gradient.sum_to_size(like.shape)
    gradient = gradient.to(like.device, like.dtype)
    given = arrived.setdefault(node, {})
    given[place] = given[place] + gradient if place in given else gradient
