"""How long does each token take: greedy generation of a fixed number of tokens, every token stamped.

The prompt's pass (prefill) and the passes after it (decode) are kept apart: the first shows as the time to first token,
the others as one inter-token latency each.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

from perf_workloads.text_generation.setups import Cache

Clock = Callable[[], float]


@dataclass(frozen=True)
class Generation:
    """One finished generation of one or several sequences of the same length.

    ``tokens`` holds the new tokens of each sequence. ``latency_s`` runs from the call to its return;
    ``time_to_first_token_s`` from the call until the first new token is on the CPU; ``inter_token_latencies_s`` holds
    the time from each step to the next, one fewer than the new tokens of a sequence.
    """

    tokens: tuple[tuple[int, ...], ...]
    time_to_first_token_s: float
    inter_token_latencies_s: tuple[float, ...]
    latency_s: float

    @property
    def tokens_per_s(self) -> float:
        """Give the throughput of the whole call, all sequences together. The prompt's tokens do not count."""
        return sum(map(len, self.tokens)) / self.latency_s


class Line(NamedTuple):
    """Latency as a straight line over the number of new tokens."""

    first_token_s: float
    inter_token_s: float


def generate(
    model: Any,
    input_ids: Any,
    new_tokens: int,
    *,
    cache: Cache = "dynamic",
    compiled: bool = False,
    clock: Clock = time.perf_counter,
) -> Generation:
    """Generate exactly ``new_tokens`` tokens a sequence greedily through transformers; stamp each that reaches the CPU.

    A token's way to the CPU waits for the device, so a stamp needs no synchronization of its own. transformers streams
    each token right after its pass, except on Apple's GPUs, where it comes one pass late.

    Args:
        model: as :func:`~perf_workloads.text_generation.models.load` gives it.
        input_ids: [B, n] int64 on the model's device.
        new_tokens: how many to generate, at least 1.
        cache: kind of the cache of keys and values.
        compiled: let transformers compile the forward pass of each token after the first; takes the static cache.
        clock: gives seconds.

    Raises:
        ValueError: the prompt is no batch of sequences of at least one token, or no token is asked for.
        RuntimeError: the model streamed another number of tokens than it was asked for.
    """
    check_request(input_ids, new_tokens)
    stamps = _TokenStamps(clock)
    kind: dict[str, Any] = {}
    if cache == "static":
        # A static cache alone would already make transformers compile on a GPU.
        kind = {"cache_implementation": "static", "disable_compile": not compiled}
    if compiled and input_ids.device.type == "cpu":
        kind["compile_config"] = _for_a_cpu()
    wait_for(input_ids)
    start = clock()
    model.generate(
        input_ids,
        do_sample=False,
        min_new_tokens=new_tokens,
        max_new_tokens=new_tokens,
        use_cache=True,
        streamer=stamps,
        **kind,
    )
    wait_for(input_ids)
    end = clock()
    if len(stamps.tokens) != new_tokens:
        raise RuntimeError(f"{new_tokens} tokens were asked for and {len(stamps.tokens)} streamed")
    return finished(stamps.tokens, start, stamps.times_s, end)


def _for_a_cpu() -> Any:
    """Give the settings with which transformers compiles on a CPU, too, where there are no CUDA graphs to ask for."""
    from transformers import CompileConfig

    settings = CompileConfig(mode="default")
    # What transformers' own tests set: otherwise it goes on eagerly there.
    settings._compile_all_devices = True
    return settings


def check_request(input_ids: Any, new_tokens: int) -> None:
    """Raise ValueError for a prompt or a number of tokens that cannot be generated with."""
    if input_ids.ndim != 2 or min(input_ids.shape) < 1:
        raise ValueError(f"the prompt must have the shape [B, n], not {list(input_ids.shape)}")
    if new_tokens < 1:
        raise ValueError(f"new_tokens must be at least 1, not {new_tokens}")


def finished(steps: Sequence[Sequence[int]], start: float, stamps: Sequence[float], end: float) -> Generation:
    """Make a generation of the tokens of each step and of the clock's readings."""
    return Generation(
        tokens=tuple(zip(*steps, strict=True)),
        time_to_first_token_s=stamps[0] - start,
        inter_token_latencies_s=tuple(later - earlier for earlier, later in pairwise(stamps)),
        latency_s=end - start,
    )


def fit_line(latencies_s: Sequence[tuple[int, float]]) -> Line:
    """Fit latency over the number of new tokens: least squares, its slope and its value at one token.

    Args:
        latencies_s: new tokens and latency of each generation; at least two different numbers of tokens.

    Raises:
        ValueError: there are fewer than two lengths.
    """
    if len({tokens for tokens, _ in latencies_s}) < 2:
        raise ValueError("a line takes generations of at least two lengths")
    mean_tokens = sum(tokens for tokens, _ in latencies_s) / len(latencies_s)
    mean_s = sum(latency_s for _, latency_s in latencies_s) / len(latencies_s)
    spread = sum((tokens - mean_tokens) ** 2 for tokens, _ in latencies_s)
    slope = sum((tokens - mean_tokens) * (latency_s - mean_s) for tokens, latency_s in latencies_s) / spread
    return Line(mean_s + slope * (1 - mean_tokens), slope)


def percentile(values: Sequence[float], share: float) -> float:
    """Give the value below which this share of the values lies, interpolated between neighbours.

    Raises:
        ValueError: there are no values: a single token has no inter-token latency.
    """
    if not values:
        raise ValueError("no inter-token latency: fewer than two tokens were generated")
    ordered = sorted(values)
    position = share * (len(ordered) - 1)
    below = math.floor(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (position - below) * (ordered[above] - ordered[below])


class _TokenStamps:
    """Receive what ``generate`` streams: first the prompt, then every step's tokens; stamp the steps."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._prompt_seen = False
        self.times_s: list[float] = []
        self.tokens: list[list[int]] = []

    def put(self, value: Any) -> None:
        """Take the prompt, [B, n], or new tokens, [B], both on the CPU."""
        if not self._prompt_seen:
            self._prompt_seen = True
            return
        self.times_s.append(self._clock())
        self.tokens.append(value.tolist())

    def end(self) -> None:
        """Take note that there is no more to come: nothing to do."""


def wait_for(tensor: Any) -> None:
    """Wait until the tensor's device has nothing left to do: earlier work must not count, late work must."""
    if tensor.device.type != "cpu":
        import torch

        torch.accelerator.synchronize(tensor.device)
