"""How much memory do the two passes of a training step need, apart from each other? Imports torch.

Everything is counted over what was there before the forward pass: weights and the optimizer's state are not in it.

- ``forward_memory``: the peak of the forward pass and the loss, activations that it keeps for later included.
- ``held_memory``: what is still there when it is done: what the backward pass will read, logits and loss.
- ``backward_memory``: the peak of the backward pass, what the forward pass left and the gradients of the weights
  included. A peak that is reset between the passes and counted from there would leave the activations out.
- ``step_memory``: the peak of both, one after the other.

What was requested of torch's allocator counts, on a GPU and on a CPU: both repeat exactly.
"""

from __future__ import annotations

import gc
from typing import Any

import torch

from perf_workloads.attention.training import forward_and_loss


def memory_of_step(model: Any, inputs: torch.Tensor, targets: torch.Tensor) -> dict[str, int]:
    """Give the bytes of each figure above. Warm up before: a first step also loads and tunes kernels."""
    measure = _on_device if inputs.device.type == "cuda" else _on_cpu
    return measure(model, inputs, targets)


def _on_device(model: Any, inputs: torch.Tensor, targets: torch.Tensor) -> dict[str, int]:
    model.zero_grad(set_to_none=True)
    gc.collect()
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    before, _ = _requested()
    torch.cuda.reset_peak_memory_stats()
    loss = forward_and_loss(model, inputs, targets)
    torch.cuda.synchronize()
    held, forward = _requested()
    torch.cuda.reset_peak_memory_stats()
    loss.backward()
    torch.cuda.synchronize()
    _, backward = _requested()
    model.zero_grad(set_to_none=True)
    return {
        "forward_memory": forward - before,
        "held_memory": held - before,
        "backward_memory": backward - before,
        "step_memory": max(forward, backward) - before,
    }


def _requested() -> tuple[int, int]:
    """Give what is requested of the allocator now, and at the peak since the last reset.

    What it handed out would depend on the blocks that other tensors left free.
    """
    stats = torch.cuda.memory_stats()
    counter = "requested_bytes" if stats.get("requested_bytes.all.allocated") else "allocated_bytes"
    return stats[f"{counter}.all.current"], stats[f"{counter}.all.peak"]


def _on_cpu(model: Any, inputs: torch.Tensor, targets: torch.Tensor) -> dict[str, int]:
    from perf_workloads.attention.allocations import count

    model.zero_grad(set_to_none=True)
    forward = count(lambda: forward_and_loss(model, inputs, targets))
    backward = forward.left + count(forward.result.backward).peak
    model.zero_grad(set_to_none=True)
    return {
        "forward_memory": forward.peak,
        "held_memory": forward.left,
        "backward_memory": backward,
        "step_memory": max(forward.peak, backward),
    }
