"""What is known after a calibration? Records of a case, of the whole suite, and of other tools' rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from perfgate.calibrate.intervals import Rate
from perfgate.calibrate.steps import share_of
from perfgate.options import DEFAULT_PROCESSES, RECORDED_PROCESSES


@dataclass(frozen=True)
class Power:
    """How often a step is found.

    Attributes:
        own: with the case's own limit.
        half: with a limit of half the step; None for memory.
        achieved: how much the extra work really added, the median over the processes, as a share of the unchanged
            figure of the same process; on a CPU in reference loops. Not a number where that figure is 0.
    """

    own: Rate
    half: Rate | None
    achieved: float


@dataclass(frozen=True)
class CaseFigures:
    """What is known of one case.

    Attributes:
        case: node id.
        clock: "device", "wall" or "pedantic"; of a CPU always "cpu".
        time: median of the first time of the case, in seconds; None without one.
        spread: standard deviation of that between processes, as a share.
        cycles: the same in cycles of the machine, where its speed is known.
        clock_spread: standard deviation of the SM clock between processes.
        limit: the allowed share.
        detectable: the smallest slow-down that a whole confirmation of unchanged code could have shown.
        alarms: comparisons of unchanged code that fail.
        undecided: those that end INCONCLUSIVE or THROTTLED.
        power: by step.
        half_alarms: by step, comparisons of unchanged code that fail with a limit of half the step.
        advice: what would help where it is too noisy for its limit; "" where it is not.
    """

    case: str
    clock: str
    time: float | None
    spread: float
    cycles: float | None
    clock_spread: float
    limit: float
    detectable: float | None
    alarms: Rate
    undecided: Rate
    power: Mapping[str, Power] = field(default_factory=dict)
    half_alarms: Mapping[str, Rate] = field(default_factory=dict)
    advice: str = ""


@dataclass(frozen=True)
class RivalFigures:
    """How another tool's rule does: wrong on unchanged code by comparison and by run, and power by step."""

    alarms: Rate
    runs: Rate
    power: Mapping[str, Rate]


@dataclass(frozen=True)
class PairPower:
    """How often a step is found in pairs.

    Attributes:
        own: with the limit that a run in pairs has.
        half: with a limit of half the step; None for memory.
        half_alarms: comparisons of unchanged code that fail with that limit.
        pairs: that a comparison could take.
        achieved: the change that the gate reports of the metric with the step, the median over the comparisons with
            the limit of such a run, as a share of the base's. Not a number where the base's is 0.
        crossed: whether a comparison took pairs on more than one device.
    """

    own: Rate
    half: Rate | None
    half_alarms: Rate | None
    pairs: int
    achieved: float
    crossed: bool


@dataclass(frozen=True)
class PairFigures:
    """What is known of one case in pairs.

    Attributes:
        case: node id.
        alarms: comparisons of unchanged code that fail.
        undecided: those that end INCONCLUSIVE or THROTTLED.
        taken: pairs that a comparison of unchanged code took, the mean; not a number where none was made.
        power: by step.
    """

    case: str
    alarms: Rate
    undecided: Rate
    taken: float
    power: Mapping[str, PairPower] = field(default_factory=dict)


@dataclass(frozen=True)
class InPairs:
    """Everything about ``--perf-ab`` on one pool.

    Attributes:
        cases: in the order of the suite's.
        alarms: comparisons of unchanged code that fail, over all cases.
        runs: runs of the whole suite with any of them.
        verdicts: how many comparisons of unchanged code ended how.
        pairs: that a comparison of unchanged code could take.
        taken: pairs that a run of the suite took, the mean.
        crossed: whether a comparison of unchanged code took pairs on more than one device.
    """

    cases: tuple[PairFigures, ...]
    alarms: Rate
    runs: Rate
    verdicts: Mapping[str, int]
    pairs: int
    taken: float
    crossed: bool


@dataclass(frozen=True)
class Suite:
    """Everything about one pool.

    Attributes:
        key: the hardware key.
        processes: in the pool.
        commits: that they measured.
        devices: GPUs that they ran on, as ``--devices`` named them.
        cases: by case.
        alarms: comparisons of unchanged code that fail, over all cases.
        runs: runs of the whole suite with any of them.
        shuffled: the same on processes in random order.
        across: the same with baseline and run on different GPUs; None where there was one.
        verdicts: how many comparisons of unchanged code ended how.
        confirmed: fresh processes that one run of the suite takes beside its own, the mean.
        rivals: by the name of the rule.
        limit: what replaced the cases' limits; None for their own.
        total: processes that were to confirm a suspicion; pairs, where base and head run in turn.
        in_pairs: the same for base and head in turn; None where the pool holds no two neighbours in time.
    """

    key: str
    processes: int
    commits: tuple[str, ...]
    devices: tuple[str, ...]
    cases: tuple[CaseFigures, ...]
    alarms: Rate
    runs: Rate
    shuffled: Rate
    across: Rate | None
    verdicts: Mapping[str, int]
    confirmed: float
    rivals: Mapping[str, RivalFigures]
    limit: float | None = None
    total: int = DEFAULT_PROCESSES
    in_pairs: InPairs | None = None

    @property
    def few(self) -> int | None:
        """Give how many processes a confirmation had, where the pool had not all that it takes."""
        had = self.processes - RECORDED_PROCESSES
        return had if had < self.total else None

    @property
    def few_pairs(self) -> tuple[int, int] | None:
        """Give the fewest and the most pairs that comparisons had, where the pool had not all that they take."""
        return None if self.in_pairs is None else self._fewer([self.in_pairs.pairs, *self._pairs(memory=False)])

    @property
    def few_memory_pairs(self) -> tuple[int, int] | None:
        """Give the same of comparisons with more memory in the head."""
        return self._fewer(self._pairs(memory=True))

    def _pairs(self, *, memory: bool) -> list[int]:
        """Give the pairs that comparisons with a step could take, those of memory or those of time."""
        cases = self.in_pairs.cases if self.in_pairs is not None else ()
        steps = [(step, power.pairs) for case in cases for step, power in case.power.items()]
        return [pairs for step, pairs in steps if (share_of(step) is None) == memory]

    def _fewer(self, had: Sequence[int]) -> tuple[int, int] | None:
        return (min(had), max(had)) if had and min(had) < self.total else None
