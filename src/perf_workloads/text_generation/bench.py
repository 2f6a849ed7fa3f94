"""What do the cases of one configuration share? The loaded model, what generates with it, and what both reached.

Imports torch when something is loaded.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import gc
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from perf_workloads.implementation import nothing_compiled
from perf_workloads.text_generation import prompts
from perf_workloads.text_generation.driver import Clock, Generation, generate
from perf_workloads.text_generation.models import load, weight_bytes
from perf_workloads.text_generation.setups import Configuration, Dtype, GenerationSetup
from perfgate.measure.unprofiled import unprofiled

#: Caches are made this many tokens longer at a time, so that cases of about the same length share a captured graph.
CACHE_STEP = 128


class Attended(NamedTuple):
    """What a library plans attention for: another of these is planned anew."""

    model: str
    dtype: Dtype
    batch: int
    queries: int
    keys: int


class FirstGeneration(NamedTuple):
    """The generation before those that are timed.

    ``new_lengths`` counts its passes whose number of queries and keys no generation of this process had before; None
    with a static cache, whose attention always has the whole cache's keys.
    """

    generation: Generation
    new_lengths: int | None


class Models:
    """Keeps the model that was loaded last, and what generates with it: there is room for one.

    Args:
        weights: a folder with real weights of Qwen3-4B; None draws random ones.
    """

    def __init__(self, weights: Path | None = None) -> None:
        self._weights = weights
        self._runners: dict[tuple[Configuration, int, int], Runner] = {}
        self._setup: GenerationSetup | None = None
        self._model: Any = None
        self._load_s = 0.0
        self._floor_bytes = 0
        # Outlives models: so does what libraries plan.
        self._met: set[Attended] = set()

    def runner(self, configuration: Configuration, batch: int, tokens: int) -> Runner:
        """Give what generates in a configuration, for sequences of at most so many tokens, prompt and new ones."""
        setup = configuration.setup
        if self._weights is not None and setup.model == "qwen3-4b":
            setup = dataclasses.replace(setup, weights=str(self._weights))
        if setup != self._setup:
            self.release()
            self._floor_bytes = _floor_bytes() if setup.device == "cuda" else 0
            begin = time.perf_counter()
            self._model = load(setup)
            if setup.device == "cuda":
                _synchronize()
            self._load_s = time.perf_counter() - begin
            self._setup = setup
        length = -(-tokens // CACHE_STEP) * CACHE_STEP
        key = (dataclasses.replace(configuration, setup=setup), batch, length)
        if key not in self._runners:
            # A graph keeps its memory: only one at a time, so that a case's peak does not depend on earlier cases.
            self._runners.clear()
            self._runners[key] = Runner(key[0], self._model, batch, length, self._load_s, self._floor_bytes, self._met)
        return self._runners[key]

    def release(self) -> None:
        """Forget the model and give its memory back."""
        self._runners.clear()
        self._model = self._setup = None
        gc.collect()
        with contextlib.suppress(ImportError):
            import torch

            if torch.cuda.is_available() and torch.cuda.is_initialized():
                torch.cuda.empty_cache()


class Runner:
    """Generates in one configuration.

    Args:
        configuration: what it says is run.
        model: the loaded model.
        batch: number of sequences.
        length: tokens that a static cache holds.
        load_s: seconds that loading the model took.
        floor_bytes: device memory in use before the model was loaded.
        met: what attention has met in this process, to which this runner adds.
    """

    def __init__(
        self,
        configuration: Configuration,
        model: Any,
        batch: int,
        length: int,
        load_s: float,
        floor_bytes: int,
        met: set[Attended],
    ) -> None:
        self.configuration, self.model, self.batch = configuration, model, batch
        self._met = met
        self.load_s, self._floor_bytes = load_s, floor_bytes
        # Of a captured prompt, whose replays request no memory.
        self._captured_bytes = 0
        self.graphed: Any = None
        if configuration.mode == "graph":
            from perf_workloads.text_generation.graphed import GraphedGenerator

            self.graphed = GraphedGenerator(model, batch, length, graph=configuration.setup.device == "cuda")

    @property
    def on_gpu(self) -> bool:
        """Whether the model is on a GPU."""
        return self.configuration.setup.device == "cuda"

    @property
    def weight_bytes(self) -> int:
        """Bytes of weights that each token reads."""
        return weight_bytes(self.model)

    def prompt(self, tokens: int) -> tuple[Any, str]:
        """Give prompts of so many tokens, and what they are: "text" or "random tokens"."""
        folder = self.configuration.setup.weights
        if folder is not None and prompts.has_tokenizer(Path(folder)):
            return prompts.text_prompt(self.model, Path(folder), tokens, self.batch), "text"
        return prompts.random_prompt(self.model, tokens, batch=self.batch), "random tokens"

    def generate(
        self, input_ids: Any, new_tokens: int, clock: Clock = time.perf_counter, *, compiled: bool = True
    ) -> Generation:
        """Generate exactly so many tokens for each prompt.

        Args:
            input_ids: prompts.
            new_tokens: how many are generated for each.
            clock: gives seconds.
            compiled: whether mode "compile" compiles; otherwise its passes are eager ones, to be looked at.
        """
        if self.graphed is not None:
            generation: Generation = self.graphed.generate(input_ids, new_tokens, clock=clock)
            return generation
        generation = generate(
            self.model,
            input_ids,
            new_tokens,
            cache=self.configuration.cache,
            compiled=compiled and self.configuration.mode == "compile",
            clock=clock,
        )
        self._met |= self._attended(input_ids, new_tokens)
        return generation

    def warm_up(self, input_ids: Any, new_tokens: int, clock: Clock = time.perf_counter) -> FirstGeneration:
        """Generate once what is timed next, so that nothing in it is of a length that the process has not met.

        With a dynamic cache each pass has one key more than the last. What a library plans or compiles for a length, as
        cuDNN's attention does, is paid by the first generation that meets it: by this one.

        Raises:
            SettingError: torch's profiler runs meanwhile.
        """
        dynamic = self.configuration.cache == "dynamic"
        new = len(self._attended(input_ids, new_tokens) - self._met) if dynamic else None
        with unprofiled():
            return FirstGeneration(self.generate(input_ids, new_tokens, clock), new)

    def timed(self, input_ids: Any, new_tokens: int, clock: Clock = time.perf_counter) -> Generation:
        """Generate for a figure outside of ``benchmark(...)``, which looks after its own calls.

        Raises:
            SettingError: torch's profiler runs meanwhile.
            WrongImplementation: something was compiled meanwhile.
        """
        with unprofiled(), nothing_compiled():
            return self.generate(input_ids, new_tokens, clock)

    def _attended(self, input_ids: Any, new_tokens: int) -> set[Attended]:
        """Give what attention meets with a dynamic cache: the prompt, then single tokens and one key more each."""
        if self.configuration.cache != "dynamic":
            return set()
        batch, tokens = input_ids.shape
        passes = [(tokens, tokens), *((1, keys) for keys in range(tokens + 1, tokens + new_tokens))]
        setup = self.configuration.setup
        return {Attended(setup.model, setup.dtype, batch, *each) for each in passes}

    def capture(self, input_ids: Any) -> None:
        """Capture the prompt's pass anew, and keep the peak of its memory: replays request none."""
        self._captured_bytes = 0
        with self.watching_memory() as peak:
            self.graphed.start(input_ids, anew=True)
        self._captured_bytes = sum(peak)

    @contextlib.contextmanager
    def watching_memory(self) -> Iterator[list[int]]:
        """Append the peak of device memory to the list at the end, model included; nothing on a CPU."""
        peak: list[int] = []
        if self.on_gpu:
            gc.collect()
            _synchronize()
            import torch

            torch.cuda.reset_peak_memory_stats()
        yield peak
        if self.on_gpu:
            _synchronize()
            peak.append(max(device_bytes("peak") - self._floor_bytes, self._captured_bytes))


@dataclasses.dataclass(frozen=True)
class Figures:
    """What a configuration reached at a point: what goals are compared with."""

    tokens_per_s: float
    inter_token_s: float
    peak_bytes: int
    weight_bytes: int

    def bandwidth_share(self, copy_bandwidth: float) -> float:
        """Give the share of the bandwidth that reading the weights once a token takes."""
        return self.weight_bytes / (self.inter_token_s * copy_bandwidth)


def device_bytes(which: str) -> int:
    """Give the memory requested of torch's allocator on the GPU: "current" or "peak".

    Its blocks may be larger, by what earlier cases left free. Where requests are not known it is the blocks.
    """
    import torch

    stats = torch.cuda.memory_stats()
    counter = "requested_bytes" if stats.get("requested_bytes.all.allocated") else "allocated_bytes"
    return int(stats.get(f"{counter}.all.{which}", 0))


def _floor_bytes() -> int:
    """Give the memory in use before a model is loaded, with the workspaces that cuBLAS keeps.

    It has one for each stream, from the first product there on: torch's own and that of captures. Otherwise a case's
    peak would hold them where no model was used before, and not where one was.
    """
    import torch

    from perf_workloads.text_generation.graphed import beside

    one = torch.ones(16, 16, dtype=torch.bfloat16, device="cuda")
    torch.mm(one, one)
    beside(functools.partial(torch.mm, one, one))
    return device_bytes("current") - int(one.nbytes)


def _synchronize() -> None:
    import torch

    torch.cuda.synchronize()


def rounds_for(configuration: Configuration, new_tokens: int) -> int:
    """Give how often a generation is timed: replayed graphs take milliseconds a token, eager passes tens of them."""
    if configuration.mode == "graph":
        return 3
    return 2 if new_tokens <= 50 else 1
