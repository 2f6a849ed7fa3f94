"""What happens in one generation: loading, prefill, decode, every stage timed, every token stamped, memory watched?

``new_tokens`` tokens take exactly as many forward passes: the prompt's, which gives the first, and one for each further
one. A pass over the prompt again, after the generation and not counted in it, shows what its first calls cost.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from perf_workloads.bitnet import roofline, system
from perf_workloads.bitnet.clocks import open_clock
from perf_workloads.bitnet.generation import Generation, Stage, Stages
from perf_workloads.bitnet.models import BitnetSetup, linear_modules, load
from perf_workloads.bitnet.recorder import APART, LayerFigures, LayerRecorder
from perf_workloads.bitnet.sampling import Sampling
from perf_workloads.bitnet.shapes import MODELS
from perf_workloads.bitnet.timeline import MemoryTimeline, Sample
from perf_workloads.bitnet.tokenizer import Tokenizer, load_tokenizer
from perfgate.measure.cpu_conditions import CpuConditions, QueueWait
from perfgate.measure.unprofiled import unprofiled

#: A layer's first call with the prompt is cold, and its first with one token; the next is the first warm one.
LEAST_TOKENS = 3
PROMPT = "What would it take to move this model to another device?"

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Token:
    """A generated token.

    Args:
        index: from 1 on.
        id: of the token.
        text: what it reads as.
        seconds: since the token before it; for the first the prompt's pass.
        waited_s: how much of that this thread waited for a core that others had.
        rss: resident memory when it came, in bytes.
    """

    index: int
    id: int
    text: str
    seconds: float
    waited_s: float
    rss: int


@dataclass(frozen=True)
class _Stamp:
    """A token as it came: time and memory, and the wait for a core until just before and just after they were read."""

    token: int
    sample: Sample
    waited_before_s: float
    waited_after_s: float


@dataclass(frozen=True)
class Experiment:
    """Everything that was seen.

    Args:
        setup: which model.
        sampling: how tokens were chosen.
        prompt: its text.
        prompt_tokens: its length.
        tokenizer: its name.
        shape: of the model, in the words of ``BitNetConfig``.
        system: the machine.
        machine: its ceilings.
        conditions: how busy it was, as :class:`perfgate.measure.cpu_conditions.CpuConditions` tells.
        stages: in order; the six published ones.
        prefill_again: the prompt's pass when it was repeated.
        layers: every linear layer.
        products: what multiplied in each, by name of the layer, see ``verify.seen_product``; one token, not timed.
        tokens: every generated token.
        text: all of them.
        passes: forward passes of the generation.
        timeline: memory over time.
        peak_rss: the kernel's high-water mark, bytes.
        own_peak: whether that is the run's; otherwise the process's.
        device_peak: peak allocated bytes of the GPU, None on a CPU.
    """

    setup: BitnetSetup
    sampling: Sampling
    prompt: str
    prompt_tokens: int
    tokenizer: str
    shape: dict[str, int]
    system: system.System
    machine: roofline.Machine
    conditions: Mapping[str, float]
    stages: tuple[Stage, ...]
    prefill_again: Stage
    layers: tuple[LayerFigures, ...]
    products: Mapping[str, str]
    tokens: tuple[Token, ...]
    text: str
    passes: int
    timeline: tuple[Sample, ...]
    peak_rss: int
    own_peak: bool
    device_peak: int | None


def run(
    setup: BitnetSetup,
    *,
    new_tokens: int = 50,
    prompt: str = PROMPT,
    sampling: Sampling | None = None,
    progress: Progress = lambda text: None,
) -> Experiment:
    """Load a model, generate, and measure all of it.

    Args:
        setup: which model.
        new_tokens: how many tokens to generate, at least 3.
        prompt: text to begin with.
        sampling: how tokens are chosen; by default the likeliest.
        progress: is told what is going on.

    Raises:
        ValueError: too few tokens are asked for, or the prompt is empty.
        SettingError: torch's profiler runs meanwhile.
    """
    import torch

    from perf_workloads.bitnet.verify import seen_products

    if new_tokens < LEAST_TOKENS:
        raise ValueError(f"new_tokens is {new_tokens}: with fewer than {LEAST_TOKENS} no call of a layer is warm")
    sampling = sampling or Sampling()
    on_gpu = torch.device(setup.device).type == "cuda"
    wait: Callable[[], None] = torch.cuda.synchronize if on_gpu else (lambda: None)
    # Importing is not loading a model.
    importlib.import_module("transformers.models.bitnet.modeling_bitnet")
    seen = system.describe(setup.device)
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    with (
        unprofiled(),
        CpuConditions() as conditions,
        MemoryTimeline() as timeline,
        QueueWait() as waited,
        torch.inference_mode(),
    ):
        stages = Stages(timeline, wait, waited)
        with stages("tokenizer_load"):
            tokenizer = load_tokenizer(setup.weights)
        with stages("model_load"):
            model = load(setup, progress)
        with stages("tokenize"):
            prompt_ids = tokenizer.encode(prompt)
        if not prompt_ids:
            raise ValueError("the prompt has no tokens")
        # A vocabulary cut down for a small run may have fewer tokens than the prompt names.
        inputs = torch.tensor([prompt_ids], device=setup.device) % model.config.vocab_size
        with open_clock(setup.device) as clock, LayerRecorder(linear_modules(model), clock) as recorder:
            generation = Generation(model, sampling)

            def stamp(token: int) -> _Stamp:
                waited_s = waited()
                return _Stamp(token, timeline.sample(), waited_s, waited())

            stamps = _generate(generation, inputs, new_tokens, stages, recorder, stamp, progress)
            with stages("detokenize"):
                text = tokenizer.decode([each.token for each in stamps[1:]])
            progress("prefill again")
            again = Stages(timeline, wait, waited)
            with again(APART), recorder.phase(APART):
                Generation(model, sampling).start(inputs)
        layers = recorder.figures(model.dtype.itemsize)
    # Before the machine is measured, which takes memory of its own.
    device_peak = torch.cuda.max_memory_allocated() if on_gpu else None
    progress("looking at what multiplies in each layer")
    products = seen_products(model)
    # Not earlier: that would start the libraries which first calls start.
    progress("measuring bandwidth and rates")
    machine = roofline.measure(setup.device)
    return Experiment(
        setup=setup,
        sampling=sampling,
        prompt=prompt,
        prompt_tokens=len(prompt_ids),
        tokenizer=tokenizer.name,
        shape={name: getattr(model.config, name) for name in MODELS["2b4t"]},
        system=seen,
        machine=machine,
        conditions=conditions.report(),
        stages=tuple(stages.done),
        prefill_again=again.done[0],
        layers=tuple(layers),
        products=products,
        tokens=_tokens(stamps, tokenizer),
        text=text,
        passes=generation.passes,
        timeline=tuple(timeline.samples),
        peak_rss=timeline.peak_rss,
        own_peak=timeline.own_peak,
        device_peak=device_peak,
    )


def _generate(
    generation: Generation,
    inputs: Any,
    new_tokens: int,
    stages: Stages,
    recorder: LayerRecorder,
    stamp: Callable[[int], _Stamp],
    progress: Progress,
) -> list[_Stamp]:
    """Run prefill and decode; give a stamp before the first token, and one for each."""
    progress(f"prefill of {inputs.shape[1]} tokens")
    with stages("prefill"), recorder.phase("prefill"):
        stamps = [stamp(-1), stamp(generation.start(inputs))]
    with stages("decode"), recorder.phase("decode"):
        for index in range(2, new_tokens + 1):
            progress(f"token {index} of {new_tokens}")
            stamps.append(stamp(generation.step()))
    return stamps


def _tokens(stamps: list[_Stamp], tokenizer: Tokenizer) -> tuple[Token, ...]:
    """Turn stamps into durations: each from the token before it."""
    return tuple(
        Token(
            index,
            after.token,
            tokenizer.decode([after.token]),
            after.sample.time_s - before.sample.time_s,
            # Between the two times: a wait while a stamp is made is not in what it is taken from.
            after.waited_before_s - before.waited_after_s,
            after.sample.memory.rss,
        )
        for index, (before, after) in enumerate(pairwise(stamps), 1)
    )
