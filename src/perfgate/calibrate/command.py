"""What does ``perfgate calibrate`` do? Measure a pool of processes, store it, and tell how often the gate is wrong."""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import shutil
import sys
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perfgate.baseline.layout import display_path
from perfgate.calibrate import steps as extra
from perfgate.errors import PerfgateError, SettingError
from perfgate.hardware.key import printable
from perfgate.units import count, parse_limit

if TYPE_CHECKING:
    from perfgate.calibrate.pool import Found

#: Defaults, written out because asking for help is to import nothing heavy; a test holds them against the originals.
RUNS, PROCESSES, COMPARISONS = 30, 12, 200
DEFAULT_NAME = "suite"


def add_parser(commands: Any) -> None:
    """Declare the command's arguments."""
    about = "measure how often the gate is wrong on this machine: false alarms and missed slow-downs"
    parser = commands.add_parser(
        "calibrate",
        help=about,
        description=f"{about}. Runs the selection in fresh processes, unchanged and with real extra work. Then it "
        "plays the gate's own rules on them: those of stored baselines, and those of --perf-ab, where processes that "
        "followed each other are pairs of base and head. There, a limit of wall time of exactly 10 %, which stored "
        "baselines have where a test names none, is taken for not named and becomes 5 %.",
        usage="perfgate calibrate [SELECTION ...] [OPTIONS] [-- PYTEST_ARGUMENT ...]",
    )
    parser.add_argument("selection", metavar="SELECTION", nargs="*", help="paths and node ids of cases, as for pytest")
    about = f"fresh processes that there are to be in the pool, earlier ones included (default: {RUNS})"
    parser.add_argument("--runs", metavar="N", type=int, help=about)
    about = (
        "how many of them also measure with extra work (default: all; fewer leave fewer pairs of base and slowed head)"
    )
    parser.add_argument("--injected", metavar="N", type=int, help=about)
    about = "slow-downs to add, e.g. 0.01,0.05, or none (default: 0.01,0.02,0.03,0.05,0.1)"
    parser.add_argument("--steps", metavar="SHARES", type=str, help=about)
    about = (
        f"memory to add, one in turn for each process, or none (default: {','.join(extra.MEMORY)}; without a GPU "
        f"{','.join(extra.MEMORY_CPU)})"
    )
    # To argparse, a percent sign begins the name of a value.
    parser.add_argument("--memory-steps", metavar="AMOUNTS", type=str, help=about.replace("%", "%%"))
    about = "GPUs to use at once, one process at a time on each, e.g. 0,1,2,3"
    parser.add_argument("--devices", metavar="LIST", type=str, help=about)
    about = "begin no further process after so many seconds"
    parser.add_argument("--budget-s", metavar="SECONDS", type=float, help=about)
    about = f"name of the pool, stored in BASELINES/KEY/calibration/NAME.json (default: {DEFAULT_NAME})"
    parser.add_argument("--name", metavar="NAME", default=DEFAULT_NAME, help=about)
    about = "folder of the baselines (default: pytest's setting)"
    parser.add_argument("--baselines", metavar="DIR", type=Path, help=about)
    about = "measure nothing; compute from stored pools"
    parser.add_argument("--from", metavar="FILE", dest="files", nargs="+", type=Path, help=about)
    about = f"processes, or pairs of them, that confirm a suspicion, as --perf-processes (default: {PROCESSES})"
    parser.add_argument("--processes", metavar="N", type=int, default=PROCESSES, help=about)
    about = "judge all times with this limit, e.g. 0.5%% (default: each case's own)"
    parser.add_argument("--limit", metavar="SHARE", help=about)
    about = f"comparisons that are drawn of each kind, at most (default: {COMPARISONS})"
    parser.add_argument("--comparisons", metavar="N", type=int, default=COMPARISONS, help=about)
    about = "write tables in Markdown"
    parser.add_argument("--markdown", action="store_true", help=about)
    about = "write everything that was found out to FILE as JSON"
    parser.add_argument("--json", metavar="FILE", type=Path, help=about)
    parser.add_argument(
        "-v", "--verbose", action="store_true", help="every case, not the noisy ones only, and each of them in pairs"
    )
    about = "only measure; compute later with --from"
    parser.add_argument("--measure-only", action="store_true", help=about)


def run(options: argparse.Namespace) -> Iterator[str]:
    """Measure and tell.

    Args:
        options: the command line.

    Raises:
        SettingError: an option cannot be used.
        ReplicaError: the cases could not be collected.
        BaselineError: the pool cannot be read or written, or is of other software.
        PerfgateError: the calibration was interrupted, or nothing could be measured.
    """
    for flag, number, least in (("--processes", options.processes, 1), ("--comparisons", options.comparisons, 1)):
        if number < least:
            raise SettingError(f"{flag}: {number} is not a number of {flag[2:]}", hint=f"{flag} 12")
    limit = _limit(options.limit)
    paths: list[Path] = options.files or []
    if not paths:
        paths = yield from _measure(options)
    if not options.measure_only:
        yield from _analyse(options, paths, limit)


def _limit(text: str | None) -> float | None:
    if text is None:
        return None
    limit = parse_limit(text, "s")
    if limit.absolute or not limit.relative:
        raise SettingError(f"--limit: {text!r} is not a share", hint="--limit 0.5%")
    return limit.relative


def _analyse(options: argparse.Namespace, paths: Sequence[Path], limit: float | None) -> Iterator[str]:
    """Tell what stored pools say."""
    from perfgate.calibrate import analysis, report, store

    suites = []
    for path in paths:
        pool = store.load(path)
        if pool is None:
            raise SettingError(f"{display_path(path)}: there is no such file", hint="ls baselines/*/calibration")
        yield ""
        if not analysis.enough(pool):
            yield (
                f"{pool.key}: {count(len(pool.processes), 'process is', 'processes are')} too few to compare: "
                "a baseline takes 5, and a run at least one more"
            )
            continue
        suite = analysis.analyse(pool, limit=limit, most=options.comparisons, total=options.processes)
        suites.append(suite)
        if options.markdown:
            yield from report.markdown(suite, every=options.verbose)
        else:
            width = shutil.get_terminal_size((report.WIDEST, 0)).columns
            yield from report.lines(suite, every=options.verbose, width=width)
    if options.json is not None:
        text = json.dumps([_plain(asdict(suite)) for suite in suites], indent=1)
        try:
            options.json.write_text(text + "\n", encoding="utf-8")
        except OSError as error:
            raise PerfgateError(f"{options.json}: cannot be written: {error.strerror}", hint="--json FILE") from error


def _plain(value: Any) -> Any:
    """Give what JSON has; it knows no figure that is not a number."""
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _measure(options: argparse.Namespace) -> Generator[str, None, list[Path]]:
    """Measure what is missing in the pool; give the files."""
    from perfgate import hardware
    from perfgate.book import _commit
    from perfgate.calibrate import measuring, selecting, store
    from perfgate.calibrate.pool import Pool, having
    from perfgate.options import RECORDED_PROCESSES

    runs = RUNS if options.runs is None else options.runs
    injected = runs if options.injected is None else options.injected
    for flag, number, least in (("--runs", runs, 1), ("--injected", injected, 0)):
        if number < least:
            raise SettingError(f"{flag}: {number} is not a number of processes", hint=f"{flag} {max(least, RUNS)}")
    if runs <= RECORDED_PROCESSES and not options.measure_only:
        raise SettingError(
            f"--runs {runs}: too few processes to compare",
            f"A baseline takes {RECORDED_PROCESSES}, and a run at least one more. A whole confirmation takes "
            f"{RECORDED_PROCESSES + options.processes}, and {2 * options.processes} in pairs of base and head.",
            f"--runs {RUNS}, or --measure-only to add to the pool and compare later",
        )
    machine = hardware.detect()
    time_steps = extra.TIME if options.steps is None else extra.read_time(options.steps)
    default = extra.MEMORY if machine.accelerator is not None else extra.MEMORY_CPU
    memory = default if options.memory_steps is None else extra.read_memory(options.memory_steps)
    devices = [name.strip() for name in options.devices.split(",")] if options.devices else []
    if devices and machine.accelerator is None:
        raise SettingError(
            f"--devices {options.devices}: there is no GPU here",
            "Processes at once on one CPU would slow each other down, and the pool would hold their noise.",
            "leave --devices out",
        )
    selected = selecting.select([*options.selection, *options.pytest])
    root = (options.baselines or selected.baselines).resolve()
    pools = {
        device.key: pool
        for device in machine.devices
        if (pool := store.load(store.path_of(root, device.key, options.name))) is not None
    }
    for device in machine.devices:
        if device.key in pools:
            environment = machine.environments.get(device.kind, {})
            store.check_environment(pools[device.key], environment, store.path_of(root, device.key, options.name))
    # What other selections measured under the same name says nothing about these cases.
    have = max((having(pool, selected.cases) for pool in pools.values()), key=len, default=[])
    fewer = [case for case in selected.cases if all(len(having(p, [case])) < len(have) for p in pools.values())]
    asked = measuring.ask(have, runs, injected, extra.Steps(time_steps), memory=memory)
    also = f"; this machine cannot run {selected.skipped} more" if selected.skipped else ""
    yield (
        f"calibrating {count(len(selected.cases), 'case')} in {count(len(asked), 'fresh process', 'fresh processes')}"
        f"{f', beside {len(have)} in the pool' if have else ''}{also}"
    )
    if fewer and have:
        yield (
            f"careful: {count(len(fewer), 'case')} not in all of these {len(have)}, e.g. {printable(fewer[0])}; "
            "with --name NAME they are measured in a pool of their own"
        )
    deadline = time.monotonic() + (float("inf") if options.budget_s is None else options.budget_s)
    line = measuring.Line(
        selected, asked, _commit(selected.launch.root), devices=devices, deadline=deadline, tell=_progress
    )
    problems: dict[str, int] = {}
    done = 0
    try:
        with contextlib.closing(line.results()) as results:
            for taken in results:
                done += 1
                left_out = list(taken.problems)
                for key, found in _by_key(taken.found).items():
                    empty = Pool(key, dict(found[0].measurement.environment))
                    _, others = store.merge(root, options.name, empty, taken.process, found)
                    left_out += others
                for problem in left_out:
                    problems[problem] = problems.get(problem, 0) + 1
                _clear()
                on = f" on device {taken.process.device}" if taken.process.device else ""
                added = f", with {', '.join(taken.process.steps)}" if taken.process.steps else ""
                yield f"process {taken.asked.number + 1} of {runs}{on}: {taken.process.seconds:.0f} s{added}"
                sys.stdout.flush()
    except KeyboardInterrupt:
        _clear()
        raise PerfgateError(
            f"interrupted: {done} of {count(len(asked), 'process', 'processes')} measured",
            "What they measured is stored." if done else "",
            "go on with the same command",
        ) from None
    for problem, times in problems.items():
        yield f"{problem}{f' ({times} processes)' if times > 1 else ''}"
    if done < len(asked):
        yield f"the budget of {options.budget_s:g} s is spent: {done} of {len(asked)} measured"
    keys = dict.fromkeys(device.key for device in machine.devices)
    paths = [path for key in keys if (path := store.path_of(root, key, options.name)).exists()]
    yield from (f"stored in {display_path(path)}" for path in paths)
    return paths


def _by_key(found: Sequence[Found]) -> dict[str, list[Found]]:
    """Group what was measured by the hardware it ran on."""
    groups: dict[str, list[Found]] = {}
    for each in found:
        if each.measurement.metrics:
            groups.setdefault(each.measurement.key, []).append(each)
    return groups


def _progress(line: str) -> None:
    """Show on a terminal, in one line, what is being measured."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{line}"[:160], end="", file=sys.stderr, flush=True)


def _clear() -> None:
    if sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)
