"""Is everything told once, and taken back or corrected when it was wrong? Judged night by night."""

from __future__ import annotations

import numpy as np
import pytest

from perfgate.history import news, nightly, text
from perfgate.history.news import Found
from perfgate.history.store import SeriesName, StoredPoint, StoredRun

NIGHTS = 40
FIRST_S = 1_790_820_000.0


def change(index: int, earliest: int, latest: int, after: float = 1.1e-3) -> Found:
    return Found("change", index, earliest, latest, 1e-3, after, after)


def drift(after: float, told: float, latest: int = 20, before: float = 1e-3) -> Found:
    return Found("drift", 2, 2, latest, before, after, told)


def points(values) -> list[StoredPoint]:
    runs = [StoredRun(n, "perfgate", False, FIRST_S + n * 86_400, f"{n:012x}", "") for n in range(len(values))]
    return [StoredPoint(run, value, None, None, "unchanged", 5e-5) for run, value in zip(runs, values, strict=True)]


def nights_told(monkeypatch, script: dict[int, list[Found]]) -> list[tuple[int, str, int]]:
    """Give on which night what was told about which date, when each night finds what the script last said."""

    def find(values, allowed):
        return script[max(night for night in script if night <= len(values))]

    monkeypatch.setattr(news, "find", find)
    values = np.zeros(NIGHTS)
    return [
        (end, each.state, each.found.index)
        for end in range(15, NIGHTS)
        for each in news.news(values[:end], [None] * end, 1)
    ]


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ({0: [], 20: [change(17, 17, 17)]}, [(20, "new", 17)]),
        # Near the threshold: found, not found, found.
        ({0: [], 20: [change(17, 17, 18)], 22: [], 24: [change(17, 17, 17)]}, [(20, "new", 17)]),
        ({0: [], 20: [change(17, 17, 17)], 22: []}, [(20, "new", 17), (24, "gone", 17)]),
        # Its told nights hold the new date, or do not.
        ({0: [], 20: [change(17, 16, 18)], 21: [change(18, 18, 18)]}, [(20, "new", 17)]),
        ({0: [], 20: [change(17, 17, 17)], 21: [change(18, 18, 18)]}, [(20, "new", 17), (21, "moved", 18)]),
        # Night by night, and the told nights are still those of the first time.
        ({0: [], 20: [change(17, 17, 18)], 21: [change(18, 18, 19)], 25: [change(19, 19, 19)]},
         [(20, "new", 17), (25, "moved", 19)]),
        # The other way, or far away, is another one.
        ({0: [change(9, 9, 9)], 20: [change(9, 9, 9), change(17, 17, 17, 5e-4)]}, [(20, "new", 17)]),
        ({0: [], 20: [change(12, 12, 12)], 21: [change(18, 18, 18)]},
         [(20, "new", 12), (21, "new", 18), (23, "gone", 12)]),
        ({0: [], 20: [drift(1.06e-3, 1.06e-3)], 22: [drift(1.09e-3, 1.06e-3)], 23: [], 24: [drift(1.1e-3, 1.06e-3)],
          27: [drift(1.12e-3, 1.12e-3)]}, [(20, "new", 2), (27, "new", 2)]),
        ({0: [], 20: [drift(1.06e-3, 1.06e-3)], 24: []}, [(20, "new", 2), (26, "gone", 2)]),
        ({0: [], 20: [drift(9e-4, 9e-4)], 24: [drift(8e-4, 8e-4)]}, [(20, "new", 2), (24, "new", 2)]),
        # A drift was one, whatever step came after it; and was none when a step explains it.
        ({0: [], 20: [drift(1.06e-3, 1.06e-3)], 24: [change(21, 21, 21)]}, [(20, "new", 2), (24, "new", 21)]),
        ({0: [], 20: [drift(1.06e-3, 1.06e-3)], 24: [change(9, 9, 9)]},
         [(20, "new", 2), (24, "new", 9), (26, "gone", 2)]),
        ({0: [], 20: [Found("noisier", 6, 6, 19, 1e-5, 3e-5, 3e-5)], 21: []}, [(20, "new", 6)]),
    ],
)  # fmt: skip
def test_what_is_told_night_by_night(monkeypatch, script, told):
    assert nights_told(monkeypatch, script) == told


def test_a_slow_drift_is_told_once_with_all_of_its_nights():
    name = SeriesName(1, "t.py::test_a", "cpu", "wall_time", "s", "lower")
    for seed in range(2):
        noise = np.random.default_rng([seed, 11]).normal(1e-3, 1e-5, 60)
        stored = points((noise * (1 + 0.0015 * np.arange(60))).tolist())
        told = [
            each
            for end in range(24, 61)
            for each in nightly.report([(name, stored[:end])], stored[end - 1].run.started_s).findings
            if each.kind == "drift"
        ]
        assert [each.state for each in told] == ["new"]
        assert told[0].last_good.run.id <= 5
        assert told[0].nights[-1].run.id >= 25
        assert [night.run.id for night in told[0].nights] == list(
            range(told[0].last_good.run.id + 1, told[0].nights[-1].run.id + 1)
        )


def test_how_corrections_are_told():
    name = SeriesName(1, "t.py::test_a", "cpu", "wall_time", "s", "lower")
    stored = points([1e-3] * 30)
    levels = (1e-3, 1.1e-3)

    def finding(first, last, **changes):
        return nightly.Finding(
            "change", name, *levels, stored[first], tuple(stored[first : last + 1]), stored[first - 1], **changes
        )

    found = (
        finding(20, 23),
        finding(10, 10, state="moved", was=stored[8]),
        finding(12, 13, state="gone"),
        nightly.Finding("drift", name, *levels, stored[1], tuple(stored[2:30]), stored[1]),
    )
    report = nightly.Report(found, 1, stored[-1].run.started_s)
    case, where = "    t.py::test_a", "        wall_time on cpu: 1.00 ms -> 1.10 ms (+10.0 %, worse), "
    assert list(text.of_report(report, 1)) == [
        "2 figures got worse, 0 better, 2 corrections, in the last night: 1 figure until 2026-10-30",
        "new change points (1)",
        case,
        f"{where}since 2026-10-21, commits 000000000013..000000000017 "
        "(night uncertain: one of 2026-10-21 to 2026-10-24)",
        "slow drifts, each night inside its limit (1)",
        case,
        f"{where}since 2026-10-02, commits 000000000001..00000000001d",
        "corrections: told before with other commits (1)",
        case,
        f"{where}now dated 2026-10-11, was 2026-10-09, commits 000000000009..00000000000a",
        "corrections: told before and no longer seen (1)",
        case,
        f"{where}since 2026-10-13, commits 00000000000b..00000000000d (night uncertain: one of 2026-10-13, 2026-10-14)",
    ]
    lone = nightly.Report(found[1:2], 1, stored[-1].run.started_s)
    assert next(text.of_report(lone, 1)) == "nothing new in the last night, 1 correction: 1 figure until 2026-10-30"
    [document] = text.to_json(lone, 1)["findings"]
    assert (document["state"], document["worse"], document["was"]) == (
        "moved",
        True,
        text.date(stored[8].run.started_s),
    )
    # What is taken back was bad news, and is none.
    assert not found[2].worse
    assert "### Corrections: told before with other commits (1)" in list(text.markdown(lone, 1))
