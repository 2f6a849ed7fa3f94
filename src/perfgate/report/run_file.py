"""How does a run become a JSON file and come back? See ``perfgate/schema/run.schema.json``."""

from __future__ import annotations

import json
import math
import numbers
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import perfgate
from perfgate.errors import RunFileError
from perfgate.model import CaseResult, Device, Hardware, MetricVerdict, Outcome, Reported, Run, Verdict, Work
from perfgate.report import conform, whole_file, words

#: Version of the file format, and the oldest one that is still read.
SCHEMA = 4
OLDEST = 2
SCHEMA_FILE = "run.schema.json"

# What files of older versions have not: the records' own defaults say the same. Version 4 added "attached", version 3
# all the others.
_ADDED_TO_RUNS: Mapping[str, Any] = {"command": "", "base": "", "base_commit": "", "remarks": []}
_ADDED_TO_CASES: Mapping[str, Any] = {
    "environment": {},
    "baseline_environment": {},
    "baseline_notes": {},
    "baseline_commit": "",
    "baseline_date": "",
    "kernel_differences": [],
}
_ATTACHED: Mapping[str, Any] = {"attached": {}}
_ADDED_TO_METRICS: Mapping[str, Any] = {"values": [], "baseline_values": []}

_AGAIN = "write it again with: pytest --benchmark-compare --perf-json=FILE"


def to_json(run: Run) -> dict[str, Any]:
    """Turn a run into JSON values; a figure that is not finite becomes null."""
    document = {
        "schema": SCHEMA,
        "perfgate": perfgate.__version__,
        "started": run.started,
        "duration_s": run.duration_s,
        "commit": run.commit,
        "hardware": asdict(run.hardware),
        "software": run.software,
        "compared": run.compared,
        "counts": words.counts(run.results),
        "cases": [_case(result) for result in run.results],
        "recorded": run.recorded,
        "files": run.files,
        "unused": run.unused,
        "problems": run.problems,
        "command": run.command,
        "base": run.base,
        "base_commit": run.base_commit,
        "remarks": run.remarks,
    }
    plain: dict[str, Any] = _plain(document)
    return plain


def from_json(document: Mapping[str, Any]) -> Run:
    """Turn what :func:`to_json` gave, and a schema has accepted, back into a run."""
    hardware = document["hardware"]
    return Run(
        hardware=Hardware(tuple(map(_read_device, hardware["devices"])), hardware["environments"]),
        results=tuple(map(_read_case, document["cases"])),
        software=document["software"],
        started=document["started"],
        duration_s=_figure(document["duration_s"]),
        commit=document["commit"],
        compared=document["compared"],
        command=document["command"],
        base=document["base"],
        base_commit=document["base_commit"],
        **{name: tuple(document[name]) for name in ("recorded", "files", "unused", "problems", "remarks")},
    )


def write(run: Run, path: Path, *, setting: str = "--perf-json") -> None:
    """Write a run, whole or not at all; folders that are missing are made.

    Args:
        run: the run.
        path: the file.
        setting: what the user named the file with.

    Raises:
        RunFileError: the file cannot be written.
    """
    text = json.dumps(to_json(run), indent=1, allow_nan=False) + "\n"
    whole_file.write(path, text, what="the run", setting=setting)


def read(path: Path) -> Run:
    """Read a stored run.

    Raises:
        RunFileError: it is not there, not JSON, of another version, or not what the schema says.
    """
    try:
        document = json.loads(path.read_bytes().decode("utf-8"), parse_constant=_refuse, parse_float=_finite)
    except OSError as error:
        raise RunFileError(
            f"{path}: cannot read the run: {error.strerror}",
            hint="a run is stored with: pytest --benchmark-compare --perf-json=FILE",
        ) from error
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deep" if isinstance(error, RecursionError) else str(error)
        raise RunFileError(f"{path}: not a stored run: {reason}", "A stored run is JSON.", _AGAIN) from error
    version = document.get("schema") if isinstance(document, dict) else None
    if isinstance(version, int) and not isinstance(version, bool) and not OLDEST <= version <= SCHEMA:
        raise RunFileError(
            f"{path}: the run has format version {version}",
            f"perfgate {perfgate.__version__} reads versions {OLDEST} to {SCHEMA}.",
            "install a newer version: pip install --upgrade perfgate" if version > SCHEMA else _AGAIN,
        )
    if version in range(OLDEST, SCHEMA) and not isinstance(version, bool):
        document = _upgraded(document)
    fault = next(conform.faults(document, conform.load(SCHEMA_FILE)), None)
    if fault is not None:
        raise RunFileError(f"{path}: not a stored run: {fault}", hint=_AGAIN)
    try:
        return from_json(document)
    except OverflowError:
        raise RunFileError(f"{path}: not a stored run: a number is too large", hint=_AGAIN) from None


def _upgraded(document: Mapping[str, Any]) -> dict[str, Any]:
    """Give a document of an older version what that of today has besides; what is wrong with it stays wrong."""
    before_3 = document["schema"] < 3

    def filled(record: Any, added: Mapping[str, Any]) -> Any:
        return {**added, **record} if isinstance(record, dict) else record

    cases = document.get("cases")
    if isinstance(cases, list):
        cases = [filled(case, {**_ADDED_TO_CASES, **_ATTACHED} if before_3 else _ATTACHED) for case in cases]
        for case in cases:
            if before_3 and isinstance(case, dict) and isinstance(case.get("metrics"), list):
                case["metrics"] = [filled(metric, _ADDED_TO_METRICS) for metric in case["metrics"]]
        document = {**document, "cases": cases}
    return {**(_ADDED_TO_RUNS if before_3 else {}), **document, "schema": SCHEMA}


def _case(result: CaseResult) -> dict[str, Any]:
    fields = asdict(result)
    return {"id": fields.pop("case"), **fields}


def _read_case(fields: Mapping[str, Any]) -> CaseResult:
    changed = {
        "verdict": Verdict(fields["verdict"]),
        "outcome": Outcome(fields["outcome"]),
        "metrics": tuple(map(_read_metric, fields["metrics"])),
        "work": _read_work(fields["work"]),
        "copy_bandwidth": _figure_or_none(fields["copy_bandwidth"]),
        "reported": tuple(Reported(**{**each, "value": _figure(each["value"])}) for each in fields["reported"]),
        "kernel_differences": tuple(fields["kernel_differences"]),
    }
    rest = {name: value for name, value in fields.items() if name != "id"}
    return CaseResult(case=fields["id"], **{**rest, **changed})


def _read_work(fields: Mapping[str, Any] | None) -> Work | None:
    return Work(_figure_or_none(fields["bytes"]), _figure_or_none(fields["flops"])) if fields else None


def _read_metric(fields: Mapping[str, Any]) -> MetricVerdict:
    optional = ("baseline", "change", "low", "high", "limit", "detectable")
    figures = {name: _figure_or_none(fields[name]) for name in optional}
    verdict = Verdict(fields["verdict"])
    series = {name: tuple(map(_figure, fields[name])) for name in ("values", "baseline_values")}
    return MetricVerdict(**{**fields, **figures, **series, "value": _figure(fields["value"]), "verdict": verdict})


def _read_device(fields: Mapping[str, Any]) -> Device:
    capability = fields["capability"]
    power = _figure_or_none(fields["power_limit_w"])
    return Device(**{**fields, "capability": tuple(capability) if capability else None, "power_limit_w": power})


def _figure(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _figure_or_none(value: float | None) -> float | None:
    return None if value is None else float(value)


def _plain(value: Any) -> Any:
    """Turn values into those that JSON has; what it has none for becomes text."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        # Also the plain text of an enumeration. A lone surrogate has no UTF-8.
        return str(value).encode("utf-8", "replace").decode()
    # numpy's numbers are numbers too.
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {_plain(str(name)): _plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(part) for part in value]
    return str(value)


def _refuse(word: str) -> float:
    raise ValueError(f"{word} stands where a number belongs")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{conform.shown(text)} is too large for a number")
    return number
