"""The complete report of a generation by bitnet-b1.58-2B-4T: stages, every linear layer, tokens, memory, advice.

Always with two layers of full width and a small vocabulary; ``--slow-budget`` adds all 30 layers. The files are those
of ``python -m perf_workloads.bitnet.report``, attached to the case: they are in the run's JSON and on its page, too.
JUnit's property ``bitnet_report`` says where they are.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from perf_workloads.bitnet import METHODS, BitnetSetup
from perf_workloads.bitnet.shapes import linear_layers

#: A report records its own figures; nothing in it is timed by ``benchmark(...)``.
reports = pytest.mark.filterwarnings("ignore:Benchmark fixture was not used")
#: Full width, so that a layer costs what it does in the model; few layers and tokens.
SHORT = {"layers": 2, "vocabulary": 4096}
#: Available memory that the 2B4T model needs, in GB.
NEEDED_GB = {"fp32": 12, "online": 12, "bf16": 7, "int8": 5, "packed": 4}
#: Which operator or kernel multiplies, and how often in one layer.
PRODUCTS = {
    ("int8", "cpu"): ("_int_mm", 1),
    ("packed", "cpu"): ("_int_mm", 4),
    ("packed", "cuda"): ("_token_kernel", 1),
    ("bf16", "cuda"): ("mm", 1),
}
#: Seconds that it takes at the most on two cores of 2.5 GHz that nobody else uses.
NEEDED_S = 180
#: Online quantisation takes about as long for 4 tokens as the other forms for 50.
NEW_TOKENS = {"online": 4}


@pytest.mark.cpu
@pytest.mark.perf(time="20%", budget=0.4)
@pytest.mark.parametrize("method", ["int8", pytest.param("packed", marks=pytest.mark.slow)])
def test_one_token_through_two_layers(benchmark: Any, transformers: ModuleType, torch: ModuleType, method: str) -> None:
    one_token(benchmark, torch, BitnetSetup(method=method, **SHORT))


# In a process of its own: what it profiles would slow down the cases after it.
@pytest.mark.isolate
@pytest.mark.cuda
@pytest.mark.sm80
@pytest.mark.vram(16)
@pytest.mark.perf(time="10%", memory="1%", clock="wall")
@pytest.mark.parametrize("method", ["bf16", "packed"])
def test_one_token(benchmark: Any, transformers: ModuleType, torch: ModuleType, method: str) -> None:
    one_token(benchmark, torch, BitnetSetup(method=method, device="cuda"))


@reports
@pytest.mark.cpu
def test_short_report(
    benchmark: Any, transformers: ModuleType, tmp_path: Path, record_property: Any, torch: ModuleType
) -> None:
    from perfgate.measure.threads import pinned

    with pinned(1):
        write_report(benchmark, BitnetSetup(**SHORT), 8, tmp_path, record_property)


@reports
@pytest.mark.cpu
@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_2b4t_report(
    benchmark: Any,
    transformers: ModuleType,
    tmp_path: Path,
    record_property: Any,
    model_path: Path | None,
    slow_budget_s: float,
    method: str,
) -> None:
    """With all threads of torch. Real weights are taken from ``--model-path``."""
    from perf_workloads.bitnet.procfs import read_memory

    if slow_budget_s < NEEDED_S:
        pytest.skip(f"takes up to {NEEDED_S} s: --slow-budget={slow_budget_s:g}")
    memory = read_memory()
    free_gb = (memory.system_total - memory.system_used) / 1e9
    if free_gb < NEEDED_GB[method]:
        pytest.skip(f"needs {NEEDED_GB[method]} GB of free memory: {free_gb:.1f} GB are available")
    setup = BitnetSetup(method=method, weights=None if model_path is None else str(model_path))
    write_report(benchmark, setup, NEW_TOKENS.get(method, 50), tmp_path, record_property)


@reports
@pytest.mark.cuda
@pytest.mark.sm80
@pytest.mark.vram(16)
@pytest.mark.parametrize("method", ["bf16", "packed"])
def test_2b4t_report_on_a_gpu(
    benchmark: Any, transformers: ModuleType, tmp_path: Path, record_property: Any, model_path: Path | None, method: str
) -> None:
    setup = BitnetSetup(method=method, device="cuda", weights=None if model_path is None else str(model_path))
    write_report(benchmark, setup, 50, tmp_path, record_property)


def one_token(benchmark: Any, torch: ModuleType, setup: BitnetSetup) -> None:
    """Measure one forward pass of one token, with an empty cache, and count its products."""
    from perf_workloads.bitnet import Sampling, load
    from perf_workloads.bitnet.generation import Generation
    from perf_workloads.bitnet.models import HEAD, linear_modules
    from perf_workloads.bitnet.verify import assert_product, seen_products
    from perfgate.profile import capture

    model = load(setup, benchmark.progress)
    modules = linear_modules(model)
    weight_bytes = sum(getattr(module, "weight_bytes", 0) or module.weight.nbytes for module in modules.values())
    benchmark.work(
        bytes=weight_bytes, flops=2 * sum(module.in_features * module.out_features for module in modules.values())
    )
    token = torch.tensor([[7]], device=setup.device)
    with torch.inference_mode():
        benchmark(lambda: Generation(model, Sampling()).start(token))
        profile = capture(lambda: Generation(model, Sampling()).start(token))
    counts = {name: profile.calls(f"aten::{name}") for name in ("_int_mm", "mm")}
    counts["_token_kernel"] = sum(count for name, count in profile.kernels.items() if name.startswith("_token_kernel"))
    benchmark.record("linear_layers", len(modules), limit="0")
    benchmark.record("weight_memory", weight_bytes, unit="B", limit="0")
    benchmark.record("int8_products", counts["_int_mm"], limit="0")
    if setup.device == "cuda":
        benchmark.record("ternary_kernels", counts["_token_kernel"], limit="0")
        benchmark.record("kernel_launches", profile.launches, limit="0")
    for name, product in seen_products(model).items():
        assert_product(product, setup.method, setup.device, ternary=name != HEAD)
        if name != HEAD:
            benchmark.note("ternary_product", product)
    name, calls = PRODUCTS[setup.method, setup.device]
    # The head's product is an ordinary one.
    assert counts[name] == calls * (len(modules) - 1) + (name == "mm")


def write_report(benchmark: Any, setup: BitnetSetup, new_tokens: int, folder: Path, record_property: Any) -> None:
    """Run a generation, write its report, and record its figures."""
    from perf_workloads.bitnet.document import document
    from perf_workloads.bitnet.experiment import run
    from perf_workloads.bitnet.figures import record_exact, report_times
    from perf_workloads.bitnet.report import write
    from perf_workloads.bitnet.verify import assert_product

    benchmark.profile(two_tokens(setup))
    report = document(run(setup, new_tokens=new_tokens, progress=benchmark.progress))
    for path in write(report, folder):
        record_property("bitnet_report", str(path))
        benchmark.attach(path.name, path.read_text(encoding="utf-8"))

    record_exact(benchmark, report)
    report_times(benchmark, report)
    totals = report["totals"]
    assert totals["forward_passes"] == totals["tokens"] == new_tokens
    assert len(report["layers"]) == linear_layers(report["model"]["shape"]["num_hidden_layers"])
    assert {layer["calls"] for layer in report["layers"]} == {new_tokens}
    for layer in report["layers"]:
        assert_product(layer["product"], setup.method, setup.device, ternary=layer["ternary"])


def two_tokens(setup: BitnetSetup) -> Callable[[], None]:
    """Give a call that generates two tokens, one pass of each kind; the model is loaded when it is first called."""
    from perf_workloads.bitnet import Sampling, load
    from perf_workloads.bitnet.experiment import PROMPT
    from perf_workloads.bitnet.generation import Generation
    from perf_workloads.bitnet.tokenizer import load_tokenizer

    loaded = functools.cache(lambda: (load(setup), load_tokenizer(setup.weights)))

    def call() -> None:
        import torch

        with torch.inference_mode():
            model, tokenizer = loaded()
            prompt = torch.tensor([tokenizer.encode(PROMPT)], device=setup.device) % model.config.vocab_size
            generation = Generation(model, Sampling())
            generation.start(prompt)
            generation.step()

    return call
