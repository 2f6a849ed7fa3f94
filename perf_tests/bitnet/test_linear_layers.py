"""Linear layers of bitnet-b1.58-2B-4T with ternary weights in five forms, one token and 32, on a CPU and on a GPU.

A call takes activations as they are in the model and quantises them, so all forms compute the same function. "online"
is an anti-pattern: it quantises the weights as well, in every call. On a CPU the telling part of the grid runs always,
the rest with ``--slow-budget``. The head is not ternary: bf16 alone.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

from perf_workloads.bitnet import LAYERS, METHODS

SEED = 22
TERNARY = ("up", "down", "query", "key")
#: What a CPU runs always: the widest layer where weights come from memory, the narrowest where they do not.
TELLING = {
    ("fp32", "up", 1),
    ("int8", "up", 1),
    ("packed", "up", 1),
    ("int8", "up", 32),
    ("fp32", "key", 32),
    ("bf16", "key", 1),
    ("packed", "key", 32),
    ("online", "key", 1),
}
GRID = [(method, layer, tokens) for layer in TERNARY for method in METHODS for tokens in (1, 32)]
HEAD = [("bf16", "head", tokens) for tokens in (1, 32)]


def cases(grid: list[tuple[str, str, int]], *, always: set[tuple[str, str, int]]) -> list[Any]:
    """List cases ``method-layer-tokens``; those that do not run always are marked slow."""
    return [
        pytest.param(*case, id="-".join(map(str, case)), marks=[] if case in always else [pytest.mark.slow])
        for case in grid
    ]


@pytest.fixture(scope="module")
def masters(torch: ModuleType) -> Iterator[Any]:
    """Give ``masters(layer, device)``: bf16 master weights [N, K], kept until another layer is asked for."""
    from perf_workloads.bitnet.weights import RandomWeights

    @functools.lru_cache(maxsize=1)
    def draw(layer: str, device: str) -> Any:
        inputs, outputs = LAYERS[layer]
        return RandomWeights(SEED, inputs**-0.5, device, torch.bfloat16)(layer, (outputs, inputs))

    yield draw
    draw.cache_clear()


@pytest.mark.cpu
# The process's mark: in one of a few processes the unpacked fields of a packed layer find no block that malloc kept.
@pytest.mark.perf(time="20%", memory="25% or 16MiB", budget=0.3)
@pytest.mark.parametrize(("method", "layer", "tokens"), cases(GRID + HEAD, always=TELLING))
def test_cpu(benchmark: Any, torch: ModuleType, masters: Any, method: str, layer: str, tokens: int) -> None:
    measure(benchmark, torch, masters(layer, "cpu"), method, tokens)


@pytest.mark.cuda
@pytest.mark.sm80
@pytest.mark.vram(8)
@pytest.mark.perf(time="2% or 0.25us", memory="0", clock="device", budget=0.1)
@pytest.mark.parametrize(("method", "layer", "tokens"), cases(GRID + HEAD, always={*GRID, *HEAD}))
def test_gpu(benchmark: Any, torch: ModuleType, masters: Any, method: str, layer: str, tokens: int) -> None:
    measure(benchmark, torch, masters(layer, "cuda"), method, tokens)


def measure(benchmark: Any, torch: ModuleType, master: Any, method: str, tokens: int) -> None:
    """Measure one call of a layer; see what multiplies, and compare 64 outputs of every token with exact arithmetic."""
    from perf_workloads.bitnet.layers import ternary_linear
    from perf_workloads.bitnet.shapes import METHODS
    from perf_workloads.bitnet.verify import assert_product, seen_product

    outputs, inputs = master.shape
    generator = torch.Generator().manual_seed(SEED)
    dtype = getattr(torch, METHODS[method])
    x = torch.randn((tokens, inputs), generator=generator).to(master.device, dtype)
    which = torch.linspace(0, outputs - 1, 64).long().to(master.device)
    ternary = outputs != LAYERS["head"][1]
    layer = ternary_linear(method, master) if ternary else plain_linear(torch, master)
    weights = dict(layer.named_buffers())
    weight_bytes = sum(tensor.nbytes for tensor in weights.values())
    benchmark.work(
        bytes=weight_bytes + tokens * (inputs + outputs) * x.element_size(), flops=2 * tokens * inputs * outputs
    )

    if x.is_cuda:
        # Weights that a call closes over would stay in the L2 cache: arguments are rotated.
        y = benchmark(functools.partial(torch.func.functional_call, layer), weights, (x,))
    else:
        y = benchmark(layer, x)

    benchmark.record("weight_memory", weight_bytes, unit="B", limit="0")
    product = seen_product(layer, x)
    assert_product(product, method, x.device.type, ternary=ternary)
    benchmark.note("ternary_product" if ternary else "product", product)
    expected = exact(torch, x, master, which) if ternary else x.double() @ master[which].double().t()
    error = (y[:, which].double() - expected).norm() / expected.norm()
    assert error.item() < (1e-6 if dtype is torch.float32 else 6e-3)


def plain_linear(torch: ModuleType, weight: Any) -> Any:
    """Give torch's own linear layer with weights that are a buffer, as those of the ternary ones are."""
    layer = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
    del layer.weight
    layer.register_buffer("weight", weight)
    return layer


def exact(torch: ModuleType, x: Any, master: Any, which: Any) -> Any:
    """Give some outputs of a ternary layer in fp64, rounded nowhere but to the codes."""
    from perf_workloads.bitnet.products import quantize

    gamma = master.double().abs().mean()
    codes = (master[which].double() / gamma).round().clamp(-1, 1)
    q, scale = quantize(x)
    return q.double() @ codes.t() * gamma / scale.double()
