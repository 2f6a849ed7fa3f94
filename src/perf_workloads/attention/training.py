"""How is a decoder trained: fp32 weights, bf16 arithmetic on a GPU, AdamW, a cosine to a tenth? Imports torch."""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional
from torch.profiler import record_function

from perf_workloads.attention.tasks import NOTHING
from perfgate.errors import SettingError


@dataclass(frozen=True)
class Recipe:
    """How to train.

    Args:
        updates: steps of the optimizer.
        batch: sequences of one step.
        rate: learning rate after the warm-up.
        warm_up: steps over which it rises to that.
        last: share of it that is left at the end of the cosine.
        decay: weight decay of matrices; scales, biases and rates have none.
        clip: largest norm of all gradients.
    """

    updates: int
    batch: int
    rate: float = 5e-4
    warm_up: int = 0
    last: float = 0.1
    decay: float = 0.1
    clip: float = 1.0

    def rate_at(self, update: int) -> float:
        """Give the learning rate of one update, counted from 0."""
        if update < self.warm_up:
            return self.rate * (update + 1) / self.warm_up
        done = (update - self.warm_up) / max(1, self.updates - self.warm_up)
        return self.rate * (self.last + (1 - self.last) * (1 + math.cos(math.pi * min(done, 1.0))) / 2)


class Training:
    """A model in training.

    Args:
        model: weights in fp32.
        recipe: how to train.

    Raises:
        SettingError: some weights are of another type.
    """

    def __init__(self, model: Any, recipe: Recipe) -> None:
        _refuse_other_types(model)
        self.model, self.recipe, self.updates = model, recipe, 0
        matrices = [parameter for parameter in model.parameters() if parameter.ndim >= 2]
        others = [parameter for parameter in model.parameters() if parameter.ndim < 2]
        groups = [{"params": matrices, "weight_decay": recipe.decay}, {"params": others, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=recipe.rate, betas=(0.9, 0.95), fused=True)

    def step(self, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Make one update, in spans that a profiler shows, and give the loss without waiting for it.

        Args:
            inputs: ids [B, T].
            targets: ids [B, T], ``NOTHING`` where there is nothing to predict.
        """
        rate = self.recipe.rate_at(self.updates)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        loss = forward_and_loss(self.model, inputs, targets)
        with record_function("backward"):
            loss.backward()
        with record_function("optimizer"):
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip)
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
        self.updates += 1
        return loss.detach()


def _refuse_other_types(model: Any) -> None:
    """Raise SettingError unless all weights are fp32."""
    others = [(name, each.dtype) for name, each in model.named_parameters() if each.dtype != torch.float32]
    if others:
        name, dtype = others[0]
        more = f" and {len(others) - 1} more" if len(others) > 1 else ""
        raise SettingError(
            f"Training: {name}{more} of the model is {str(dtype).removeprefix('torch.')}, not float32",
            "Updates smaller than a weight's last bit are lost: in pure bf16 the published tasks learned nothing.",
            "train model.float(); a step computes in bf16 by itself on a GPU, by autocast",
        )


def forward_and_loss(model: Any, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Give the mean cross entropy of the targets that are due."""
    with record_function("forward"):
        outputs = logits(model, inputs)
    with record_function("loss"):
        return functional.cross_entropy(outputs.flatten(0, 1).float(), targets.flatten(), ignore_index=NOTHING)


def logits(model: Any, inputs: torch.Tensor) -> torch.Tensor:
    """Give what a model makes of ids, in the arithmetic of a training step: fla and flash know no fp32."""
    with autocast(inputs.device):
        outputs: torch.Tensor = model(inputs)
    return outputs


def autocast(device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """Give bf16 arithmetic on a GPU; a CPU computes in fp32, most having no fast bf16."""
    if device.type != "cuda":
        return contextlib.nullcontext()
    context: contextlib.AbstractContextManager[Any] = torch.autocast("cuda", dtype=torch.bfloat16)
    return context
