"""How does generation run when the prompt is one replay of a CUDA graph and each further token another? Imports torch.

The prompt goes through transformers' layers, which fill a static cache of transformers; each token after the first is
one step of fused kernels on the same cache. Launched one by one, a short prompt waits for the CPU ten times as long as
for the GPU.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from perf_workloads.text_generation.driver import Clock, Generation, check_request, finished
from perf_workloads.text_generation.fused import FusedStep

#: Forward passes of transformers' layers that a prompt of a new length takes: before the capture, and captured.
PROMPT_PASSES = 2
#: Steps that run before the capture: kernels are compiled in the first.
WARM_UP_STEPS = 2


@dataclass(frozen=True)
class _Prompt:
    """A captured pass: the tokens [B, n] that it reads, and its graph."""

    input_ids: torch.Tensor
    graph: torch.cuda.CUDAGraph


class GraphedGenerator:
    """Generates greedily; memory of the cache and the graph are allocated once.

    Args:
        model: as :func:`~perf_workloads.text_generation.models.load` gives it.
        batch: number of sequences.
        length: tokens that the cache holds, prompt and new ones.
        graph: capture the step, and the prompt's pass for the number of tokens that prompts have. Without it (in
            Triton's interpreter, say) kernels are launched one by one.

    Attributes:
        step: the fused step.
    """

    def __init__(self, model: Any, batch: int, length: int, *, graph: bool = True) -> None:
        from transformers import StaticCache

        self.model, self.batch, self.length = model, batch, length
        self.cache = StaticCache(config=model.config, max_cache_len=length)
        with torch.no_grad():
            # Memory of the cache is allocated by the first pass.
            self._prefill(torch.zeros(batch, 1, dtype=torch.int64, device=model.device))
            self.step = FusedStep(model, self.cache, batch)
            self.step.position.fill_(1)
            self._graph = self._capture() if graph else None
        self._prompt: _Prompt | None = None
        self._host = torch.empty((length, batch), dtype=torch.int64, pin_memory=graph)

    def generate(self, input_ids: Any, new_tokens: int, *, clock: Clock = time.perf_counter) -> Generation:
        """Generate exactly ``new_tokens`` tokens a sequence greedily and stamp each step as it reaches the CPU.

        The next replay is queued before the last one's tokens are waited for, so that the device does not idle. The
        prompt's pass is captured before the clock starts, if prompts had another length before.

        Args:
            input_ids: [B, n] int64 on the model's device.
            new_tokens: how many to generate, at least 1.
            clock: gives seconds.

        Raises:
            ValueError: the request cannot be generated, or does not fit into the cache.
        """
        check_request(input_ids, new_tokens)
        tokens = input_ids.shape[1]
        if input_ids.shape[0] != self.batch or tokens + new_tokens > self.length:
            raise ValueError(
                f"{input_ids.shape[0]} sequences of {tokens} + {new_tokens} tokens do not fit into a cache for "
                f"{self.batch} of {self.length}"
            )
        with torch.no_grad():
            self.capture(input_ids)
            self._wait()
            start = clock()
            first = self.start(input_ids)
            stamps = [clock()]
            self._decode(new_tokens - 1, clock, stamps)
        end = clock()
        return finished([first, *self._host[: new_tokens - 1].tolist()], start, stamps, end)

    def start(self, input_ids: Any, *, anew: bool = False) -> list[int]:
        """Run the prompt; give the first new tokens, from which :attr:`step` goes on.

        Args:
            input_ids: as for :meth:`generate`.
            anew: capture its pass again, as is needed to look at what it does: a replay tells nothing.
        """
        if anew:
            self._prompt = None
        self.capture(input_ids)
        if self._prompt is None:
            self.run_prompt(input_ids)
        else:
            self._prompt.input_ids.copy_(input_ids)
            self._prompt.graph.replay()
        tokens: list[int] = self.step.token.tolist()
        return tokens

    def run_prompt(self, input_ids: Any) -> None:
        """Launch the prompt's pass kernel by kernel: it leaves the first new tokens in :attr:`step`."""
        self.step.token.copy_(self._prefill(input_ids)[:, -1].float().argmax(dim=-1))
        self.step.position.fill_(input_ids.shape[1])

    def capture(self, input_ids: Any) -> None:
        """Capture the pass of prompts of this length, unless the last one was as long, or there are no graphs.

        That takes two passes. Replays request no memory: what a pass needs is in the peak of its capture alone.
        """
        if self._graph is None or (self._prompt is not None and self._prompt.input_ids.shape == input_ids.shape):
            return
        self._prompt = None
        with torch.no_grad():
            held = input_ids.clone()
            # Kernels are loaded by the first pass, and libraries allocate then.
            beside(lambda: self.run_prompt(held))
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, stream=_capture_stream()):
                self.run_prompt(held)
        self._prompt = _Prompt(held, graph)

    def replay(self) -> None:
        """Queue one step, from the tokens and the position that :attr:`step` holds."""
        if self._graph is None:
            self.step()
        else:
            self._graph.replay()

    def _prefill(self, input_ids: Any) -> Any:
        """Run transformers' layers on prompts; give the logits [B, 1, V] after them.

        Without a mask transformers asks a static cache how much it holds, for which a CPU waits, and does something
        else while a stream is capturing. With one the pass before a capture is the pass that is captured.
        """
        self.cache.reset()
        batch, tokens = input_ids.shape
        at = torch.arange(self.length, device=input_ids.device)
        seen = (at <= at[:tokens, None]).expand(batch, 1, tokens, self.length)
        return self.model(
            input_ids, attention_mask=seen, past_key_values=self.cache, use_cache=True, logits_to_keep=1
        ).logits

    def _decode(self, steps: int, clock: Clock, stamps: list[float]) -> None:
        if self._graph is None:
            for number in range(steps):
                self.replay()
                self._host[number].copy_(self.step.token)
                stamps.append(clock())
            return
        arrived = [torch.cuda.Event() for _ in range(steps)]
        for number in range(steps):
            self.replay()
            self._host[number].copy_(self.step.token, non_blocking=True)
            arrived[number].record()
            if number:
                arrived[number - 1].synchronize()
                stamps.append(clock())
        if arrived:
            arrived[-1].synchronize()
            stamps.append(clock())

    def _capture(self) -> torch.cuda.CUDAGraph:
        def warm_up() -> None:
            for _ in range(WARM_UP_STEPS):
                self.step()

        beside(warm_up)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=_capture_stream()):
            self.step()
        return graph

    def _wait(self) -> None:
        if self.model.device.type == "cuda":
            torch.cuda.synchronize()


@functools.cache
def _capture_stream() -> Any:
    """Give the one stream of all captures: cuBLAS keeps a workspace for each stream that it has seen."""
    return torch.cuda.Stream()


def beside(call: Callable[[], object]) -> None:
    """Call on the stream of captures, and wait for it."""
    stream = _capture_stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        call()
    torch.cuda.current_stream().wait_stream(stream)
    torch.cuda.synchronize()
