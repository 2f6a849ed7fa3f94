"""What flows through the gate: frozen records that know no pytest, no torch and no files.

All figures are in base units (seconds, bytes, hertz, 1); :mod:`perfgate.units` alone turns them into text.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Better = Literal["lower", "higher"]
DeviceKind = Literal["cuda", "rocm", "cpu"]

#: Version of the measuring method. Raising it makes every stored baseline STALE.
METHOD_VERSION = "1"


class Verdict(enum.StrEnum):
    """The verdict on one case or one metric, spelled as it is in files."""

    UNCHANGED = "unchanged"
    IMPROVED = "improved"
    REGRESSED = "regressed"
    INCONCLUSIVE = "inconclusive"
    THROTTLED = "throttled"
    NEW = "new"
    STALE = "stale"
    OUTCOME_CHANGED = "outcome_changed"
    REMOVED = "removed"
    CORRUPT = "corrupt"
    SKIPPED = "skipped"


class Outcome(enum.StrEnum):
    """How the run of one case ended. Everything but PASSED and SKIPPED fails its test."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"
    OUT_OF_MEMORY = "out_of_memory"
    ILLEGAL_ACCESS = "illegal_access"
    COMPILE_ERROR = "compile_error"
    #: The code under test refuses this device, and says so.
    UNSUPPORTED = "unsupported"
    CRASHED = "crashed"
    TIMED_OUT = "timed_out"


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
    #: Speed of the machine around the samples, by name: ``{"sm_clock": 1.98e9}`` on a GPU,
    #: ``{"core": ..., "memory": ...}`` (reference loops per second) on a CPU. value * speed is the time in cycles.
    speeds: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Work:
    """What one call has to do at the least: bytes moved and floating-point operations."""

    bytes: float | None = None
    flops: float | None = None


@dataclass(frozen=True)
class Device:
    """One place a case can run on, and the key of its baselines."""

    kind: DeviceKind
    name: str
    key: str
    memory_bytes: int = 0
    #: CUDA compute capability, e.g. (9, 0).
    capability: tuple[int, int] | None = None
    #: AMD architecture, e.g. "gfx942".
    arch: str | None = None
    power_limit_w: float | None = None
    #: MIG profile, e.g. "1g.18gb".
    mig: str | None = None
    #: How many devices of this kind the process sees; for a CPU how many logical processors it may use.
    count: int = 1


@dataclass(frozen=True)
class Hardware:
    """The machine: its devices (accelerators before the CPU) and, by kind, the software a measurement depends on."""

    devices: tuple[Device, ...]
    #: e.g. {"cuda": {"driver": "580.1", "cuda": "13.0", "torch": "2.11.0", "python": "3.12.3"}, "cpu": {...}}
    environments: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def find(self, kind: str) -> Device | None:
        """Give the first device of a kind, or None."""
        return next((device for device in self.devices if device.kind == kind), None)

    @property
    def accelerator(self) -> Device | None:
        """Give the first device that is not a CPU, or None."""
        return next((device for device in self.devices if device.kind != "cpu"), None)

    @property
    def cpu(self) -> Device:
        """Give the CPU. Every machine has one."""
        return next(device for device in self.devices if device.kind == "cpu")


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


#: The order in which a case's verdict is taken from its metrics: the first word that any of them carries.
SEVERITY: tuple[Verdict, ...] = (
    Verdict.CORRUPT,
    Verdict.OUTCOME_CHANGED,
    Verdict.REGRESSED,
    Verdict.STALE,
    Verdict.THROTTLED,
    Verdict.INCONCLUSIVE,
    Verdict.REMOVED,
    Verdict.NEW,
    Verdict.IMPROVED,
    Verdict.UNCHANGED,
    Verdict.SKIPPED,
)

#: Verdicts that always fail their test, and those that do under --perf-strict only.
FAILING = frozenset({Verdict.REGRESSED, Verdict.OUTCOME_CHANGED, Verdict.CORRUPT})
FAILING_STRICT = FAILING | {Verdict.NEW, Verdict.STALE, Verdict.INCONCLUSIVE, Verdict.THROTTLED, Verdict.REMOVED}
