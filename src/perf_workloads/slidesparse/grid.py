"""Which cases of products and layers have a baseline, and which do not? Counts for each layer and scheme, as Markdown.

Imports nothing heavy.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from perf_workloads.slidesparse.schemes import SCHEMES
from perf_workloads.slidesparse.shapes import MODELS, TOKENS

ABSENT = "-"
#: What is in tables for each layer of each model.
_HEAD = ("model", "layer")


@dataclass(frozen=True)
class Cases:
    """The cases of one test function: every layer in every scheme at every number of tokens.

    Attributes:
        module: its file, as baselines name it.
        function: its name.
        models: whose layers.
        schemes: by name.
        tokens: numbers of tokens.
    """

    module: str
    function: str
    models: tuple[str, ...]
    schemes: tuple[str, ...]
    tokens: tuple[int, ...]

    def names(self, model: str, layer: str, scheme: str) -> list[str]:
        """Name the cases of one layer in one scheme."""
        return [f"{self.function}[{scheme}-{model}-{layer}-{tokens}]" for tokens in self.tokens]

    def all_names(self) -> list[str]:
        """Name all cases."""
        layers = [(model, layer) for model in self.models for layer in MODELS[model]]
        return [name for layer in layers for scheme in self.schemes for name in self.names(*layer, scheme)]


_PRODUCTS, _LAYERS = "perf_tests/slidesparse/test_gemm", "perf_tests/slidesparse/test_linear_layer"
_SCALED = ("int8-2_4-bf16", "int8-2_8-bf16")
GRID = (
    Cases(_PRODUCTS, "test_gemm", tuple(MODELS), tuple(SCHEMES), TOKENS),
    Cases(_PRODUCTS, "test_scaled_gemm", ("Qwen2.5-7B",), _SCALED, (64, 8192, 16384)),
    Cases(_LAYERS, "test_linear_layer", tuple(MODELS), tuple(SCHEMES), (64, 512, 8192, 65536)),
    Cases(_LAYERS, "test_scaled_linear_layer", ("Qwen2.5-7B",), _SCALED, (64, 512, 8192, 16384, 65536)),
)


def markdown(device: str, stored: Mapping[str, Collection[str]]) -> str:
    """Write a table for each test function: at how many numbers of tokens there is a baseline.

    Args:
        device: whose baselines.
        stored: names of cases that have one, by module.
    """
    lines = [
        f"# Products and layers with a baseline on {device}",
        "",
        f'At how many numbers of tokens there is one; "{ABSENT}": at none. Written by `perfgate-slidesparse grid`.',
    ]
    for cases in GRID:
        found = set(stored.get(cases.module, ()))
        names = cases.all_names()
        lines += ["", f"## `{cases.function}`: {len(found.intersection(names))} of {len(names)}", ""]
        at = [tokens for tokens in cases.tokens if found.intersection(replace(cases, tokens=(tokens,)).all_names())]
        lines += [f"Numbers of tokens: {_listed(cases.tokens)}; with baselines: {_listed(at)}.", ""]
        lines += _table(cases, found)
    return "\n".join([*lines, ""])


def _table(cases: Cases, found: Collection[str]) -> Iterator[str]:
    """Give one row a layer; layers of a model with the same counts share theirs."""
    yield f"| {' | '.join((*_HEAD, *cases.schemes))} |"
    yield "|---" * (len(_HEAD) + len(cases.schemes)) + "|"
    for model in cases.models:
        rows: dict[tuple[str, ...], list[str]] = {}
        for layer in MODELS[model]:
            counts = [sum(name in found for name in cases.names(model, layer, scheme)) for scheme in cases.schemes]
            row = tuple(str(count or ABSENT) for count in counts)
            rows.setdefault(row, []).append(layer)
        for row, layers in rows.items():
            yield f"| {' | '.join((model, ', '.join(layers), *row))} |"


def _listed(tokens: Iterable[int]) -> str:
    return ", ".join(map(str, tokens)) or "none"
