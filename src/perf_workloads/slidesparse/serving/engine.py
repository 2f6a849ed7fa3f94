"""What does a vLLM engine do with M tokens a pass? Starts one in this process, pins M, and counts.

M is read where the engine decides it: each pass that its scheduler puts together is written down, with the time.
vLLM 0.20.2 and 0.32.0. Imports vLLM and torch: only the process of an engine imports it.
"""

from __future__ import annotations

import random
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from perf_workloads.slidesparse.serving import coverage, workloads
from perf_workloads.slidesparse.serving.models import METHOD
from perf_workloads.slidesparse.serving.workloads import Workload
from perfgate.measure import notes

#: Passes before the clock starts, with the shapes of the measured ones: compilation, and algorithms by shape.
WARM_PASSES, WARM_NEW_TOKENS = 2, 4
#: Largest M that graphs are captured for. A call of cuSPARSELt through torch takes the CPU 1 ms (H200), so that passes
#: of fewer tokens would wait for it: at 65 ms a pass, 16384 tokens of Llama3.2-1B took longer than its products.
MOST_CAPTURED = 16384
#: vLLM draws floats up to this, which quantisation turns into codes up to that.
_DRAWN, _LARGEST_CODE = 1e-3, 127
#: Token ids stay below the smallest vocabulary.
_IDS = 100


class Passes:
    """The passes that a scheduler puts together from now on.

    Attributes:
        tokens: of each pass.
        times_s: when each was put together.
    """

    def __init__(self, scheduler: Any) -> None:
        self.tokens: list[int] = []
        self.times_s: list[float] = []
        schedule = scheduler.schedule

        def watched(*arguments: Any, **named: Any) -> Any:
            now_s = time.perf_counter()
            output = schedule(*arguments, **named)
            if output.total_num_scheduled_tokens:
                self.times_s.append(now_s)
                self.tokens.append(output.total_num_scheduled_tokens)
            return output

        scheduler.schedule = watched

    def clear(self) -> None:
        """Forget what was."""
        self.tokens.clear()
        self.times_s.clear()


class Engine:
    """A vLLM engine in this process.

    Args:
        folder: of the model, with ``config.json`` and maybe weights.
        options: of :func:`start_options`, and further ones of ``vllm.LLM``.

    Raises:
        ValueError: the model is to be served as a scheme of ours, which converts none of its layers.
    """

    def __init__(self, folder: Path, options: Mapping[str, Any]) -> None:
        import gc

        import torch
        from vllm import LLM

        from perf_workloads.slidesparse.linear import noted_by_rows
        from perf_workloads.slidesparse.serving import plugin

        plugin.register()
        # vLLM collects garbage several times in a start; what was imported is none.
        gc.freeze()
        self._torch = torch
        # What is replayed from a graph notes nothing: what its layers chose is kept when it is captured.
        with noted_by_rows() as self._captured:
            self._llm = LLM(str(folder), **options)
        self._scheduler = self._llm.llm_engine.engine_core.engine_core.scheduler
        self._passes = Passes(self._scheduler)
        self._notes: dict[str, set[str]] = {}
        # On a CPU vLLM packs weights of its own layers into what is no parameter.
        on_gpu = torch.cuda.is_available()
        if on_gpu and options.get("load_format") == "dummy":
            self._llm.apply_model(draw_codes)
        # Told by the layers, because what is replayed from a graph notes nothing.
        self._epilogues = {each for found in self._llm.apply_model(epilogues) for each in found}
        self._layers = ""
        quantization = self._llm.llm_engine.vllm_config.quant_config
        if quantization is not None and quantization.get_name() == METHOD:
            covered = self._llm.apply_model(coverage.coverage)[0]
            covered.check(quantization.scheme.name)
            self._layers = str(covered)
        self._memory = {"weight_bytes": sum(self._llm.apply_model(_weight_bytes))} if on_gpu else {}

    def run(self, load: Workload) -> dict[str, Any]:
        """Run one workload after a short one of the same shapes.

        Returns:
            ``pinned``: None, or how passes differed; times, tokens and rates.
        """
        point = load.point
        passes, new_tokens = (WARM_PASSES, 1) if point.stage == "prefill" else (1, WARM_NEW_TOKENS)
        self._notes = {name: set(values) for name, values in self._captured.get(point.tokens, {}).items()}
        with notes.collect(self._notes):
            self._generate(workloads.workload(point, passes, new_tokens))
        start_s, end_s = self._generate(load)
        seen = self._passes
        between_s = [later - earlier for earlier, later in zip(seen.times_s, seen.times_s[1:], strict=False)]
        elapsed_s = end_s - start_s
        return {
            "pinned": workloads.unpinned(load.steps, seen.tokens),
            "passes": len(seen.tokens),
            "elapsed_s": elapsed_s,
            "median_pass_s": median(between_s) if between_s else elapsed_s,
            "prompt_tokens": load.prompt_tokens,
            "output_tokens": load.output_tokens,
            "prompt_tokens_per_s": load.prompt_tokens / elapsed_s,
            "output_tokens_per_s": load.output_tokens / elapsed_s,
            **self._memory,
        }

    def score(self, prompts: Sequence[Sequence[int]], new_tokens: int) -> list[dict[str, Any]]:
        """Generate greedily and give, for each prompt, tokens and the log-probabilities of the whole vocabulary.

        The engine must have been started with ``max_logprobs=-1``.
        """
        from vllm import SamplingParams

        sampling = SamplingParams(
            temperature=0.0, max_tokens=new_tokens, ignore_eos=True, detokenize=False, logprobs=-1
        )
        outputs = self._llm.generate([{"prompt_token_ids": list(each)} for each in prompts], sampling, use_tqdm=False)
        return [
            {
                "tokens": list(each.outputs[0].token_ids),
                "logprobs": [[step[token].logprob for token in range(len(step))] for step in each.outputs[0].logprobs],
            }
            for each in outputs
        ]

    def facts(self) -> dict[str, Any]:
        """Say what ran: versions, device, attention, graphs, converted layers, and what those of the last run chose.

        Of a pass of M tokens that is replayed from a graph, what they chose for M tokens when the engine started.
        """
        import vllm

        config = self._llm.llm_engine.vllm_config
        layers = config.compilation_config.static_forward_context.values()
        backends = {each.get_attn_backend().get_name() for each in layers if hasattr(each, "get_attn_backend")}
        on_gpu = self._torch.cuda.is_available()
        mode, graphs = config.compilation_config.mode, config.compilation_config.cudagraph_mode
        return {
            "engine": f"vllm {vllm.__version__}",
            "torch": self._torch.__version__,
            "device": self._torch.cuda.get_device_name() if on_gpu else "CPU",
            "backend": " | ".join(sorted(backends)),
            "graph_mode": getattr(graphs, "name", str(graphs)),
            "compilation": getattr(mode, "name", str(mode)),
            "scheduler": type(self._scheduler).__name__,
            **({"epilogue": " | ".join(sorted(self._epilogues))} if self._epilogues else {}),
            **({"layers": self._layers} if self._layers else {}),
            **notes.texts(self._notes),
        }

    def close(self) -> None:
        """Give back what the engine holds, so that this process can start another."""
        from vllm.distributed import cleanup_dist_env_and_memory

        self._llm.llm_engine.engine_core.shutdown()
        del self._llm, self._scheduler
        cleanup_dist_env_and_memory()

    def _generate(self, load: Workload) -> tuple[float, float]:
        """Generate, and give when the first pass began and when all was done; requests wait before that."""
        from vllm import SamplingParams

        sampling = SamplingParams(temperature=0.0, max_tokens=load.new_tokens, ignore_eos=True, detokenize=False)
        draw = random.Random(load.point.tokens)
        ids = [draw.randrange(2, _IDS) for _ in range(load.prompt + load.prompts)]
        # Windows of one random sequence: prompts differ, and thousands of them are made at once.
        prompts = [{"prompt_token_ids": ids[first : first + load.prompt]} for first in range(load.prompts)]
        self._scheduler.max_num_scheduled_tokens = load.budget
        self._passes.clear()
        outputs = self._llm.generate(prompts, sampling, use_tqdm=False)
        if self._torch.cuda.is_available():
            self._torch.cuda.synchronize()
        end_s = time.perf_counter()
        generated = sum(len(each.outputs[0].token_ids) for each in outputs)
        if generated != load.output_tokens:
            raise RuntimeError(f"{load.point}: {generated} tokens were generated, not {load.output_tokens}")
        return self._passes.times_s[0], end_s


def draw_codes(model: Any) -> int:
    """Draw the weights of the engine's own INT8 layers, as random ones of ours are: uniform codes and one scale.

    vLLM's ``load_format="dummy"`` draws floats only and leaves codes as memory was. How much power, and so time, a
    product takes depends on its values: such layers cannot be compared with others.

    Returns:
        How many layers there were.

    Raises:
        RuntimeError: quantised weights that are not INT8 codes.
    """
    import torch

    drawn = 0
    for name, layer in model.named_modules():
        method, scale = getattr(layer, "quant_method", None), getattr(layer, "weight_scale", None)
        if scale is None or getattr(method, "quantization", None) == METHOD:
            continue
        if layer.weight.dtype is not torch.int8:
            raise RuntimeError(f"{name}: weights of {layer.weight.dtype} were not drawn, and cannot be compared")
        random_source = torch.Generator(device=layer.weight.device).manual_seed(drawn)
        layer.weight.data.random_(-_LARGEST_CODE, _LARGEST_CODE + 1, generator=random_source)
        scale.data.fill_(_DRAWN / _LARGEST_CODE)
        drawn += 1
    return drawn


def epilogues(model: Any) -> list[str]:
    """List what the products of a model's sparse INT8 layers write, "int32" or "bf16"; nothing without such layers."""
    methods = [getattr(layer, "quant_method", None) for layer in model.modules()]
    return sorted({found for each in methods if (found := getattr(each, "epilogue", None)) is not None})


def _weight_bytes(model: Any) -> int:
    """Count the bytes of a model's parameters, each storage once: a head may share the embedding's."""
    storages = {each.data_ptr(): each.nbytes for each in model.parameters()}
    return sum(storages.values())


def start_options(points: Sequence[workloads.Point], *, drawn: bool = True, eager: bool = False) -> dict[str, Any]:
    """Give the options of ``vllm.LLM`` that pin these points.

    Args:
        points: what will be run.
        drawn: whether weights are random; else they are read from the model's folder.
        eager: neither compile nor capture graphs.
    """
    sizes = sorted({point.tokens for point in points if point.tokens <= MOST_CAPTURED})
    options: dict[str, Any] = {
        "skip_tokenizer_init": True,
        "enforce_eager": eager,
        "max_model_len": workloads.MODEL_LENGTH,
        "max_num_batched_tokens": workloads.most_tokens(points),
        "max_num_seqs": workloads.most_sequences(points),
        "enable_chunked_prefill": False,
        "enable_prefix_caching": False,
        "seed": 0,
    }
    if drawn:
        options["load_format"] = "dummy"
    if not eager:
        # Graphs of exactly the sizes that are run: others take time to capture and are never used.
        options["compilation_config"] = {"cudagraph_capture_sizes": sizes or list(workloads.TOKENS["decode"])}
    return options
