"""Is the noise that cases of serving declare what engines show that ran the same points more than once?"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from pathlib import Path

import pytest

from perf_workloads.slidesparse.serving import comparison, models, results, workloads
from perf_workloads.slidesparse.serving.repeats import repeats
from perf_workloads.slidesparse.serving.results import Key, Record

STORED = Path(__file__).resolve().parents[1] / "perf_tests" / "slidesparse" / "results" / "serving.jsonl"
#: Later results are not counted: the figures beside ``SPREAD`` are of these.
LAST = "2026-11-22T05"


def repeated() -> dict[tuple[str, str], list[float]]:
    """Give ln(later / earlier rate) of points that were run again unchanged, by model and stage."""
    runs: dict[Key, list[Record]] = defaultdict(list)
    for record in results.read(STORED):
        if record.ok and record.key.device == "nvidia-h200" and record.when < LAST:
            runs[record.key].append(record)
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    for key, records in runs.items():
        for before, after in itertools.pairwise(records):
            earlier, later = comparison.rate(before), comparison.rate(after)
            if earlier and later and repeats(before, after):
                found[key.model, key.stage].append(math.log(later / earlier))
    return found


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
    changes = repeated()[model, stage]
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
