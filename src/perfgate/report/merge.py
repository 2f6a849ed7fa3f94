"""What do several runs say together? Each case once for each hardware key, as the latest run saw it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from perfgate.model import CaseResult, Hardware, Run


def cases(runs: Sequence[Run]) -> list[CaseResult]:
    """Give the cases of runs; of one that ran more than once on the same hardware the latest result."""
    found: dict[tuple[str, str], CaseResult] = {}
    for run in runs:
        for result in run.results:
            # A later result stands where the case ran later.
            found.pop((result.key, result.case), None)
            found[result.key, result.case] = result
    # Machines as they name their devices themselves: accelerators before the CPU.
    devices = [device.key for run in runs for device in run.hardware.devices]
    keys = dict.fromkeys([*devices, *(result.key for result in found.values())])
    order = {key: place for place, key in enumerate(keys)}
    return sorted(found.values(), key=lambda result: order[result.key])


def latest(runs: Sequence[Run]) -> list[Run]:
    """Take from each run the results that a later one has replaced; a run of which nothing is left is left out."""
    kept = {id(result) for result in cases(runs)}
    left = [replace(run, results=tuple(each for each in run.results if id(each) in kept)) for run in runs]
    return [new for old, new in zip(runs, left, strict=True) if new.results or not old.results or new.problems]


def merged(runs: Sequence[Run]) -> Run:
    """Make one run of several: what is said of one run alone is the latest's, durations add up."""
    if not runs:
        raise ValueError("there is no run to merge")
    *_, last = runs
    if len(runs) == 1:
        return last
    devices = {device.key: device for run in runs for device in run.hardware.devices}
    environments = {kind: env for run in runs for kind, env in run.hardware.environments.items()}
    return replace(
        last,
        hardware=Hardware(tuple(sorted(devices.values(), key=lambda device: device.kind == "cpu")), environments),
        results=tuple(cases(runs)),
        software={name: version for run in runs for name, version in run.software.items()},
        started=runs[0].started,
        duration_s=sum(run.duration_s for run in runs),
        commit=", ".join(dict.fromkeys(run.commit for run in runs if run.commit)),
        compared=any(run.compared for run in runs),
        recorded=_all(run.recorded for run in runs),
        files=_all(run.files for run in runs),
        unused=_all(run.unused for run in runs),
        problems=_all(run.problems for run in runs),
        remarks=_all(run.remarks for run in runs),
        # Runs that compared with other commits have none in common.
        base=last.base if len({run.base for run in runs}) == 1 else "",
        base_commit=last.base_commit if len({run.base_commit for run in runs}) == 1 else "",
    )


def _all(parts: Iterable[Sequence[str]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(line for part in parts for line in part))
