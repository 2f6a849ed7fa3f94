"""How long does each token take: greedy generation of a fixed number of tokens, batch 1, every token stamped.

The prompt's pass (prefill) and the passes after it (decode) are kept apart: the first shows as the time to first token,
the others as one inter-token latency each.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any


@dataclass(frozen=True)
class Generation:
    """One finished generation.

    ``latency_s`` runs from the call to its return; ``time_to_first_token_s`` from the call until the first new token is
    on the CPU; ``inter_token_latencies_s`` holds the time from each new token to the next, one fewer than the tokens.
    """

    tokens: tuple[int, ...]
    time_to_first_token_s: float
    inter_token_latencies_s: tuple[float, ...]
    latency_s: float

    @property
    def tokens_per_s(self) -> float:
        """Give the throughput of the whole call. The prompt's tokens do not count."""
        return len(self.tokens) / self.latency_s

    @property
    def p50_s(self) -> float:
        """Give the median inter-token latency."""
        return percentile(self.inter_token_latencies_s, 0.50)

    @property
    def p90_s(self) -> float:
        """Give the inter-token latency that nine in ten stay within."""
        return percentile(self.inter_token_latencies_s, 0.90)

    @property
    def p99_s(self) -> float:
        """Give the inter-token latency that 99 in 100 stay within."""
        return percentile(self.inter_token_latencies_s, 0.99)


def generate(
    model: Any, input_ids: Any, new_tokens: int, *, clock: Callable[[], float] = time.perf_counter
) -> Generation:
    """Generate exactly ``new_tokens`` tokens greedily and stamp each as it reaches the CPU.

    A token's way to the CPU waits for the device, so a stamp needs no synchronization of its own. transformers streams
    each token right after its pass, except on Apple's GPUs, where it comes one pass late.

    Args:
        model: as :func:`~perf_workloads.text_generation.models.load` gives it.
        input_ids: [1, n] int64 on the model's device.
        new_tokens: how many to generate, at least 1.
        clock: gives seconds.

    Raises:
        ValueError: the prompt is not one sequence of at least one token, or no token is asked for.
        RuntimeError: the model streamed another number of tokens than it was asked for.
    """
    if input_ids.ndim != 2 or input_ids.shape[0] != 1 or input_ids.shape[1] < 1:
        raise ValueError(f"the prompt must have the shape [1, n], not {list(input_ids.shape)}")
    if new_tokens < 1:
        raise ValueError(f"new_tokens must be at least 1, not {new_tokens}")
    stamps = _TokenStamps(clock)
    _wait_for(input_ids)
    start = clock()
    model.generate(
        input_ids,
        do_sample=False,
        min_new_tokens=new_tokens,
        max_new_tokens=new_tokens,
        use_cache=True,
        streamer=stamps,
    )
    _wait_for(input_ids)
    end = clock()
    if len(stamps.tokens) != new_tokens:
        raise RuntimeError(f"{new_tokens} tokens were asked for and {len(stamps.tokens)} streamed")
    times = stamps.times_s
    return Generation(
        tokens=tuple(int(token) for token in stamps.tokens),
        time_to_first_token_s=times[0] - start,
        inter_token_latencies_s=tuple(later - earlier for earlier, later in pairwise(times)),
        latency_s=end - start,
    )


def greedy_gap(model: Any, input_ids: Any, tokens: Sequence[int]) -> float:
    """Tell how far the generated tokens are from the greedy choice, without the cache that generated them.

    One pass over prompt and tokens gives the logits that each token was chosen from. The result is the largest
    shortfall of a chosen token's logit below the best one, in standard deviations of that step's logits: 0 when every
    choice agrees, rounding where two logits nearly tie, around 4 for a token chosen at random.
    """
    import torch

    chosen = torch.tensor(tokens, device=input_ids.device)
    with torch.no_grad():
        logits = model(torch.cat([input_ids[0], chosen[:-1]])[None], use_cache=False).logits[0].float()
    steps = logits[input_ids.shape[1] - 1 :]
    shortfall = steps.max(dim=-1).values - steps.gather(-1, chosen[:, None])[:, 0]
    return float((shortfall / steps.std(dim=-1)).max())


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
    """Receive what ``generate`` streams: first the prompt, then every new token; stamp the tokens."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._prompt_seen = False
        self.times_s: list[float] = []
        self.tokens: list[Any] = []

    def put(self, value: Any) -> None:
        """Take the prompt, [1, n], or a new token, [1], both on the CPU."""
        if not self._prompt_seen:
            self._prompt_seen = True
            return
        self.times_s.append(self._clock())
        self.tokens.extend(value)

    def end(self) -> None:
        """Take note that there is no more to come: nothing to do."""


def _wait_for(tensor: Any) -> None:
    """Wait until the tensor's device has nothing left to do: earlier work must not count, late work must."""
    if tensor.device.type != "cpu":
        import torch

        torch.accelerator.synchronize(tensor.device)
