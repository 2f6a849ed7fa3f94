"""Which baselines do the cases of serving get from stored results, and which results are none, and why?

A baseline is what the case itself would measure: failures, and rates of other numbers of passes or other options of the
engine, are left out. Results that measured the same thing are its samples, one a process. Imports nothing heavy.
"""

from __future__ import annotations

import datetime
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from perf_workloads.slidesparse.serving import campaign, comparison, models, results, workloads
from perf_workloads.slidesparse.serving.repeats import last_repeats
from perf_workloads.slidesparse.serving.results import Key, Record
from perfgate.baseline import BaselineStore, to_baseline
from perfgate.errors import RunFileError
from perfgate.model import Baseline, Measurement, Metric

#: The module of the cases, below pytest's root.
MODULE = "perf_tests/slidesparse/test_serving"
#: A version of torch with the toolkit that it was built with, e.g. ``2.11.0+cu130``.
_BUILD = re.compile(r"(?P<torch>.+)\+cu(?P<major>\d+)(?P<minor>\d)")

Software = Mapping[str, str]


@dataclass(frozen=True)
class Found:
    """What results come to.

    Attributes:
        baselines: by case.
        left: cases without one, by reason.
        assumed: how many results do not say their software, which is taken from other baselines.
    """

    baselines: Mapping[str, Baseline]
    left: Mapping[str, Sequence[str]]
    assumed: int = 0


def case(key: Key) -> str:
    """Name the case of a point, as its module does."""
    return f"test_serving[{key.model}-{key.scheme}-{key.stage}-{key.tokens}]"


def of_device(path: Path, device: str) -> list[Record]:
    """Read the results of a device.

    Raises:
        RunFileError: there are none, or the file cannot be read.
    """
    records = results.read(path)
    again = f"perfgate-slidesparse serve --results {path}"
    if not records:
        raise RunFileError(f"{path}: no results, so there is nothing to make baselines of", hint=again)
    found = [record for record in records if record.key.device == device]
    if not found:
        others = ", ".join(sorted({record.key.device for record in records}))
        raise RunFileError(
            f"{path}: no results of {device}; it has those of {others}", hint="give --device, or " + again
        )
    return found


def software(store: BaselineStore, device: str) -> list[Software]:
    """List the software that the other baselines of a device were recorded with, each once.

    Raises:
        BaselineError: a folder cannot be read.
    """
    found: list[Software] = []
    for module in store.modules(device):
        if module == MODULE:
            continue
        for baseline in store.load(device, module).cases.values():
            if baseline.environment not in found:
                found.append(baseline.environment)
    return found


def make(records: Iterable[Record], known: Sequence[Software], stored: Mapping[str, Baseline]) -> Found:
    """Make the baselines of a device's points.

    Args:
        records: of one device, in the order in which they were written.
        known: software that baselines of the device were recorded with, for results that do not say theirs.
        stored: baselines that there are. One that is newer than a point's last result stays.

    Raises:
        BaselineError: results of one point contradict each other.
    """
    by_key: dict[Key, list[Record]] = defaultdict(list)
    for record in records:
        by_key[record.key].append(record)
    made: dict[str, Baseline] = {}
    left: dict[str, list[str]] = defaultdict(list)
    assumed = 0
    for key, stands in results.standing(record for each in by_key.values() for record in each).items():
        name = case(key)
        environment = _environment(stands, known)
        reason = _not_measured_as_case(stands)
        if not reason and not environment:
            reason = _unknown_software(stands, known)
        if not reason and name in stored and _newer(stored[name].date, stands.when):
            reason = "their baselines are newer"
        if reason:
            left[reason].append(name)
            continue
        assumed += not stands.environment
        measurements = [_measurement(name, record, environment) for record in last_repeats(by_key[key])]
        made[name] = to_baseline(measurements, commit=stands.commit, date=stands.when)
    return Found(made, left, assumed)


def _not_measured_as_case(record: Record) -> str:
    """Say why a result is not what its case would measure; "" if it is."""
    key, figures, settings = record.key, record.figures, campaign.CASES
    if key.model not in models.PUBLISHED or key.scheme not in models.IN_CASES or key.point not in workloads.POINTS:
        return "there is no such case"
    if not record.ok:
        return f"{record.outcome.value.replace('_', ' ')}: {record.cause}"
    wanted = settings.passes_of(key.point) if key.stage == "prefill" else settings.new_tokens
    if figures.get("passes") != wanted:
        how = f"--most-tokens {settings.most_tokens}" if key.stage == "prefill" else f"--new-tokens {wanted}"
        return f"{figures.get('passes', 0):g} passes, where the case has {wanted}: serve --again {how}"
    if record.fact("options"):
        return f"run with other options than the case: {record.fact('options')}"
    if record.fact("graph_mode") == "NONE":
        return "run without graphs, which the case has: serve --again without --eager"
    return ""


def _environment(record: Record, known: Sequence[Software]) -> Software:
    """Give the software of a result: its own, or the one that baselines of its device with the same torch share."""
    if record.environment:
        return record.environment
    build = _BUILD.fullmatch(record.fact("torch"))
    if build is None:
        return {}
    wanted = {"torch": build["torch"], "cuda": f"{build['major']}.{build['minor']}"}
    fitting = [each for each in known if wanted.items() <= each.items()]
    return fitting[0] if len(fitting) == 1 else {}


def _unknown_software(record: Record, known: Sequence[Software]) -> str:
    others = f"{len(known)} kinds of software" if known else "none"
    return (
        f"results do not say which driver and triton they ran with, and other baselines of {record.key.device} with "
        f"torch {record.fact('torch')} do not agree on it ({others}): serve --again stores it"
    )


def _measurement(name: str, record: Record, environment: Software) -> Measurement:
    """Give a result as the process that measured it would have, had it been a case."""
    rate = comparison.rate(record)
    assert rate is not None
    judged = Metric(f"{comparison.judged(record.key.stage)}_rate", comparison.UNIT, rate, "higher")
    return Measurement(name, record.key.device, metrics=(judged,), environment=environment, notes=record.facts)


def _newer(date: str, when: str) -> bool:
    """Whether a baseline is newer than a result; one whose date cannot be read is not."""
    try:
        return datetime.datetime.fromisoformat(date) > datetime.datetime.fromisoformat(when)
    except (ValueError, TypeError):
        return False
