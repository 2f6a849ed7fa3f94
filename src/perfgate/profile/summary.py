"""What is written about the profiles of a run? A trace and a table for each case, and one summary over all of them."""

from __future__ import annotations

import csv
import hashlib
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from perfgate.baseline.layout import split_node_id
from perfgate.profile.torch_profile import Profile
from perfgate.units import count, quantity

SUMMARY = "summary.csv"
#: Rows of a case's operator table.
ROWS = 15

_UNSAFE = re.compile(r"[^\w.,=+@\[\]-]", re.ASCII)
_LONGEST = 120


@dataclass(frozen=True)
class Row:
    """One case in the summary.

    Args:
        case: its node id.
        profiled_cpu_s: seconds on the CPU, under the profiler.
        profiled_device_s: seconds of kernels, copies and fills on the device.
        launches: kernels that ran on the device.
        kernels: how many different ones.
        operator_calls: operators called, those that other operators called included.
        operators: how many different ones.
        top_operator: the one with the longest time in itself: on the device, or on the CPU when the device did nothing.
        trace: the Chrome trace, from the folder of the profiles.
    """

    case: str
    profiled_cpu_s: float
    profiled_device_s: float
    launches: int
    kernels: int
    operator_calls: int
    operators: int
    top_operator: str
    trace: str


def place(folder: Path, case: str) -> Path:
    """Give the path, without an ending, of the files of a case: ``folder/perf_tests/a/test_x/test_y[z]``.

    A part of the node id that cannot be the name of a file is written with "-" and a hash that keeps it apart.
    """
    module, name = split_node_id(case)
    return folder.joinpath(*map(_file_name, module.split("/")), _file_name(name))


def _file_name(part: str) -> str:
    safe = _UNSAFE.sub("-", part)[:_LONGEST]
    if safe == part and safe.strip("."):
        return safe
    return f"{safe.strip('.')}-{hashlib.sha256(part.encode(errors='surrogatepass')).hexdigest()[:8]}"


def write_case(folder: Path, case: str, profile: Profile) -> Row:
    """Write the trace and the table of a case, and give its row of the summary."""
    base = place(folder, case)
    base.parent.mkdir(parents=True, exist_ok=True)
    trace = base.with_name(base.name + ".json.gz")
    profile.write_trace(trace)
    base.with_name(base.name + ".txt").write_text(text(case, profile), encoding="utf-8")
    top = next(iter(profile.operators), None)
    # Kernels that were launched outside of any operator leave all operators without time on the device.
    named = top is not None and (top.self_device_s > 0 or not profile.device_s)
    return Row(
        case=case,
        profiled_cpu_s=profile.cpu_s,
        profiled_device_s=profile.device_s,
        launches=profile.launches,
        kernels=len(profile.kernels),
        operator_calls=sum(operator.calls for operator in profile.operators),
        operators=len(profile.operators),
        top_operator=top.name if top is not None and named else "",
        trace=trace.relative_to(folder).as_posix(),
    )


def text(case: str, profile: Profile) -> str:
    """Write torch's table of the first operators, then every kernel, copy and marked span."""
    lines = [
        case,
        "Times are those under the profiler, which slows a call down: they are not the time of the call.",
        "",
    ]
    lines += [profile.table(ROWS).rstrip(), ""]
    if not profile.device_s:
        lines.append("Nothing ran on a GPU.")
    else:
        what = f"{count(profile.launches, 'launch', 'launches')} of {count(len(profile.kernels), 'kernel')}"
        lines.append(f"{what}, {count(sum(profile.copies.values()), 'copy or fill', 'copies and fills')} of memory")
    lines += [f"{number:>8}  {name}" for counts in (profile.kernels, profile.copies) for name, number in counts.items()]
    lines += [
        f"span {span.name}: {count(span.calls, 'call')}, {quantity(span.cpu_s, 's')} on the CPU, "
        f"{quantity(span.device_s, 's')} on the device"
        for span in profile.spans
    ]
    return "\n".join(lines) + "\n"


def write(folder: Path, rows: Iterable[Row]) -> None:
    """Write the summary of a run, by case."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / SUMMARY).open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Row)], lineterminator="\n")
        writer.writeheader()
        for row in sorted(rows, key=lambda row: row.case):
            values = asdict(row).items()
            writer.writerow({name: f"{value:.9f}" if isinstance(value, float) else value for name, value in values})
