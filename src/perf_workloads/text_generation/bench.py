"""What do the cases of one configuration share? The loaded model, what generates with it, and what both did.

Imports torch when something is loaded.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from perf_workloads.implementation import compiled_graphs, operators
from perf_workloads.text_generation import prompts
from perf_workloads.text_generation.driver import Clock, Generation, generate
from perf_workloads.text_generation.models import load, weight_bytes
from perf_workloads.text_generation.setups import (
    SHAPES,
    Backend,
    Configuration,
    Dtype,
    GenerationSetup,
    linear_layer_count,
)

#: Tokens of a generation whose compiled passes are looked at: the prompt's is eager.
COMPILED_TOKENS = 4
#: Caches are made this many tokens longer at a time, so that cases of about the same length share a captured graph.
CACHE_STEP = 128
#: The operator of torch that a norm is known by.
NORM = "aten::rsqrt"
#: The operator of torch that multiplies in the decoder layers, where it is not ``aten::mm``.
OPERATORS: dict[Backend, str] = {"int-mm": "aten::_int_mm", "scaled-mm": "aten::_scaled_mm"}


class OtherImplementation(RuntimeError):
    """Something else ran than what the configuration says."""


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
            self._floor_bytes = device_bytes("current") if setup.device == "cuda" else 0
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
        """
        dynamic = self.configuration.cache == "dynamic"
        new = len(self._attended(input_ids, new_tokens) - self._met) if dynamic else None
        return FirstGeneration(self.generate(input_ids, new_tokens, clock), new)

    def _attended(self, input_ids: Any, new_tokens: int) -> set[Attended]:
        """Give what attention meets with a dynamic cache: the prompt, then single tokens and one key more each."""
        if self.configuration.cache != "dynamic":
            return set()
        batch, tokens = input_ids.shape
        passes = [(tokens, tokens), *((1, keys) for keys in range(tokens + 1, tokens + new_tokens))]
        setup = self.configuration.setup
        return {Attended(setup.model, setup.dtype, batch, *each) for each in passes}

    def observe(self, input_ids: Any, new_tokens: int = 4) -> dict[str, str]:
        """Generate a few tokens, look at what ran, and tell it: also the warm-up of kernels and handles.

        Passes launched one by one are looked at where a generation begins and where it ends, since torch chooses an
        attention for each length.

        Args:
            input_ids: prompts.
            new_tokens: how many are generated later: what is compiled for a cache of that length is compiled here.

        Raises:
            OtherImplementation: it is not what the configuration says.
        """
        from perf_workloads.text_generation.graphed import PROMPT_PASSES
        from perf_workloads.text_generation.watch import watch

        setup, mode = self.configuration.setup, self.configuration.mode
        told: dict[str, str] = {"backend": setup.backend, "cache": self.configuration.cache, "mode": mode}
        if self.graphed is not None:
            # Launched one by one: a replay tells nothing of what it runs.
            self.graphed.step()
            self._captured_bytes = 0
            with self.watching_memory() as peak:
                seen = watch(self.model, lambda: self.graphed.start(input_ids, anew=True))
            self._captured_bytes = sum(peak)
            passes = PROMPT_PASSES if self.on_gpu else 1
        else:
            prompts_seen = [input_ids, *self._as_it_ends(input_ids, new_tokens)]
            # What is compiled tells little of what it runs, a replay nothing: eager passes of the same model do.
            seen = watch(self.model, lambda: [self.generate(each, 2, compiled=False) for each in prompts_seen])
            passes = 2 * len(prompts_seen)
        wanted_cache = f"{self.configuration.cache.capitalize()}Cache"
        if seen.caches != {wanted_cache} or seen.passes != passes:
            raise OtherImplementation(
                f"{self.configuration.label}: {seen.passes} passes with {', '.join(sorted(seen.caches))}; expected "
                f"were {passes} with {wanted_cache}"
            )
        # Of quantised layers our kernel takes few tokens, which torch does not see, and torch takes many.
        if setup.backend != "triton" or setup.method == "dense":
            inner = passes * (linear_layer_count(setup.model) - 1)
            name = OPERATORS.get(setup.backend, "aten::mm")
            # The head's product is an ``mm`` or, for the last token of a prompt, a batched one.
            if not inner <= seen.operators[name] <= inner + passes:
                raise OtherImplementation(
                    f"{self.configuration.label}: {seen.operators[name]} {name} in {passes} passes; expected were "
                    f"{inner} and those of the head"
                )
        attended = passes * int(SHAPES[setup.model]["num_hidden_layers"])
        if seen.fused_attentions < attended:
            raise OtherImplementation(
                f"{self.configuration.label}: attention ran in pieces {attended - seen.fused_attentions} of {attended} "
                "times; expected was a fused one"
            )
        told["sdpa_backend"] = seen.attention
        if mode == "compile":
            told["compiled_graphs"] = str(self._compile(input_ids, new_tokens))
            self._assert_compiled_passes(input_ids, seen.operators[NORM] // passes)
        return told

    @staticmethod
    def _as_it_ends(input_ids: Any, new_tokens: int) -> list[Any]:
        """Give prompts so long that their second new token is where the last one will be; none for two tokens."""
        if new_tokens <= 2:
            return []
        tokens = input_ids.shape[1]
        length = tokens + new_tokens - 2
        return [input_ids.repeat(1, -(-length // tokens))[:, :length]]

    def _compile(self, input_ids: Any, new_tokens: int) -> int:
        """Compile for the length that is measured; give the number of graphs that were compiled."""
        import torch
        from torch._dynamo.utils import counters

        # What was compiled for an earlier case must neither serve this one nor hide that nothing is compiled for it.
        torch._dynamo.reset()
        counters.clear()
        # The third token is the first that comes from a captured graph.
        self.generate(input_ids, max(new_tokens, 4))
        graphs = compiled_graphs()
        if not graphs:
            raise OtherImplementation(f"{self.configuration.label}: nothing was compiled")
        skipped = int(counters["inductor"]["cudagraph_skips"])
        if skipped:
            raise OtherImplementation(f"{self.configuration.label}: {skipped} compiled graphs were not captured")
        return graphs

    def _assert_compiled_passes(self, input_ids: Any, norms: int) -> None:
        """Check that each pass after the prompt's runs what was generated, and nothing of the model beside it.

        Args:
            input_ids: of the prompt.
            norms: operators of norms in an eager pass. What was generated has none.

        Raises:
            OtherImplementation: passes fell back to eager ones, or nothing was generated.
        """
        passes = COMPILED_TOKENS - 1
        ran = operators(lambda: self.generate(input_ids, COMPILED_TOKENS))
        # Torch calls it where a model does; in what is compiled there is only what it chose.
        attended = ran["aten::scaled_dot_product_attention"]
        layers = int(SHAPES[self.configuration.setup.model]["num_hidden_layers"])
        if not norms:
            raise OtherImplementation(
                f"{self.configuration.label}: no {NORM} in an eager pass, so compiled ones cannot be told from it: "
                "name another operator of its norms (NORM)"
            )
        if ran[NORM] != norms or attended != layers:
            raise OtherImplementation(
                f"{self.configuration.label}: {ran[NORM]} norms and {attended} attentions ran as plain operators in "
                f"the prompt's and {passes} compiled passes; expected were {norms} and {layers}, the prompt's"
            )

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


def _synchronize() -> None:
    import torch

    torch.cuda.synchronize()


def rounds_for(configuration: Configuration, new_tokens: int) -> int:
    """Give how often a generation is timed: replayed graphs take milliseconds a token, eager passes tens of them."""
    if configuration.mode == "graph":
        return 3
    return 2 if new_tokens <= 50 else 1
