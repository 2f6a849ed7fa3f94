"""What does a test state of its case, beside what is measured? Work, further figures, notes, and where it is."""

from __future__ import annotations

import math
import re
from typing import Any

from perfgate.errors import SettingError
from perfgate.model import Better, Metric, Noise, Reported, Work
from perfgate.progress import Progress
from perfgate.units import parse_limit

_OWN_NAMES = ("device_time", "wall_time", "memory")
#: A name of a file, and nothing of a path.
_FILE_NAME = re.compile(r"\w[\w.-]{0,99}", re.ASCII)
#: Bytes of all attached files of a case: they stand in the run's file and on its page.
_LARGEST = 4_000_000


class Statements:
    """The part of ``benchmark`` by which a test states something.

    Args:
        case: name of the case.
        progress: shows that the test goes on.
    """

    #: What pytest-benchmark shows and stores beside its own figures.
    extra_info: dict[str, Any]

    def __init__(self, case: str, progress: Progress) -> None:
        self.stated_work: Work | None = None
        self.recorded: list[Metric] = []
        self.reported: list[Reported] = []
        self.attached: dict[str, str] = {}
        self._case = case
        self._progress = progress
        self._noted: dict[str, set[str]] = {}

    @property
    def notes(self) -> dict[str, str]:
        """What the measured call, and the test around it, noted."""
        from perfgate.measure import notes

        return notes.texts(self._noted)

    def work(self, *, bytes: float | None = None, flops: float | None = None) -> None:
        """State what one call has to do at the least, for throughput and share of the copy bandwidth.

        Args:
            bytes: bytes read plus bytes written by one call.
            flops: floating-point operations of one call.
        """
        for name, value in (("bytes", bytes), ("flops", flops)):
            if value is not None and not (math.isfinite(value) and value > 0):
                raise SettingError(
                    f"{self._case}: benchmark.work({name}={value!r}): not a positive number",
                    hint="state the work of one call, or leave it out",
                )
        self.stated_work = Work(bytes, flops)

    def record(
        self,
        name: str,
        value: float,
        *,
        unit: str = "1",
        better: Better = "lower",
        limit: str = "5%",
        noise: str = "0",
    ) -> None:
        """Put any figure of this case under the gate, beside its time and memory.

        A duration or a rate ("s", "tokens/s") of a case that is timed on the wall clock is judged with the speed of the
        machine as its wall time is. On a GPU only where it is stated to scatter as launches do, by 5 % and more: what
        waits for the device alone is not excused by a slower host.

        Args:
            name: what it is, e.g. "time_to_first_token".
            value: the figure of this process.
            unit: base unit: "s", "B", "1", "tokens/s", ...
            better: "lower" or "higher".
            limit: allowed change for the worse: "10%", "0.3us", "2% or 0.25us".
            noise: expected standard deviation between processes; "0" for a figure that repeats exactly.
        """
        where = f"{self._case}: benchmark.record({name!r})"
        number = self._figure(where, name, value)
        if better not in ("lower", "higher"):
            raise SettingError(f"{where}: better={better!r} is neither 'lower' nor 'higher'")
        try:
            allowed, expected = parse_limit(limit, unit), parse_limit(noise, unit)
        except SettingError as error:
            raise SettingError(f"{where}: {error.what}", error.why, error.hint) from None
        self.extra_info[name] = number
        self.recorded.append(Metric(name, unit, number, better, allowed, Noise(expected.relative, expected.absolute)))

    def report(self, name: str, value: float, *, unit: str = "1") -> None:
        """Show a figure of this case and keep it in the run's file, without judging it.

        Args:
            name: what it is, e.g. "load_time".
            value: the figure of this process.
            unit: base unit: "s", "B", "1", "tokens/s", ...
        """
        number = self._figure(f"{self._case}: benchmark.report({name!r})", name, value)
        self.extra_info[name] = number
        self.reported.append(Reported(name, unit, number))

    def note(self, name: str, text: str) -> None:
        """Note which way this case went, e.g. ("sdpa_backend", "flash"): a possible cause when its figures change."""
        self._noted.setdefault(name, set()).add(text)

    def attach(self, name: str, text: str) -> None:
        """Keep a whole file of this case in the run's file, and on the run's page to be saved from there.

        Args:
            name: of the file, e.g. "report.md".
            text: what stands in it. All files of a case take at most 4,000,000 bytes in UTF-8.
        """
        where = f"{self._case}: benchmark.attach({name!r})"
        if not isinstance(name, str) or not isinstance(text, str):
            raise SettingError(
                f"{where}: name and content of a file are text", hint="decode bytes before: data.decode()"
            )
        if not _FILE_NAME.fullmatch(name) or name in self.attached:
            raise SettingError(
                f"{where}: this name cannot be used",
                hint="a new name of letters, digits, '_', '-' and '.', such as report.md",
            )
        # What UTF-8 cannot say would end the run when it is written.
        encoded = text.encode("utf-8", "replace")
        size = len(encoded) + sum(len(other.encode()) for other in self.attached.values())
        if size > _LARGEST:
            raise SettingError(
                f"{where}: the files of this case would take {size} bytes",
                "They would stand in the run's file and on its page.",
                f"at most {_LARGEST} bytes: write it to a file of your own, and report what matters in it",
            )
        self.attached[name] = encoded.decode()

    def progress(self, text: str, *, at_once: bool = False) -> None:
        """Show where a long test is. What follows the last line shown within a few seconds is not shown.

        Args:
            text: where it is.
            at_once: something begins that takes long and shows nothing itself, as compiling does: show the line in any
                case. Otherwise it would be missing just where it is told in the first seconds of a test.
        """
        self._progress.show(f"perfgate: {self._case}: {text}", at_once=at_once)

    def _figure(self, where: str, name: str, value: float) -> float:
        """Check the name and the value of a further figure."""
        taken = {*_OWN_NAMES, *(each.name for each in self.recorded), *(each.name for each in self.reported)}
        if not name.isidentifier() or name in taken:
            raise SettingError(
                f"{where}: this name cannot be used", hint=f"a new identifier, none of {', '.join(_OWN_NAMES)}"
            )
        number = float(value)
        if not math.isfinite(number):
            raise SettingError(
                f"{where}: the value is {number}",
                "A figure that is not a number cannot be compared, and would pass unnoticed.",
                "find out where it comes from, or leave it out for this case",
            )
        return number
