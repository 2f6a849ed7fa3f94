"""Is the noise that cases of serving declare what engines show that ran the same points more than once?"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pytest

from perf_workloads.slidesparse.serving import comparison, models, results, workloads
from perf_workloads.slidesparse.serving.results import Key, Record

STORED = Path(__file__).resolve().parents[1] / "perf_tests" / "slidesparse" / "results" / "serving.jsonl"
PREFILL, DECODE = workloads.TOKENS["prefill"], workloads.TOKENS["decode"]
#: Points of the H200 that ran again with nothing changed in between: scheme, tokens, the hour in which they first ran.
#: The next success of the point is the repeat. Dense layers multiply as they do since 16 h on 21 November; products to
#: bf16 were searched between their runs, but for those of so many tokens; sums of more than 512 tokens have had graphs
#: since, and those of Qwen2.5-7B other algorithms.
REPEATED = {
    ("Llama3.2-1B", "prefill"): (
        ("int8-dense", PREFILL, "2026-11-21T18"),
        ("int8-2_4", (512, 32768, 65536), "2026-11-21T15"),
        ("int8-2_8", (512, 32768, 65536), "2026-11-21T15"),
        ("int8-2_8-bf16", (32768, 65536), "2026-11-22T00"),
    ),
    ("Llama3.2-1B", "decode"): (("int8-dense", DECODE, "2026-11-21T18"),),
    ("Qwen2.5-7B", "prefill"): (
        ("int8-dense", PREFILL, "2026-11-21T18"),
        ("int8-2_4", (512,), "2026-11-21T15"),
        ("int8-2_6", (512,), "2026-11-21T15"),
        ("int8-2_8", (512,), "2026-11-21T15"),
        ("int8-2_4-bf16", (32768, 65536), "2026-11-22T00"),
        ("int8-2_8-bf16", (32768, 65536), "2026-11-22T00"),
    ),
    ("Qwen2.5-7B", "decode"): (("int8-dense", DECODE, "2026-11-21T18"),),
}


def repeated(model: str, stage: workloads.Stage) -> Iterator[tuple[Record, Record]]:
    """Pair the runs of points that ran again unchanged."""
    passed = [record for record in results.read(STORED) if record.ok]
    for scheme, several, hour in REPEATED[model, stage]:
        for tokens in several:
            key = Key("nvidia-h200", model, scheme, stage, tokens)
            runs = [record for record in passed if record.key == key]
            (first,) = (at for at, record in enumerate(runs) if record.when.startswith(hour))
            yield runs[first], runs[first + 1]


@pytest.mark.parametrize(
    ("model", "stage", "pairs", "deviation", "furthest"),
    [
        ("Llama3.2-1B", "prefill", 16, 0.006, 0.02),
        ("Llama3.2-1B", "decode", 4, 0.058, 0.12),
        ("Qwen2.5-7B", "prefill", 15, 0.015, 0.03),
        ("Qwen2.5-7B", "decode", 4, 0.008, 0.02),
    ],
)
def test_noise_is_what_repeated_points_show(
    model: str, stage: workloads.Stage, pairs: int, deviation: float, furthest: float
) -> None:
    changes = []
    for before, after in repeated(model, stage):
        assert before.figures["passes"] == after.figures["passes"]
        assert {**before.facts, "epilogue": before.fact("epilogue")} == {
            **after.facts,
            "epilogue": after.fact("epilogue"),
        }
        earlier, later = comparison.rate(before), comparison.rate(after)
        assert earlier is not None
        assert later is not None
        changes.append(math.log(later / earlier))
    assert len(changes) == pairs
    # Two runs differ by sqrt(2) standard deviations of one.
    found = math.sqrt(sum(change**2 for change in changes) / (2 * pairs))
    assert found == pytest.approx(deviation, abs=0.0006)
    assert max(abs(math.expm1(change)) for change in changes) == pytest.approx(furthest, abs=0.006)
    noise, limit = (float(text.rstrip("%")) / 100 for text in comparison.SPREAD[model, stage])
    assert found <= noise
    assert limit >= 3 * noise


def test_every_case_has_a_noise() -> None:
    assert set(comparison.SPREAD) == {(model, stage) for model in models.PUBLISHED for stage in workloads.STAGES}
