"""Which configurations are run, on which prompts? The published grid, what is better than it, and all together."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

from perf_workloads.text_generation.setups import BACKENDS, Configuration, Dtype, GenerationSetup, Method

#: The arithmetic of each method on a GPU: GPTQ checkpoints have fp16 scales, torch's FP8 products give bf16.
DTYPES: dict[Method, tuple[Dtype, ...]] = {
    "dense": ("float16", "bfloat16"),
    "int8-weight-only": ("bfloat16",),
    "int8-dynamic": ("bfloat16",),
    "fp8": ("bfloat16",),
    "int4-gptq": ("float16",),
}


@dataclass(frozen=True)
class Point:
    """What is generated: so many new tokens for each of so many prompts of so many tokens."""

    input_tokens: int
    new_tokens: int
    batch: int = 1

    @property
    def label(self) -> str:
        """Name it, e.g. "b1-26-100"."""
        return f"b{self.batch}-{self.input_tokens}-{self.new_tokens}"


@dataclass(frozen=True)
class Case:
    """A configuration at a point."""

    configuration: Configuration
    point: Point

    @property
    def label(self) -> str:
        """Name it, e.g. "bf16-triton-static-graph-b1-26-100"."""
        return f"{self.configuration.label}-{self.point.label}"


def _setups(model: str, device: str, dtypes: dict[Method, tuple[Dtype, ...]]) -> list[GenerationSetup]:
    return [
        GenerationSetup(model, dtype, device, method, backend)
        for method, choices in dtypes.items()
        for dtype in choices
        for backend in BACKENDS[method]
    ]


def _find(setups: list[GenerationSetup]) -> dict[str, GenerationSetup]:
    return {setup.label: setup for setup in setups}


#: All setups of Qwen3-4B by label, e.g. "int8-weight-only-rebuild".
QWEN3_4B = _find(_setups("qwen3-4b", "cuda", DTYPES))
FP32_REFERENCE = GenerationSetup("qwen3-4b", "float32")
TINY = _find(
    [
        setup
        for setup in _setups("tiny-qwen3", "cpu", {method: ("float32",) for method in DTYPES if method != "fp8"})
        if setup.backend != "triton"
    ]
)
TINY_REFERENCE = TINY["fp32-torch"]

PUBLISHED_POINTS = tuple(Point(*point) for point in product((3, 26), (50, 100)))
_LONG, _BATCH = Point(512, 100), Point(26, 100, batch=8)


def _cases(label: str, points: tuple[Point, ...], cache: str = "dynamic", mode: str = "eager") -> list[Case]:
    configuration = Configuration(QWEN3_4B[label], cache, mode)  # type: ignore[arg-type]
    return [Case(configuration, point) for point in points]


#: The published run: fp16, torchao's int8 and GPTQ, which rebuild each weight for each product.
PUBLISHED = [
    case
    for label in ("fp16-torch", "int8-weight-only-rebuild", "int4-gptq-rebuild")
    for case in _cases(label, PUBLISHED_POINTS)
]
#: What else a GPU is measured with by default.
SELECTED = [
    *_cases("bf16-torch", (Point(26, 100), Point(512, 50), Point(26, 50, batch=8))),
    *_cases("bf16-torch", (Point(26, 50),), "static"),
    *_cases("int8-dynamic-int-mm", (Point(26, 50),)),
    *_cases("fp8-scaled-mm", (Point(26, 50),)),
    *(
        case
        for label in ("bf16-triton", "int8-weight-only-triton", "int4-gptq-triton")
        for case in _cases(label, (*PUBLISHED_POINTS, _LONG, _BATCH), "static", "graph")
    ),
    *(
        case
        for label in ("fp16-triton", "int8-dynamic-triton", "fp8-triton")
        for case in _cases(label, (Point(26, 100), _LONG, _BATCH), "static", "graph")
    ),
]
#: Every method, backend, cache and mode at every point: hours with the compilations.
EVERYTHING = [
    Case(configuration, Point(input_tokens, new_tokens, batch))
    for setup in QWEN3_4B.values()
    for configuration in (
        Configuration(setup, "dynamic", "eager"),
        Configuration(setup, "static", "eager"),
        Configuration(setup, "static", "graph" if setup.backend == "triton" else "compile"),
    )
    # Outside of graphs a dense "triton" is the same as "torch".
    if setup.label not in ("fp16-triton", "bf16-triton") or configuration.mode == "graph"
    for batch, input_tokens, new_tokens in product((1, 8), (3, 26, 512), (50, 100))
]
#: What a CPU gets through in seconds.
ON_CPU = [
    Case(Configuration(TINY["fp32-torch"]), Point(3, 8)),
    Case(Configuration(TINY["fp32-torch"]), Point(26, 16)),
    Case(Configuration(TINY["fp32-torch"]), Point(26, 8, batch=8)),
    Case(Configuration(TINY["fp32-torch"], "static"), Point(26, 16)),
    Case(Configuration(TINY["fp32-torch"], "static", "compile"), Point(26, 16)),
    Case(Configuration(TINY["int8-weight-only-rebuild"]), Point(26, 16)),
    Case(Configuration(TINY["int8-dynamic-int-mm"]), Point(26, 16)),
    Case(Configuration(TINY["int8-dynamic-int-mm"], "static"), Point(26, 16)),
    Case(Configuration(TINY["int4-gptq-rebuild"]), Point(26, 8)),
]
