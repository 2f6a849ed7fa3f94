"""How do two states of the stored baselines differ? Case by case, the largest change first."""

from __future__ import annotations

import io
import math
import statistics
import subprocess
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from perfgate.baseline.store import BaselineStore
from perfgate.errors import SettingError
from perfgate.model import Baseline, Outcome, StoredMetric
from perfgate.outcomes import words

#: Hardware key and node id.
Place = tuple[str, str]


@dataclass(frozen=True)
class Difference:
    """One metric of one case that is not what it was; without a metric, the case itself.

    Args:
        key: the hardware key.
        case: the node id.
        what: "new", "gone", "outcome" or "changed".
        metric: name of the metric; "" where all of the case is meant.
        unit: the metric's unit.
        before: median over the processes; None where there was none.
        after: median over the processes; None where there is none.
        spread: the range of the new values over their median.
        note: outcomes, in words.
    """

    key: str
    case: str
    what: str
    metric: str = ""
    unit: str = ""
    before: float | None = None
    after: float | None = None
    spread: float | None = None
    note: str = ""

    @property
    def size(self) -> float:
        """Say how large the change is; what was nothing, or is no longer there, has no share and is the largest."""
        if self.what != "changed":
            return 0.0
        return math.inf if self.change is None else abs(self.change)

    @property
    def change(self) -> float | None:
        """Give the change as a share of what was there before."""
        if self.before is None or self.after is None or self.before == 0:
            return None
        return self.after / self.before - 1


@dataclass(frozen=True)
class Comparison:
    """What two states of the baselines have in common, and what not."""

    differences: tuple[Difference, ...]
    #: Cases of both states, and those of them with other figures or another outcome.
    common: int
    changed: int
    #: By hardware key what the recorded cases depend on and what of it is another now: "torch 2.11.0 -> 2.13.0".
    software: Mapping[str, tuple[str, ...]]


def load(root: Path) -> tuple[dict[Place, Baseline], list[str]]:
    """Read all baselines below a folder; what is damaged is told beside them.

    Raises:
        BaselineError: a folder cannot be read.
    """
    store = BaselineStore(root)
    found: dict[Place, Baseline] = {}
    damages: list[str] = []
    for file in store.files():
        loaded = store.load(file.key, file.module)
        damages += map(str, loaded.damages)
        found |= {(file.key, f"{file.module}.py::{name}"): baseline for name, baseline in loaded.cases.items()}
    return found, damages


def compare(old: Mapping[Place, Baseline], new: Mapping[Place, Baseline]) -> Comparison:
    """Compare two states: what is gone and what ended otherwise first, then what changed, then what is new.

    The case with the largest change comes first, its metrics together, the largest change of them first.
    """
    common = sorted(old.keys() & new.keys())
    found: list[Difference] = []
    changed = 0
    software: dict[str, dict[str, None]] = {}
    for place in common:
        own = list(_differences(place, old[place], new[place]))
        changed += bool(own)
        found += own
        software.setdefault(place[0], {}).update(dict.fromkeys(_other_software(old[place], new[place])))
    found += (Difference(*place, "gone", note=_words(old[place])) for place in sorted(old.keys() - new.keys()))
    found += (Difference(*place, "new", note=_words(new[place])) for place in sorted(new.keys() - old.keys()))
    order = ("gone", "outcome", "changed", "new")
    largest: dict[Place, float] = {}
    for each in found:
        largest[each.key, each.case] = max(each.size, largest.get((each.key, each.case), 0.0))

    def rank(each: Difference) -> tuple[int, float, Place, float]:
        place = (each.key, each.case)
        return order.index(each.what), -largest[place], place, -each.size

    found.sort(key=rank)
    told = {key: tuple(lines) for key, lines in software.items() if lines}
    return Comparison(tuple(found), len(common), changed, told)


def at_commit(ref: str, folder: Path, into: Path) -> Path:
    """Write the baselines as a commit has them to a folder, and give that; it is empty where the commit has none.

    Args:
        ref: a commit.
        folder: the folder of the baselines in the working tree.
        into: an empty folder.

    Raises:
        SettingError: there is no such commit, or the folder is in no repository.
    """
    root = _git(folder, ref, "rev-parse", "--show-toplevel").decode().rstrip("\n")
    path = folder.resolve().relative_to(Path(root).resolve()).as_posix()
    _git(folder, ref, "rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}")
    if _git(Path(root), ref, "ls-tree", "-d", ref, "--", path):
        with tarfile.open(fileobj=io.BytesIO(_git(Path(root), ref, "archive", ref, "--", path))) as archive:
            archive.extractall(into, filter="data")
    return into / path


def _git(folder: Path, ref: str, *arguments: str) -> bytes:
    where = next(parent for parent in (folder, *folder.parents) if parent.is_dir())
    try:
        return subprocess.run(["git", *arguments], cwd=where, capture_output=True, check=True).stdout
    except FileNotFoundError:
        raise SettingError("git is not installed", hint="give two folders to compare") from None
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode(errors="replace").strip().partition("\n")[0] or f"there is no commit {ref!r}"
        raise SettingError(
            f"the baselines of {ref!r} cannot be read: {said}",
            "What to compare with is a folder of baselines, or a commit of the repository they are in.",
            "perfgate diff origin/main",
        ) from error


def _differences(place: Place, old: Baseline, new: Baseline) -> Iterator[Difference]:
    if old.outcome is not new.outcome:
        yield Difference(*place, "outcome", note=f"{words(old.outcome)} -> {words(new.outcome)}")
        return
    before = {metric.name: metric for metric in old.metrics}
    after = {metric.name: metric for metric in new.metrics}
    for name in dict.fromkeys([*before, *after]):
        was, now = before.get(name), after.get(name)
        known = now or was
        assert known is not None
        values = (_median(was), _median(now))
        if values[0] != values[1]:
            yield Difference(*place, "changed", name, known.unit, *values, _spread(now))


def _other_software(old: Baseline, new: Baseline) -> Iterator[str]:
    for name in sorted(old.environment.keys() | new.environment.keys()):
        before, after = (each.environment.get(name, "none") for each in (old, new))
        if before != after:
            yield f"{name} {before} -> {after}"


def _words(baseline: Baseline) -> str:
    return "" if baseline.outcome is Outcome.PASSED else words(baseline.outcome)


def _median(metric: StoredMetric | None) -> float | None:
    return None if metric is None else statistics.median(metric.values)


def _spread(metric: StoredMetric | None) -> float | None:
    if metric is None or not (middle := statistics.median(metric.values)):
        return None
    return (max(metric.values) - min(metric.values)) / abs(middle)
