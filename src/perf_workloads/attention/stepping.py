"""How is one training step run again and again on the same batch: to be timed, weighed and profiled? Imports torch."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from perf_workloads.attention.config import DecoderConfig
from perf_workloads.attention.decoder import build
from perf_workloads.attention.training import Recipe, Training
from perfgate.measure.unprofiled import unprofiled


@dataclass(frozen=True)
class Stepping:
    """A model with one batch of random ids.

    Args:
        training: of the model.
        inputs: ids [B, T].
        targets: ids [B, T].
    """

    training: Training
    inputs: torch.Tensor
    targets: torch.Tensor

    def step(self) -> torch.Tensor:
        """Make one update, and give its loss."""
        return self.training.step(self.inputs, self.targets)


def stepping(config: DecoderConfig, device: str, batch: int, tokens: int) -> Stepping:
    """Build a model, and draw a batch."""
    model = build(config, device)
    ids = torch.randint(config.vocabulary, (batch, tokens + 1), generator=torch.Generator().manual_seed(0)).to(device)
    return Stepping(Training(model, Recipe(updates=1000, batch=batch)), ids[:, :-1], ids[:, 1:])


def time_steps(step: Callable[[], Any], device: str, *, warm_up: int = 5, steps: int = 20) -> tuple[float, float]:
    """Give mean and standard deviation of the seconds of a step, each waited for, as published tables show them.

    Raises:
        SettingError: torch's profiler runs meanwhile.
    """
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    samples = []
    with unprofiled():
        for number in range(warm_up + steps):
            wait()
            begin = time.perf_counter()
            step()
            wait()
            if number >= warm_up:
                samples.append(time.perf_counter() - begin)
    return statistics.mean(samples), statistics.stdev(samples)
