"""How is a sequence generated, pass by pass, with every stage timed?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from perf_workloads.bitnet.sampling import Sampling
from perf_workloads.bitnet.timeline import MemoryTimeline


@dataclass(frozen=True)
class Stage:
    """What one stage took.

    Args:
        name: of the stage.
        start_s: when it began, in seconds since the timeline did.
        seconds: how long it took.
        waited_s: how much of that this thread waited for a core that others had.
        rss_change: bytes of resident memory after it, less those before.
    """

    name: str
    start_s: float
    seconds: float
    waited_s: float
    rss_change: int


class Stages:
    """Times stages, and tells how memory changed in each.

    Args:
        timeline: gives time and memory.
        wait: waits for the device.
        waited: gives the seconds that this thread has waited for a core so far.
    """

    def __init__(self, timeline: MemoryTimeline, wait: Callable[[], None], waited: Callable[[], float]) -> None:
        self._timeline, self._wait, self._waited = timeline, wait, waited
        self.done: list[Stage] = []

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Time what happens inside."""
        before, waited = self._timeline.sample(), self._waited()
        yield
        self._wait()
        # Between the two times, so that it is part of what lies between them.
        waited_s = self._waited() - waited
        after = self._timeline.sample()
        change = after.memory.rss - before.memory.rss
        self.done.append(Stage(name, before.time_s, after.time_s - before.time_s, waited_s, change))


class Generation:
    """One sequence through a model with a cache; every pass gives one token.

    Args:
        model: a causal language model.
        sampling: how tokens are chosen.
    """

    def __init__(self, model: Any, sampling: Sampling) -> None:
        from transformers import DynamicCache

        self._model, self._choose = model, sampling.chooser()
        self._cache = DynamicCache(config=model.config)
        self._last: Any = None
        self.passes = 0

    def start(self, inputs: Any) -> int:
        """Run the prompt ``inputs: [1, n]``, and give the first new token."""
        return self._pass(inputs)

    def step(self) -> int:
        """Run the last token, and give the next. Choosing it waits for the device."""
        return self._pass(self._last)

    def _pass(self, inputs: Any) -> int:
        self.passes += 1
        # The head sees one position: nobody asked for the others' logits.
        output = self._model(inputs, past_key_values=self._cache, use_cache=True, logits_to_keep=1)
        token = self._choose(output.logits[0, -1])
        self._last = inputs.new_tensor([[token]])
        return token
