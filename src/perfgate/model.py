"""What flows through the gate: frozen records that know no pytest, no torch and no files.

All figures are in base units (seconds, bytes, hertz, 1); :mod:`perfgate.units` alone turns them into text.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from perfgate.endings import FAILING, FAILING_STRICT, SEVERITY, Outcome, Verdict
from perfgate.machine import Device, DeviceKind, Hardware

__all__ = [
    "FAILING",
    "FAILING_STRICT",
    "METHOD_VERSION",
    "SEVERITY",
    "Baseline",
    "Better",
    "CaseResult",
    "Damage",
    "Device",
    "DeviceKind",
    "Hardware",
    "Limit",
    "Measurement",
    "Metric",
    "MetricVerdict",
    "Noise",
    "Outcome",
    "Reported",
    "Run",
    "StoredMetric",
    "Verdict",
    "Work",
]

Better = Literal["lower", "higher"]

#: Version of the measuring method. Raising it makes every stored baseline STALE.
METHOD_VERSION = "1"


@dataclass(frozen=True)
class Limit:
    """The change that is allowed: the larger of a share of the baseline and an absolute amount in the metric's unit."""

    relative: float = 0.0
    absolute: float = 0.0

    def of(self, baseline: float) -> float:
        """Give the allowed change in the metric's unit for this baseline value."""
        return max(self.relative * abs(baseline), self.absolute)


@dataclass(frozen=True)
class Noise:
    """What is known beforehand of a metric's standard deviation between processes.

    Five processes estimate a spread poorly, so the verdict leans the measured spread towards this one:
    the larger of a share of the value and an absolute amount. ``Noise()`` says the figure repeats exactly.
    """

    relative: float = 0.0
    absolute: float = 0.0

    def of(self, value: float) -> float:
        """Give the expected standard deviation in the metric's unit around this value."""
        return max(self.relative * abs(value), self.absolute)


@dataclass(frozen=True)
class Metric:
    """One figure of one case, measured in one process."""

    name: str
    unit: str
    value: float
    better: Better = "lower"
    limit: Limit = Limit()
    noise: Noise = Noise()
    #: Spread of the samples inside this process: (q3 - q1) / median. None for a figure without samples.
    spread: float | None = None
    samples: int = 1
    #: Speed of the machine around the samples, by name: ``{"sm_clock": 1.98e9}`` on a GPU, and in reference loops per
    #: second ``{"core": ..., "memory": ...}`` on a CPU and ``{"host": ...}`` of the CPU that launches work on a GPU.
    #: value * speed is the time in cycles.
    speeds: Mapping[str, float] = field(default_factory=dict)
    #: The value that need not be stored: a baseline without this metric had it. None where it is always stored.
    unless_stored: float | None = None
    #: What it counts, in words. Told of a regression, never stored.
    about: str = ""


@dataclass(frozen=True)
class Work:
    """What one call has to do at the least: bytes moved and floating-point operations."""

    bytes: float | None = None
    flops: float | None = None


@dataclass(frozen=True)
class Reported:
    """A figure of one case that is shown and never judged."""

    name: str
    unit: str
    value: float


@dataclass(frozen=True)
class Measurement:
    """Everything one process found out about one case."""

    case: str
    key: str
    outcome: Outcome = Outcome.PASSED
    #: Why the outcome is not "passed", in one line.
    reason: str = ""
    metrics: tuple[Metric, ...] = ()
    #: How it was measured: {"version": "1", "clock": "device", "launch": "graph", "cache": "cold", ...}.
    method: Mapping[str, str] = field(default_factory=dict)
    #: The software it depends on: driver, cuda or rocm, torch, triton, python.
    environment: Mapping[str, str] = field(default_factory=dict)
    #: What the machine did meanwhile: temperatures, throttle reasons, load. Shown, never compared.
    conditions: Mapping[str, Any] = field(default_factory=dict)
    work: Work | None = None
    #: Measured copy bandwidth of the device in bytes/s (read plus write), where the case states its bytes.
    copy_bandwidth: float | None = None
    #: Whether every process would find the same: one is enough to judge and to record.
    repeats: bool = False
    #: Figures of the compiled kernels that it launched, by name. Shown, never compared.
    kernels: Mapping[str, Mapping[str, float | str]] = field(default_factory=dict)
    #: What the timed call decided for itself (a tuned launch, say): see :mod:`perfgate.measure.notes`. Never compared.
    notes: Mapping[str, str] = field(default_factory=dict)
    #: Further figures of a test, whether it passed or not. Never compared.
    reported: tuple[Reported, ...] = ()
    #: Whole files of a test, whether it passed or not: text by file name.
    attached: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class StoredMetric:
    """One metric of a baseline: one value for each recorded process."""

    name: str
    unit: str
    better: Better
    values: tuple[float, ...]
    #: Median over the processes of the spread inside each.
    spread: float | None = None
    #: For each speed one value a process, in the order of ``values``.
    speeds: Mapping[str, tuple[float, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Baseline:
    """What is stored for one case on one hardware key."""

    case: str
    outcome: Outcome
    metrics: tuple[StoredMetric, ...]
    method: Mapping[str, str]
    environment: Mapping[str, str]
    commit: str
    date: str
    #: Figures of the compiled kernels that it launched, by name. Information: another figure changes no verdict.
    kernels: Mapping[str, Mapping[str, float | str]] = field(default_factory=dict)
    #: What the recorded processes noted, all of it. Information as well.
    notes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Damage:
    """One thing wrong in a baseline file. ``case`` is None when the whole file cannot be used."""

    file: str
    problem: str
    case: str | None = None
    field: str | None = None
    hint: str = ""

    def __str__(self) -> str:
        where = self.file
        if self.case is not None:
            where += f": {self.case}"
        if self.field is not None:
            where += f": {self.field}"
        return f"{where}: {self.problem}"


@dataclass(frozen=True)
class MetricVerdict:
    """The verdict on one metric, with the figures it rests on.

    ``change``, ``low`` and ``high`` are relative to the baseline (0.03 is 3 % more), or in the metric's unit when the
    baseline is 0 or negative (``relative`` is then False). ``low`` and ``high`` bound the change.
    """

    name: str
    unit: str
    value: float
    verdict: Verdict
    better: Better = "lower"
    baseline: float | None = None
    change: float | None = None
    low: float | None = None
    high: float | None = None
    #: The allowed change, in the same terms as ``change``.
    limit: float | None = None
    relative: bool = True
    reason: str = ""
    #: The smallest slow-down that this comparison could have shown, in the same terms as ``change``.
    detectable: float | None = None
    #: One value a process: those of this run, the screening one first, and those of the baseline.
    values: tuple[float, ...] = ()
    baseline_values: tuple[float, ...] = ()


@dataclass(frozen=True)
class CaseResult:
    """The finished story of one case in one run."""

    case: str
    key: str
    verdict: Verdict
    outcome: Outcome
    processes: int = 0
    reason: str = ""
    metrics: tuple[MetricVerdict, ...] = ()
    work: Work | None = None
    copy_bandwidth: float | None = None
    method: Mapping[str, str] = field(default_factory=dict)
    conditions: Mapping[str, Any] = field(default_factory=dict)
    #: Whether the verdict fails the test, given --perf-strict.
    failed: bool = False
    #: What the timed call decided for itself, in all processes.
    notes: Mapping[str, str] = field(default_factory=dict)
    #: Further figures of the first process. Never compared.
    reported: tuple[Reported, ...] = ()
    #: The software that it depends on, and what its baseline was recorded with.
    environment: Mapping[str, str] = field(default_factory=dict)
    baseline_environment: Mapping[str, str] = field(default_factory=dict)
    #: What the recorded processes noted, and the commit and the time they ran at.
    baseline_notes: Mapping[str, str] = field(default_factory=dict)
    baseline_commit: str = ""
    baseline_date: str = ""
    #: How the compiled kernels that it launched differ from those of its baseline, a line each.
    kernel_differences: tuple[str, ...] = ()
    #: Whole files of the first process: text by file name.
    attached: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Run:
    """One finished run, as the reports see it."""

    hardware: Hardware
    results: tuple[CaseResult, ...]
    software: Mapping[str, str]
    started: str
    duration_s: float
    commit: str = ""
    #: Whether the run compared with baselines (False: it only recorded).
    compared: bool = True
    #: Ids of cases written to baselines, and the files they went to.
    recorded: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    #: Baseline files whose test module is gone.
    unused: tuple[str, ...] = ()
    #: Problems that concern no single case of this run (a recording that could not be written, say).
    problems: tuple[str, ...] = ()
    #: What was typed to run it, without passwords.
    command: str = ""
    #: The ref that the working tree was compared with (--perf-ab), and its short commit; "" for stored baselines.
    base: str = ""
    base_commit: str = ""
    #: What the reader should know beside the verdicts. Fails nothing.
    remarks: tuple[str, ...] = ()
