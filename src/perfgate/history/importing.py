"""Which file holds what? Runs of perfgate, files of pytest-benchmark and published figures become entries."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from perfgate.errors import HistoryError, PerfgateError
from perfgate.hardware.key import cpu_key, printable
from perfgate.history import published
from perfgate.history.entry import Entry, Point, identity, latest_s, of_run, seconds
from perfgate.report import run_file
from perfgate.units import count

#: Where a run of pytest-benchmark's own came from.
BENCHMARK = "pytest-benchmark"
#: What its median is called in the history: not measured as a case of the gate is, and never in one series with it.
MEDIAN = "median"

_KINDS = "a run (--perf-json), a file of pytest-benchmark (--benchmark-json), or published figures (CSV)"


class Appends(Protocol):
    """What runs are added to."""

    def append(self, entry: Entry) -> bool:
        """Add a run; say whether it was new."""


def add_files(files: Sequence[Path], opened: Callable[[], Appends]) -> Iterator[str]:
    """Add files one by one, each whole or not at all, and tell what became of each.

    Args:
        files: what to read.
        opened: gives the history; asked only when there is something to add.

    Raises:
        HistoryError: the history cannot be opened; or, after all others were added, what was wrong with the files that
            were not.
    """
    faults: list[PerfgateError] = []
    for file in files:
        try:
            entry = read(file)
            _check_texts(file, entry)
        except PerfgateError as error:
            faults.append(error)
            continue
        if not entry.points:
            yield f"{file}: no figure in it, nothing to add"
            continue
        history = opened()
        try:
            new = history.append(entry)
        except PerfgateError as error:
            faults.append(error)
            continue
        told = f"{count(len(entry.points), 'figure')} added" if new else "already there"
        if entry.started_s > latest_s():
            told += "; dated in the future, and left out of every report until then: is its machine's clock right?"
        yield f"{file}: {told}"
    if len(faults) == 1:
        raise HistoryError(faults[0].what, faults[0].why, faults[0].hint)
    if faults:
        whys = dict.fromkeys(fault.why for fault in faults if fault.why)
        hints = dict.fromkeys(fault.hint for fault in faults if fault.hint)
        raise HistoryError("\n".join(fault.what for fault in faults), "\n".join(whys), "; ".join(hints))


def _check_texts(path: Path, entry: Entry) -> None:
    """Refuse what no database stores: JSON can write halves of characters."""
    texts = (entry.revision, entry.host, *entry.software, *entry.software.values(), *(p.case for p in entry.points))
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise HistoryError(f"{path}: {text!r} is not UTF-8", hint="give it another name") from error


def read(path: Path) -> Entry:
    """Read a file of any kind that the history takes.

    Raises:
        HistoryError: it cannot be read, or is none of them; says where.
        RunFileError: it is a run that cannot be read.
    """
    try:
        # Spreadsheets begin a table with a mark of its encoding.
        text = path.read_bytes().decode("utf-8").removeprefix("\ufeff")
    except OSError as error:
        raise HistoryError(f"{path}: cannot read it: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise HistoryError(f"{path}: not UTF-8 at byte {error.start}", hint=f"what can be added is {_KINDS}") from error
    if path.suffix.lower() == ".csv":
        return published.read(path, text)
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deep" if isinstance(error, RecursionError) else str(error)
        raise HistoryError(f"{path}: not JSON: {reason}", hint=f"what can be added is {_KINDS}") from error
    if isinstance(document, dict) and "benchmarks" in document:
        return of_benchmarks(path, document)
    if isinstance(document, dict) and "cases" in document:
        run = run_file.read(path)
        if run.base:
            raise HistoryError(
                f"{path}: it compares with {run.base}, and is no run of its own",
                "What a pull request measures is on no series of nights.",
                "add a run that compares with baselines: pytest --benchmark-compare --perf-json=FILE",
            )
        try:
            return of_run(run)
        except ValueError as error:
            raise HistoryError(f"{path}: started: {error}") from error
    raise HistoryError(
        f"{path}: neither a run of perfgate nor of pytest-benchmark", hint=f"what can be added is {_KINDS}"
    )


def of_benchmarks(path: Path, document: Mapping[str, Any]) -> Entry:
    """Turn a file of pytest-benchmark into an entry: one point for each benchmark, its median, and its quartiles.

    Args:
        path: where it came from, for messages.
        document: what it holds.

    Raises:
        HistoryError: something is missing, or not what it should be; says where.
    """
    machine = _at(path, document, "machine_info", dict)
    commit = _at(path, document, "commit_info", dict)
    text = _at(path, document, "datetime", str)
    try:
        started_s = seconds(text)
    except ValueError as error:
        raise HistoryError(f"{path}: datetime: {error}", hint=_written()) from error
    key = _key(machine)
    points = []
    places = set()
    for number, benchmark in enumerate(_at(path, document, "benchmarks", list)):
        at = f"benchmarks[{number}]"
        if not isinstance(benchmark, dict):
            raise HistoryError(f"{path}: {at}: it is not an object", hint=_written())
        name = _at(path, benchmark, "fullname", str, at)
        stats = _at(path, benchmark, "stats", dict, at)
        median, low, high = (_figure(path, stats, word, f"{at}.stats") for word in ("median", "q1", "q3"))
        if name in places:
            raise HistoryError(f"{path}: {at}.fullname: {json.dumps(name)} is there twice", hint=_written())
        places.add(name)
        points.append(Point(name, key, MEDIAN, "s", median, low=low, high=high))
    revision = str(commit.get("id") or "")[:12]
    host = str(machine.get("node") or "")
    return Entry(
        identity=identity(BENCHMARK, text, host, revision, [(point.case, point.value) for point in points]),
        source=BENCHMARK,
        started_s=started_s,
        revision=revision + ("+changes" if revision and commit.get("dirty") else ""),
        points=tuple(points),
        host=host,
        software={"python": str(machine.get("python_version", "")), BENCHMARK: str(document.get("version", ""))},
    )


def _key(machine: Mapping[str, Any]) -> str:
    """Give the hardware key of a machine as pytest-benchmark describes it."""
    cpu = machine.get("cpu")
    cpu = cpu if isinstance(cpu, dict) else {}
    model = cpu.get("brand_raw") or cpu.get("brand") or machine.get("processor") or machine.get("machine") or "unknown"
    threads = cpu.get("count")
    return cpu_key(str(model), threads if isinstance(threads, int) else 0)


def _at(path: Path, holder: Mapping[str, Any], name: str, kind: type, at: str = "") -> Any:
    value = holder.get(name)
    if not isinstance(value, kind):
        words = {"dict": "an object", "list": "a list", "str": "a text"}[kind.__name__]
        place = f"{at}.{name}" if at else name
        fault = "it is missing" if name not in holder else f"it is not {words}"
        raise HistoryError(f"{path}: {place}: {fault}", hint=_written())
    return value


def _figure(path: Path, holder: Mapping[str, Any], name: str, at: str) -> float:
    value = holder.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e300:
        shown = printable(json.dumps(value))
        fault = "it is missing" if name not in holder else f"{shown} is not a time in seconds"
        raise HistoryError(f"{path}: {at}.{name}: {fault}", hint=_written())
    return float(value)


def _written() -> str:
    return "such a file is written by: pytest --benchmark-json=FILE"
