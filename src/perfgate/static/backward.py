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
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch
from torch.autograd import graph
from torch.autograd.function import BackwardCFunction, FunctionCtx, _SingleLevelFunction
from torch.utils import hooks

from perfgate.errors import PerfgateError

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

_MODULE_HOOK = "a hook on the backward pass of a module"

#: Each pass has its own, by which checkpoints know what they recomputed.
_passes = itertools.count()


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
def in_python() -> Iterator[None]:
    """Let ``backward`` and ``torch.autograd.grad`` run their steps here instead of in torch's engine."""
    original = FunctionCtx.set_materialize_grads
    retain_grad, register_hook = torch.Tensor.retain_grad, torch.Tensor.register_hook

    def note_wanted(self: Any, value: bool) -> None:
        original(self, value)
        setattr(self, _NONE_WANTED, not value)

    def retain(self: Any) -> None:
        if self.requires_grad and not self.is_leaf:
            raise _refused("retain_grad()", "torch.autograd.grad(loss, y) gives the gradient of y")
        retain_grad(self)

    def hook(self: Any, function: Callable[..., Any]) -> Any:
        if self.requires_grad:
            raise _refused("a hook on a tensor (register_hook)")
        return register_hook(self, function)

    with contextlib.ExitStack() as stack:
        for place, name, instead in (
            (torch.autograd, "_engine_run_backward", _run),
            (FunctionCtx, "set_materialize_grads", note_wanted),
            (_SingleLevelFunction, "apply", classmethod(_noting_call)),
            (torch.Tensor, "retain_grad", retain),
            (torch.Tensor, "register_hook", hook),
            (graph, "register_multi_grad_hook", _refusing("a hook on tensors (register_multi_grad_hook)")),
            (hooks.BackwardHook, "setup_input_hook", _refusing(_MODULE_HOOK)),
            (torch.nn.Module, "_maybe_warn_non_full_backward_hook", _refusing(_MODULE_HOOK)),
        ):
            stack.enter_context(mock.patch.object(place, name, instead))
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


def _refused(what: str, instead: str = "") -> PerfgateError:
    kernel = "declare the launch of the kernel of the backward pass by itself, without .backward()"
    return PerfgateError(
        f"{what} is not run without a GPU",
        "Only torch's own engine calls it, which has no device here: its kernels would be missing from the launch.",
        f"{instead}, or {kernel}" if instead else kernel,
    )


def _refusing(what: str) -> Callable[..., Any]:
    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise _refused(what)

    return refuse


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
    if accumulate_grad and not all(_is_leaf(node) for node, _ in wanted):
        raise _refused(
            "backward(inputs=...) of what is no leaf", "torch.autograd.grad(loss, y) gives the gradient of y"
        )
    arrived: dict[Any, dict[int, torch.Tensor]] = {}
    for edge, gradient in zip(ends, gradients, strict=True):
        _add(arrived, edge, gradient)
    found: dict[tuple[Any, int], torch.Tensor] = {}
    steps = list(_in_order([node for node, _ in ends]))
    runs = _leading(steps, wanted) if wanted else {node for node in steps if not _is_leaf(node)}
    if accumulate_grad:
        runs |= {node for node in steps if _is_leaf(node) and (not wanted or (node, 0) in wanted)}
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
                for edge, gradient in _step(node, given):
                    _add(arrived, edge, gradient)
                if not retain_graph:
                    node.metadata[_FREED] = True
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


def _is_leaf(node: Any) -> bool:
    return hasattr(node, "variable")


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


def _step(node: Any, given: dict[int, torch.Tensor]) -> list[tuple[tuple[Any, int], torch.Tensor | None]]:
    """Run one step on the gradients that arrived at it, by their places; give those for the steps that follow."""
    if _is_leaf(node) and node.variable._backward_hooks:
        raise _refused("a hook on a tensor (register_hook)")
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
