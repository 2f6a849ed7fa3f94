"""Which results of one point are measurements of the same thing, and can stand together for its noise?

Those of the same software, commit, passes and facts. Results of before 22 November 2026 do not say their commit: how
schemes and graphs changed while they were measured on an H200 is written here. Imports nothing heavy.
"""

from __future__ import annotations

from collections.abc import Sequence

from perf_workloads.slidesparse.serving.origin import CHANGED
from perf_workloads.slidesparse.serving.results import Record

#: Results without a commit are known to be repeats on this device, until then.
_DEVICE, _LAST = "nvidia-h200", "2026-11-22T05"
#: Dense layers multiply as they do since then.
_DENSE_SINCE = "2026-11-21T16"
#: Between both runs of sparse products to bf16 their algorithms were searched, but for those of so many tokens or more.
_UNSEARCHED = 32768
#: Sums: passes of more tokens than this have had graphs since, and those of Qwen2.5-7B other algorithms.
_SUMS_UNCHANGED = 512


def last_repeats(records: Sequence[Record]) -> list[Record]:
    """Give the last success among the results of one point, after those directly before it that measured the same.

    Args:
        records: of one point, in the order in which they were written.
    """
    passed = [record for record in records if record.ok]
    found = passed[-1:]
    for record in reversed(passed[:-1]):
        if not repeats(record, found[0]):
            break
        found.insert(0, record)
    return found


def repeats(before: Record, after: Record) -> bool:
    """Whether a point was run again with nothing changed in between."""
    facts = {*before.facts, *after.facts, "epilogue"}
    if (
        before.environment != after.environment
        or before.figures.get("passes") != after.figures.get("passes")
        or any(before.fact(name) != after.fact(name) for name in facts)
    ):
        return False
    if before.commit or after.commit:
        # Two trees that have changes need not have the same.
        return before.commit == after.commit and not after.commit.endswith(CHANGED)
    return _unchanged(before, after)


def _unchanged(before: Record, after: Record) -> bool:
    """Whether nothing changed between results without a commit, by what changed at that time."""
    key = before.key
    if key.device != _DEVICE or after.when >= _LAST:
        return False
    if key.scheme == "int8-dense":
        return before.when > _DENSE_SINCE
    if key.scheme.endswith("-bf16"):
        return key.stage == "prefill" and key.tokens >= _UNSEARCHED
    if key.stage == "decode" or key.tokens <= _SUMS_UNCHANGED:
        return True
    return key.tokens >= _UNSEARCHED and key.model == "Llama3.2-1B"
