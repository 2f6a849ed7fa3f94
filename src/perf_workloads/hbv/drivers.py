"""How is a training step of HBV run in parts: forward alone, backward alone, both, captured in a CUDA graph?

The loss is the sum of the discharge, as in the published benchmark; gradients are those of the 14 parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from perf_workloads.hbv.models import Model, eager


def forward(model: Model, inputs: Sequence[Any]) -> Callable[[], Any]:
    """Give a call that runs the model with gradients wanted, and returns the discharge [T, B].

    Args:
        model: takes ``inputs``.
        inputs: three forcings, parameters, initial storages.
    """
    leaves = with_gradients(inputs)
    return lambda: model(*leaves)[0]


def backward(model: Model, inputs: Sequence[Any]) -> Callable[[], Any]:
    """Run forward once, and give a call that goes back through it and returns the parameters' gradients [14, B]."""
    import torch

    leaves = with_gradients(inputs)
    q = model(*leaves)[0]
    one = torch.ones((), dtype=q.dtype, device=q.device).expand(q.shape)
    return lambda: torch.autograd.grad(q, leaves[3], one, retain_graph=True)[0]


def step(model: Model, inputs: Sequence[Any]) -> Callable[[], tuple[Any, Any]]:
    """Give a call that goes forward and back, and returns the discharge and the parameters' gradients."""
    import torch

    leaves = with_gradients(inputs)

    def call() -> tuple[Any, Any]:
        q = model(*leaves)[0]
        return q.detach(), torch.autograd.grad(q.sum(), leaves[3])[0]

    return call


def graphed(inputs: Sequence[Any], *, smooth: bool = False, part: str = "forward") -> Callable[[], Any]:
    """Capture a part of the eager model in CUDA graphs, and give a call that replays it.

    Args:
        inputs: on a GPU; replays read what lies in them then.
        smooth: which of the two models.
        part: "forward", "backward" or "step", as the functions of these names run it.

    Returns:
        A call that returns what those functions' calls return, in the same memory every time.
    """
    import torch

    model = eager(smooth=smooth)
    # Warm up on a stream of its own, as capture asks for.
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        step(model, inputs)()
    torch.cuda.current_stream().wait_stream(stream)

    graph = torch.cuda.CUDAGraph()
    if part == "step":
        call = step(model, inputs)
        with torch.cuda.graph(graph):
            results: Any = call()
        return _Replay([graph], results)
    leaves = with_gradients(inputs)
    with torch.cuda.graph(graph):
        q = model(*leaves)[0]
    if part == "forward":
        return _Replay([graph], q)
    one = torch.ones((), dtype=q.dtype, device=q.device).expand(q.shape)
    back = torch.cuda.CUDAGraph()
    with torch.cuda.graph(back, pool=graph.pool()):
        gradient = torch.autograd.grad(q, leaves[3], one, retain_graph=True)[0]
    # What backward reads is there once forward has run.
    graph.replay()
    return _Replay([back], gradient, keeps=(graph, q))


class _Replay:
    """Replays graphs; what they read and write lives as long as this does."""

    def __init__(self, graphs: Sequence[Any], results: Any, keeps: object = None) -> None:
        self._graphs, self._results, self._keeps = graphs, results, keeps

    def __call__(self) -> Any:
        for graph in self._graphs:
            graph.replay()
        return self._results


def with_gradients(inputs: Sequence[Any]) -> list[Any]:
    """Give the inputs with the parameters as a leaf of their own that wants gradients."""
    return [tensor.detach().requires_grad_(number == 3) for number, tensor in enumerate(inputs)]
