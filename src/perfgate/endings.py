"""Which verdicts and outcomes are there, and which of them fail a test?"""

from __future__ import annotations

import enum


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
