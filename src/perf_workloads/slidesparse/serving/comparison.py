"""What was published of the A100, and how much faster than dense weights is a scheme?

Imports nothing heavy.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from perf_workloads.slidesparse import schemes
from perf_workloads.slidesparse.serving import models
from perf_workloads.slidesparse.serving.results import Key, Record
from perf_workloads.slidesparse.serving.workloads import Point, Stage

#: Our schemes by the names of the published backends.
BACKENDS = {
    "cublaslt-dense": "int8-dense",
    "cusparselt-2:4": "int8-2_4",
    "cusparselt-2:6": "int8-2_6",
    "cusparselt-2:8": "int8-2_8",
    "cusparselt-2:10": "int8-2_10",
}
#: Of what stages are judged by.
UNIT = "tokens/s"
#: Published prompt tokens/s: A100, INT8 prefill, Qwen2.5-7B, M = 8192.
PUBLISHED_MODEL, PUBLISHED_POINT = "Qwen2.5-7B", Point("prefill", 8192)
PUBLISHED_RATES = {
    "int8-dense": 20805.0,
    "int8-2_4": 35858.0,
    "int8-2_6": 29081.0,
    "int8-2_8": 27435.0,
    "int8-2_10": 26175.0,
}
#: Standard deviation of tokens/s between engines, and the limit of a change, by model and stage. Points that
#: ``perf_tests/slidesparse/results/serving.jsonl`` holds more than once with nothing changed in between (H200, 21 and
#: 22 November 2026, listed in ``tests/test_slidesparse_serving_noise.py``) show less or as much:
#: Llama3.2-1B 0.6 % in prefill and 5.8 % in decoding, where one of 4 pairs is 12 % apart; Qwen2.5-7B 1.5 % and 0.8 %.
#: Of those of decoding there are only 4 pairs each. Limits are three times the noise or more, else cases would be
#: inconclusive. Nothing was repeated of Llama3.2-3B and Qwen2.5-14B: they have those of the model next in size.
SPREAD: Mapping[tuple[str, Stage], tuple[str, str]] = MappingProxyType(
    {
        ("Llama3.2-1B", "prefill"): ("2.5%", "10%"),
        ("Llama3.2-1B", "decode"): ("6%", "20%"),
        ("Llama3.2-3B", "prefill"): ("2.5%", "10%"),
        ("Llama3.2-3B", "decode"): ("6%", "20%"),
        ("Qwen2.5-7B", "prefill"): ("2%", "6%"),
        ("Qwen2.5-7B", "decode"): ("2.5%", "8%"),
        ("Qwen2.5-14B", "prefill"): ("2%", "6%"),
        ("Qwen2.5-14B", "decode"): ("2.5%", "8%"),
    }
)


def published_status(path: Path) -> dict[tuple[str, str, Point], str]:
    """Read how the published runs ended, by model, scheme and point."""
    with path.open(newline="") as file:
        return {
            (row["model"], BACKENDS[row["backend"]], Point(_stage(row["stage"]), int(row["tokens"]))): row["status"]
            for row in csv.DictReader(file)
        }


def published_as(scheme: str) -> str:
    """Give the scheme that stands for a form of it in what was published; any other as it is."""
    return schemes.TO_BF16[scheme].exact.name if scheme in schemes.TO_BF16 else scheme


def rate(record: Record) -> float | None:
    """Give what a stage is judged by: prompt tokens/s of a prefill, output tokens/s of a decode; None for a failure."""
    if not record.ok:
        return None
    return record.figures[f"{judged(record.key.stage)}_tokens_per_s"]


def judged(stage: Stage) -> str:
    """Name the tokens whose rate a stage is judged by."""
    return "prompt" if stage == "prefill" else "output"


def dense_of(scheme: str) -> str | None:
    """Name the dense scheme that one is compared with: of the same codes; for those and vLLM's own, bf16."""
    if scheme == models.UNQUANTISED:
        return None
    if scheme == models.VLLM_INT8 or schemes.find(scheme).group is None:
        return models.UNQUANTISED
    return schemes.find(scheme).dense.name


def speedup(stands: Mapping[Key, Record], key: Key, over: str | None = None) -> float | None:
    """Give how many times the rate of ``over``, by default its dense scheme, a point has; None where one is missing."""
    over = dense_of(key.scheme) if over is None else over
    if over is None or key not in stands:
        return None
    base = stands.get(key._replace(scheme=over))
    own_rate, base_rate = rate(stands[key]), None if base is None else rate(base)
    return None if own_rate is None or base_rate is None else own_rate / base_rate


def implausible(scheme: str, factor: float) -> bool:
    """Whether a speed-up over dense weights is larger than the hardware can give: a fault, not a result."""
    if scheme in (models.UNQUANTISED, models.VLLM_INT8):
        return False
    found = schemes.find(scheme)
    return found.group is not None and factor > found.ceiling


def _stage(name: str) -> Stage:
    return "prefill" if name == "prefill" else "decode"
