"""Which figures have others published of the same thing? Files ``published.csv`` beside the cases.

A row names cases by a pattern (their id from that folder on; ``*`` stands for anything), one of their metrics or
reported figures, or ``outcome``, and what was published: value, unit, hardware and source. A further column,
``absent``, may say why there is none of ours; a row without a metric has to.
"""

from __future__ import annotations

import csv
import functools
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from perfgate.model import CaseResult, Outcome
from perfgate.report.words import broke, module
from perfgate.units import parse_quantity

FILE = "published.csv"
COLUMNS = ("case", "metric", "value", "unit", "hardware", "source")
#: May be there: why there is none of ours.
ABSENT = "absent"


@dataclass(frozen=True)
class Published:
    """One published figure.

    Args:
        folder: of the file, from the root; "" for the root itself.
        case: pattern of ids from that folder on.
        metric: name of a metric or of a reported figure, or ``outcome``; "" where no case gives it.
        value: in the base unit; None where a word was published.
        text: value and unit as they were published.
        unit: base unit.
        hardware: what it was measured on.
        source: where it was published.
        absent: why there is none of ours, where that is known beforehand.
    """

    folder: str
    case: str
    metric: str
    value: float | None
    text: str
    unit: str
    hardware: str
    source: str
    absent: str = ""

    def is_of(self, case: str) -> bool:
        """Tell whether it is a figure of this case."""
        inner = case.removeprefix(f"{self.folder}/") if self.folder else case
        return _compiled(self.case).fullmatch(inner) is not None


@dataclass(frozen=True)
class Beside:
    """A published figure and ours of one case; ``ratio`` is ours divided by theirs."""

    published: Published
    case: str
    key: str
    ours: float | None
    unit: str
    word: str = ""

    @property
    def ratio(self) -> float | None:
        """Give ours as a multiple of theirs, where both are figures of one unit."""
        theirs = self.published.value
        if self.ours is None or not theirs or self.unit != self.published.unit or not math.isfinite(self.ours):
            return None
        return self.ours / theirs


def folders(results: Iterable[CaseResult]) -> list[str]:
    """Give the folders of cases, in their order; "" is the root."""
    parents = (PurePosixPath(module(result.case)).parent.as_posix() for result in results)
    return list(dict.fromkeys("" if parent == "." else parent for parent in parents))


def load(root: Path, names: Iterable[str]) -> tuple[list[Published], list[str]]:
    """Read the published figures of some folders.

    Args:
        root: pytest's root folder.
        names: folders under it.

    Returns:
        The figures, and what is wrong with the files, a line each.
    """
    found: list[Published] = []
    problems: list[str] = []
    for folder in names:
        place = f"{folder}/{FILE}" if folder else FILE
        if ".." in PurePosixPath(folder).parts or PurePosixPath(folder).is_absolute():
            continue
        try:
            text = (root / place).read_text(encoding="utf-8")
        except (FileNotFoundError, NotADirectoryError, ValueError) as error:
            if isinstance(error, UnicodeDecodeError):
                problems.append(f"{place}: it is not text in UTF-8")
            continue
        except OSError as error:
            problems.append(f"{place}: cannot read the published figures: {error.strerror}")
            continue
        for row in _rows(text, folder, place):
            if isinstance(row, str):
                problems.append(row)
            else:
                found.append(row)
    return found, problems


def is_source(path: Path) -> bool:
    """Tell whether a file holds published figures, so that nothing else may be written there."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            header = next(csv.reader(file), [])
    except (OSError, UnicodeDecodeError, csv.Error):
        return False
    return set(COLUMNS) <= {name.strip() for name in header}


def beside(published: Sequence[Published], results: Sequence[CaseResult]) -> list[Beside]:
    """Put ours beside each published figure, one for each case and machine; what has no case here is left out."""
    return [row for each in published for result in results if each.is_of(result.case) for row in _ours(each, result)]


def _rows(text: str, folder: str, place: str) -> Iterator[Published | str]:
    reader = csv.DictReader(text.splitlines())
    missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
    if missing:
        yield f"{place}: the columns {', '.join(missing)} are missing"
        return
    for row in reader:
        where = f"{place}, line {reader.line_num}"
        if any(row[name] is None for name in COLUMNS):
            yield f"{where}: it has fewer columns than the first line"
            continue
        case, metric, value, unit, hardware, source = (row[name].strip() for name in COLUMNS)
        absent = (row.get(ABSENT) or "").strip()
        if not metric and not absent:
            yield f"{where}: it names no metric, and does not say why there is none"
            continue
        shown = f"{value} {unit}".strip()
        if metric == "outcome":
            yield Published(folder, case, metric, None, shown, "", hardware, source, absent)
            continue
        try:
            figure, base = parse_quantity(shown)
        except ValueError:
            yield f"{where}: {value!r} is not a number"
            continue
        if base == "%":
            figure, base = figure / 100, "1"
        yield Published(folder, case, metric, figure, shown, base or "1", hardware, source, absent)


def _ours(published: Published, result: CaseResult) -> Iterator[Beside]:
    if published.metric == "outcome":
        # A case that was left out says nothing of how it would have ended.
        if result.outcome is Outcome.SKIPPED:
            return
        yield Beside(published, result.case, result.key, None, "", result.outcome.value.replace("_", " "))
        return
    metric = next((each for each in result.metrics if each.name == published.metric), None)
    figure = metric or next((each for each in result.reported if each.name == published.metric), None)
    if figure is not None and not broke(result):
        yield Beside(published, result.case, result.key, figure.value, figure.unit or "1")


@functools.cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(".*".join(map(re.escape, pattern.split("*"))), re.DOTALL)
