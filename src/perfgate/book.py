"""What did the whole run find out? Collects results from all processes, and writes baselines and files once.

Lives in the only process of a run, or in the controller of pytest-xdist.
"""

from __future__ import annotations

import datetime
import os
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from perfgate.ab.git import Base
from perfgate.baseline.record import to_baseline
from perfgate.baseline.store import BaselineStore, LoadedFile
from perfgate.errors import BaselineError
from perfgate.gate import Log
from perfgate.model import Baseline, CaseResult, Damage, Hardware, Measurement, Outcome, Run, Verdict
from perfgate.options import Settings
from perfgate.replicate.wire import measurement_from_json, result_from_json
from perfgate.report import outputs
from perfgate.static.targets import KEY_PREFIX, PLACEHOLDER, TARGETS
from perfgate.verdict import causes
from perfgate.verdict.case import fails, judge


def split(case: str) -> tuple[str, str]:
    """Split a node id into the path of its module and the case's name inside it."""
    module, _, name = case.partition("::")
    return module, name


def grouped(problems: Iterable[str]) -> list[str]:
    """Give each problem once: of those that begin with the same line the first one, and how many there were.

    What follows that line is what a process printed or an exception added: it differs by its durations and addresses.
    """
    groups: dict[str, list[str]] = {}
    for problem in problems:
        groups.setdefault(problem.partition("\n")[0], []).append(problem)
    return [
        group[0] if len(group) == 1 else f"{head} ({len(group)} times, shown once){group[0][len(head) :]}"
        for head, group in groups.items()
    ]


class Shelf:
    """The stored baselines as this run reads them: each file once.

    Args:
        store: where they are.
    """

    def __init__(self, store: BaselineStore) -> None:
        self.store = store
        self._files: dict[tuple[str, str], LoadedFile] = {}

    def file(self, key: str, module: str) -> LoadedFile:
        """Read the baselines of one module."""
        if (key, module) not in self._files:
            try:
                self._files[key, module] = self.store.load(key, module)
            except BaselineError as error:
                # A module that no baseline file can be named after: its cases are CORRUPT. pytest gives no name to one
                # outside its rootdir.
                damage = Damage(module or "a test outside pytest's rootdir", error.what, hint=error.hint)
                self._files[key, module] = LoadedFile(self.store.root, False, {}, (damage,))
        return self._files[key, module]

    def baseline(self, key: str, case: str) -> Baseline | None:
        """Give the baseline of a case, or None."""
        module, name = split(case)
        return self.file(key, module).cases.get(name)

    def outcome(self, key: str, case: str) -> Outcome | None:
        """Give the outcome stored for a case; a damaged entry counts as stored."""
        module, name = split(case)
        file = self.file(key, module)
        if name in file.cases:
            return file.cases[name].outcome
        return Outcome.FAILED if file.damage_of(name) else None

    def judge(
        self, measurements: Sequence[Measurement], *, last: bool, only: frozenset[str] | None = None
    ) -> CaseResult:
        """Judge a case; a baseline that cannot be used is CORRUPT, not absent."""
        first = measurements[0]
        module, name = split(first.case)
        damages = self.file(first.key, module).damage_of(name)
        baseline = self.baseline(first.key, first.case)
        result = causes.explained(judge(baseline, measurements, last=last, only=only), baseline, measurements)
        if first.repeats:
            from perfgate.static import words

            result = words.explained(result, baseline, first)
        elif baseline is not None and result.verdict is not Verdict.UNCHANGED:
            from perfgate.static import launched

            lines = launched.compared(baseline.kernels, first.kernels)
            told = [result.reason, *lines] if result.verdict is Verdict.REGRESSED else [result.reason]
            result = replace(result, reason="\n".join(told), kernel_differences=tuple(lines))
        if damages and first.outcome is not Outcome.SKIPPED:
            reason = "; ".join(str(damage) for damage in damages)
            hints = "; ".join(dict.fromkeys(damage.hint for damage in damages if damage.hint))
            result = replace(result, verdict=Verdict.CORRUPT, reason=f"{reason}\nhint: {hints}" if hints else reason)
        return result


class Book:
    """The results of a run, and what becomes of them.

    Args:
        settings: what the user asked for.
        hardware: the machine.
        shelf: the stored baselines.
        root: pytest's root folder.
        began: when the run began, in seconds since the epoch.
        command: what was typed to run it.
    """

    def __init__(
        self, settings: Settings, hardware: Hardware, shelf: Shelf, root: Path, began: float, command: str = ""
    ) -> None:
        self.settings = settings
        self.hardware = hardware
        self.shelf = shelf
        self.root = root
        self.results: dict[str, CaseResult] = {}
        self.run: Run | None = None
        #: The commit that the run compares with instead of stored baselines.
        self.base: Base | None = None
        self._logs: list[Log] = []
        self._began = began
        self._command = command

    def add(self, data: Mapping[str, Any]) -> None:
        """Take the result of a case as it travelled with its report."""
        result = result_from_json(data)
        self.results[result.case] = result

    def absorb(self, log: Log) -> None:
        """Take what a process found out beside its reports."""
        self._logs.append(log)

    def close(self, *, complete: bool) -> Run:
        """Write baselines, find what is missing, and sum the run up.

        Args:
            complete: whether the run went to its end; otherwise missing cases say nothing.
        """
        problems = [problem for log in self._logs for problem in log.problems]
        commit = _commit(self.root)
        recorded, files = self._write(commit, problems)
        if self.settings.compare and complete and self.base is None:
            self._find_removed()
        try:
            unused = self._unused()
        except BaselineError as error:
            unused = []
            problems.append(str(error))
        self.run = Run(
            hardware=self.hardware,
            results=tuple(self.results.values()),
            software=_software(self.hardware),
            started=datetime.datetime.fromtimestamp(self._began, datetime.UTC).isoformat(timespec="seconds"),
            duration_s=round(time.time() - self._began, 3),
            commit=commit,
            compared=self.settings.compare,
            recorded=tuple(recorded),
            files=tuple(files),
            unused=tuple(unused),
            problems=tuple(grouped(problems)),
            command=self._command,
            base=self.base.ref if self.base is not None else "",
            base_commit=self.base.short if self.base is not None else "",
            remarks=tuple(remark for log in self._logs for remark in log.remarks),
        )
        if self.settings.history:
            from perfgate.history import keeping

            self.run = keeping.keep(self.run, self.settings.history, self.root, self.settings.json)
        outputs.write(self.run, self.settings, self.root)
        return self.run

    def failed(self) -> bool:
        """Whether the run fails for a reason that no test's report shows."""
        assert self.run is not None
        absent = any(r.verdict is Verdict.REMOVED for r in self.run.results) and self.settings.strict
        return bool(self.run.problems) or absent

    def _write(self, commit: str, problems: list[str]) -> tuple[list[str], list[str]]:
        """Store the recorded cases, module by module."""
        date = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        new: dict[tuple[str, str], dict[str, Baseline]] = {}
        ids: dict[tuple[str, str], list[str]] = {}
        for log in self._logs:
            for case, taken in log.recordings.items():
                measurements = [measurement_from_json(data) for data in taken]
                module, name = split(case)
                place = (measurements[0].key, module)
                try:
                    baseline = to_baseline(measurements, commit=commit, date=date)
                except BaselineError as error:
                    problems.append(f"{case}: not recorded: {error}")
                    continue
                new.setdefault(place, {})[name] = replace(baseline, case=name)
                ids.setdefault(place, []).append(case)
                if not self.settings.compare:
                    # A recording beside an older baseline says how the two differ; it fails nothing.
                    self.results[case] = replace(self.shelf.judge(measurements, last=True), failed=False)
        recorded: list[str] = []
        files: list[str] = []
        for (key, module), baselines in sorted(new.items()):
            try:
                path = self.shelf.store.merge(key, module, baselines, keep_existing=self.settings.update == "new")
            except BaselineError as error:
                problems.append(str(error))
                continue
            recorded += ids[key, module]
            files.append(os.path.relpath(path, self.root))
        return recorded, files

    def _keys(self) -> set[str]:
        """Give the keys that this machine could have compared with: its devices', and those of compiled code."""
        return {device.key for device in self.hardware.devices} | {target.key for target in TARGETS.values()}

    def _find_removed(self) -> None:
        """Name stored cases that were not collected although their whole module was."""
        for log in self._logs:
            for module, cases in log.collected.items():
                seen = {split(case)[1] for case in cases}
                for key in sorted(self._keys()):
                    if key.startswith(KEY_PREFIX) and any(name.endswith(f"[{PLACEHOLDER}]") for name in seen):
                        # Without a compiler nobody knows which launches there are.
                        continue
                    for name, stored in sorted(self.shelf.file(key, module).cases.items()):
                        if name not in seen:
                            case = f"{module}::{name}"
                            self.results[case] = CaseResult(
                                case,
                                key,
                                Verdict.REMOVED,
                                stored.outcome,
                                reason="it has a baseline, and its module no longer has the test",
                                failed=fails(Verdict.REMOVED, self.settings.strict),
                            )

    def _unused(self) -> list[str]:
        """Give baseline files of this machine whose test module is gone."""
        if not self.settings.compare or self.base is not None:
            return []
        store = self.shelf.store
        return [
            os.path.relpath(self.shelf.file(key, module).path, self.root)
            for key in sorted(self._keys())
            for module in store.modules(key)
            if not (self.root / f"{module}.py").exists()
        ]


def _software(hardware: Hardware) -> dict[str, str]:
    """Give every version the run depended on, with perfgate's and pytest's own."""
    import platform

    import pytest

    from perfgate import __version__

    software = {"perfgate": __version__, "pytest": pytest.__version__, "python": platform.python_version()}
    for environment in hardware.environments.values():
        software.update(environment)
    return software


def _commit(root: Path) -> str:
    """Give the commit of the tested tree, with "+changes" when it has some; "" if unknown."""
    try:
        result = subprocess.run(
            ["git", "describe", "--always", "--exclude=*", "--abbrev=12", "--dirty=+changes"],
            cwd=root,
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        # A copy of the tree without its history, as containers in CI often have.
        return os.environ.get("GITHUB_SHA", os.environ.get("CI_COMMIT_SHA", ""))[:12]
    return result.stdout.strip()
