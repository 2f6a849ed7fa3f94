"""Where is a calibration kept, and how do the figures of one more process get in?

One file a name and hardware key, ``baselines/<key>/calibration/<name>.json``, as
``perfgate/schema/calibration.schema.json`` says::

    {
      "schema": 1,
      "key": "nvidia-h200",
      "name": "suite",
      "environment": {"driver": "580.1", "python": "3.12.3", "torch": "2.11.0"},
      "processes": [
        {"began": "2026-01-31T12:00:00+00:00", "seconds": 48.2, "commit": "1c2d3e4", "device": "0", "steps": ["1%"]}
      ],
      "cases": {
        "perf_tests/test_x.py::test_rows[128]": {
          "method": {"clock": "device", "version": "1"},
          "metrics": {
            "device_time": {"unit": "s", "better": "lower", "limit": [0.02, 2.5e-07], "noise": [0.002, 3e-08],
              "rows": [
                [0, "", 1.71e-06, {"sm_clock": 1.98e+09}, [80, 1.72e-06, 1.7e-06, 1.7e-06, 1.73e-06, 1e-08], [-12, 30]],
                [0, "1%", 1.73e-06, {"sm_clock": 1.98e+09}, [80, 1.74e-06, 1.71e-06, 1.72e-06, 1.74e-06, 1e-08], [7]]
              ]
            }
          }
        }
      }
    }

A row is one figure: the place of its process, the step of extra work ("" for none), the value, the machine's speeds, of
the samples their number, mean, minimum, quartiles and standard deviation, and some of them in 1/100,000 of the value
from it. ``limit`` and ``noise`` are a share and an amount. A pool is of one environment: what was measured with other
software belongs under another name.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from perfgate.baseline import document
from perfgate.baseline.files import locked
from perfgate.baseline.layout import CALIBRATION, baseline_path, display_path
from perfgate.calibrate.pool import Found, Pool, PooledCase, Process, Row, Series, add
from perfgate.calibrate.samples import from_row, rounded, to_row
from perfgate.errors import BaselineError
from perfgate.model import Limit, Noise
from perfgate.report import conform

SCHEMA = 1
SCHEMA_FILE = "calibration.schema.json"
_KIND = document.Kind("a calibration", SCHEMA_FILE, SCHEMA)
_AGAIN = "delete it and measure again"
_LOCK_TIMEOUT_S = 60.0


def path_of(root: Path, key: str, name: str) -> Path:
    """Give the file of a calibration; raise BaselineError where key or name cannot name one."""
    return baseline_path(root, key, f"{CALIBRATION}/{name}")


def load(path: Path) -> Pool | None:
    """Read a pool; None when there is no file.

    Raises:
        BaselineError: the file cannot be read, is damaged, or is of another version.
    """
    contents = document.read(path, _KIND, _AGAIN)
    return None if contents is None else _pool(contents, path)


def merge(root: Path, name: str, pool: Pool, process: Process, found: Sequence[Found]) -> tuple[Pool, list[str]]:
    """Add what one process found to a stored pool.

    Args:
        root: folder of the baselines.
        name: of the calibration.
        pool: an empty pool with the key and the environment of what was found.
        process: where the measurements are from.
        found: what it measured.

    Returns:
        The whole pool, and which cases were left out and why.

    Raises:
        BaselineError: the stored pool is damaged, of other software, or cannot be written; it is left as it was.
    """
    path = path_of(root, pool.key, name)
    with locked(root, _LOCK_TIMEOUT_S):
        stored = load(path) or pool
        check_environment(stored, pool.environment, path)
        grown, problems = add(stored, process, found)
        document.write(path, to_text(grown, name), "What this process measured")
    return grown, problems


def check_environment(pool: Pool, environment: Mapping[str, str], path: Path) -> None:
    """Refuse to mix figures that were measured with different software.

    Raises:
        BaselineError: they were.
    """
    if dict(pool.environment) == dict(environment):
        return
    names = sorted({*pool.environment, *environment})
    changes = [
        f"{name} {pool.environment.get(name, 'none')} -> {environment.get(name, 'none')}"
        for name in names
        if pool.environment.get(name) != environment.get(name)
    ]
    raise BaselineError(
        f"{display_path(path)}: measured with other software: {', '.join(changes)}",
        "Figures of both in one pool would show the difference of the software as noise.",
        "keep both, with --name NAME for the new one, or delete the file",
    )


def to_text(pool: Pool, name: str) -> str:
    """Write a pool, one figure a line."""
    processes = [f"    {json.dumps(vars(process))}" for process in pool.processes]
    cases = []
    for case, pooled in sorted(pool.cases.items()):
        metrics = ",\n".join(map(_metric_text, (pooled.series[metric] for metric in sorted(pooled.series))))
        method = json.dumps(dict(pooled.method), sort_keys=True)
        cases.append(
            f'    {json.dumps(case)}: {{\n      "method": {method},\n      "metrics": {{\n{metrics}\n      }}\n    }}'
        )
    head = {"schema": SCHEMA, "key": pool.key, "name": name, "environment": dict(sorted(pool.environment.items()))}
    lines = [f"  {json.dumps(field)}: {json.dumps(value)}" for field, value in head.items()]
    lines.append(f'  "processes": {_block(processes, "[]")}')
    lines.append(f'  "cases": {_block(cases, "{}")}')
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _metric_text(series: Series) -> str:
    rows = ",\n".join(
        "          " + json.dumps(_row_fields(row), separators=(",", ":"))
        for row in sorted(series.rows, key=lambda row: row.process)
    )
    head = {"unit": series.unit, "better": series.better}
    head |= {"limit": [series.limit.relative, series.limit.absolute]}  # type: ignore[dict-item]
    head |= {"noise": [series.noise.relative, series.noise.absolute]}  # type: ignore[dict-item]
    name, fields = json.dumps(series.name), json.dumps(head)[:-1]
    return f'        {name}: {fields},\n        "rows": [\n{rows}\n        ]}}'


def _row_fields(row: Row) -> list[Any]:
    speeds = {name: rounded(speed) for name, speed in row.speeds.items()}
    value = rounded(row.value)
    return [row.process, row.step, value, speeds, *to_row(row.samples, value)]


def _block(members: Sequence[str], brackets: str) -> str:
    text = ",\n".join(members)
    return f"{brackets[0]}\n{text}\n  {brackets[1]}" if text else brackets


def _pool(contents: Mapping[str, Any], path: Path) -> Pool:
    processes = tuple(Process(**{**each, "steps": tuple(each["steps"])}) for each in contents["processes"])
    cases = {}
    for name, case in contents["cases"].items():
        series = {}
        for metric, fields in case["metrics"].items():
            rows = tuple(_row(row, f"cases.{name}.metrics.{metric}", len(processes), path) for row in fields["rows"])
            limit, noise = Limit(*fields["limit"]), Noise(*fields["noise"])
            series[metric] = Series(metric, fields["unit"], fields["better"], limit, noise, rows)
        cases[name] = PooledCase(case["method"], series)
    return Pool(contents["key"], contents["environment"], processes, cases)


def _row(fields: Sequence[Any], at: str, processes: int, path: Path) -> Row:
    """Read one figure; the schema knows lists of one kind only, so that its parts are looked at here."""
    process, step, value, speeds, figures, some = fields
    numbers = [value, *speeds.values(), *figures, *some] if type(speeds) is dict else [None]
    right = (
        type(process) is int
        and 0 <= process < processes
        and isinstance(step, str)
        and len(figures) in (0, 6)
        and all(isinstance(number, int | float) and not isinstance(number, bool) for number in numbers)
    )
    if not right:
        problem = f"not {_KIND.name}: {at}: {conform.shown(fields)} is not a row of figures"
        raise document.damaged(path, problem, _AGAIN)
    return Row(process, step, float(value), speeds, from_row(figures, some, float(value)))
