"""Is one case found quickly, and everything analysed in time? The size is that of the variable, or a small one.

Each case has a time and a memory, as a measured one has.

In full: ``PERFGATE_HISTORY_SIZE=5000x365 pytest tests/test_history_size.py -s``.
"""

from __future__ import annotations

import datetime
import os
import time

import numpy as np
import pytest

from perfgate.history import nightly, query, tables
from perfgate.history.store import History

SIZE = os.environ.get("PERFGATE_HISTORY_SIZE", "150x365")
CASES, NIGHTS = map(int, SIZE.split("x"))
FIRST = datetime.datetime(2026, 1, 1, 2, tzinfo=datetime.UTC).timestamp()
KEY = "cpu-pretended-2t"
#: One in so many cases has a step, three nights before the end.
STEPPED = 50


@pytest.fixture(scope="module")
def address(tmp_path_factory) -> str:
    """A history of many cases, each with its own noise."""
    path = tmp_path_factory.mktemp("size") / "history.sqlite"
    noise = np.random.default_rng(6)
    with History(f"sqlite:///{path}") as history:

        def fill(connection):
            run = {"source": "perfgate", "published": False, "host": "a", "software": "{}"}
            rows = [
                {**run, "id": n + 1, "identity": str(n), "started_s": FIRST + n * 86400, "revision": f"{n:012x}"}
                for n in range(NIGHTS)
            ]
            connection.execute(tables.runs.insert(), rows)
            name = {"key": KEY, "better": "lower"}
            connection.execute(
                tables.series.insert(),
                [
                    {**name, "id": 2 * c + second, "name": f"test_x.py::test_{c}", "metric": metric, "unit": unit}
                    for c in range(CASES)
                    for second, (metric, unit) in enumerate((("wall_time", "s"), ("memory", "B")), start=1)
                ],
            )
            for c in range(CASES):
                values = noise.normal(1e-3, 1e-3 * noise.uniform(0.001, 0.03), NIGHTS)
                if c % STEPPED == 0:
                    values[-3:] *= 1.3
                # Memory is the same every night, but for some bytes in one case of two.
                sizes = 2**20 + 64 * noise.integers(0, 1 + c % 2, NIGHTS, endpoint=True)
                point = {"low": None, "high": None, "verdict": "unchanged"}
                for second, allowed, series in ((1, 5e-5, values), (2, 2**16, sizes)):
                    of_series = {**point, "series_id": 2 * c + second, "allowed": allowed}
                    rows = [{**of_series, "run_id": n + 1, "value": float(value)} for n, value in enumerate(series)]
                    connection.execute(tables.points.insert(), rows)

        history._write(fill)
    print(f"\n{SIZE}: {path.stat().st_size / 2**20:.0f} MiB")
    return f"sqlite:///{path}"


def test_one_case_is_found_in_50_ms(address):
    # Processor time: what the machine does beside is not the history's.
    taken, waited = [], []
    with History(address, create=False) as history:
        for case in range(0, CASES, max(1, CASES // 20)):
            began, started = time.process_time(), time.perf_counter()
            names = history.find(f"test_x.py::test_{case}")
            [points, _] = [history.points(name.id) for name in names]
            taken.append(time.process_time() - began)
            waited.append(time.perf_counter() - started)
            assert len(points) == NIGHTS
            assert [point.run.id for point in points] == list(range(1, NIGHTS + 1))
    began = time.process_time()
    assert query.series(address, "test_x.py::test_0", KEY, "wall_time") is not None
    whole = time.process_time() - began
    print(
        f"query: median {np.median(taken) * 1e3:.1f} ms of the processor, slowest {max(taken) * 1e3:.1f} ms, "
        f"waited {np.median(waited) * 1e3:.1f} ms; opened and analysed {whole * 1e3:.0f} ms"
    )
    assert np.median(taken) < 0.05


def test_all_cases_are_analysed_in_two_minutes(address):
    began, started = time.process_time(), time.perf_counter()
    with History(address, create=False) as history:
        # Some steps of ten times the noise are told before their third night.
        report = nightly.report(history.everything(), history.last_s(FIRST + NIGHTS * 86400), nights=3)
    taken, waited = time.process_time() - began, time.perf_counter() - started
    steps = [each for each in report.findings if each.kind == "change" and each.share > 0.2]
    others = len(report.findings) - len(steps)
    print(f"analysis: {taken:.1f} s of the processor, waited {waited:.1f} s; {len(steps)} steps found, {others} others")
    assert report.series == 2 * CASES
    assert {each.name.case for each in steps} == {f"test_x.py::test_{c}" for c in range(0, CASES, STEPPED)}
    assert all(each.last_good.run.id == NIGHTS - 3 and each.since.run.id == NIGHTS - 2 for each in steps)
    # By chance: a few in a thousand.
    assert others <= max(3, CASES // 100)
    # Of a smaller part in proportion, and some for the imports.
    assert taken < 120 * CASES / 5000 + 10
