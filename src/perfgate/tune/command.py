"""What does ``perfgate tune`` do? Tune a kernel's classes of shapes one by one, storing each as soon as it is found."""

from __future__ import annotations

import argparse
import contextlib
import datetime
import fnmatch
import functools
import os
import sys
import time
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from perfgate.baseline.layout import display_path
from perfgate.errors import PerfgateError, SettingError
from perfgate.hardware.sources import affinity
from perfgate.tune import lost, store, telling
from perfgate.tune.ahead import MOST_JOBS, Ahead
from perfgate.tune.lost import DeviceLost
from perfgate.tune.search import MARGIN, Choice, Timer, search, time_on_device
from perfgate.tune.store import Tuned
from perfgate.tune.tunable import Shape, Tunable, fields_of, like, resolve
from perfgate.units import count, share

#: Names the folder of baselines for launchers too, which no command line reaches.
VARIABLE = "PERFGATE_BASELINES"
#: Without a GPU candidates are listed as they are for this target.
_PRETENDED = "sm90"


def add_parser(commands: Any) -> None:
    """Declare the command's arguments."""
    about = "find the fastest launch configurations of a kernel on this GPU, and store them for its launcher"
    parser = commands.add_parser(
        "tune",
        help=about,
        description=f"{about}. The default stays unless another one saves more than {share(MARGIN)}.",
    )
    parser.add_argument("kernel", metavar="KERNEL", help="name of a folder with a tuning.py, or an import path")
    about = "only classes of shapes whose name matches, * stands for anything; may be repeated"
    parser.add_argument("--shapes", metavar="PATTERN", action="append", help=about)
    about = "leave out classes that were tuned with the software of now"
    parser.add_argument("--missing", action="store_true", help=about)
    about = "begin no further class after so many seconds"
    parser.add_argument("--budget-s", metavar="SECONDS", type=float, help=about)
    about = f"processes that compile before anything is timed (default: one a processor, up to {MOST_JOBS}; 1: none)"
    parser.add_argument("--jobs", metavar="N", type=int, default=min(affinity(), MOST_JOBS), help=about)
    about = "a class, or CLASS:CONFIGURATION as this command prints it, that is not tried; may be repeated"
    parser.add_argument("--leave-out", metavar="WHAT", action="append", default=[], help=about)
    # What the process before this one could not tune: nobody asked for that.
    parser.add_argument("--lost", action="append", default=[], help=argparse.SUPPRESS)
    about = "list classes and candidates; needs no GPU, stores nothing"
    parser.add_argument("--dry-run", action="store_true", help=about)
    about = f"folder of the baselines (default: ${VARIABLE}, else baselines)"
    parser.add_argument("--baselines", metavar="DIR", type=Path, help=about)


def run(options: argparse.Namespace, *, timer: Timer = time_on_device) -> Iterator[str]:
    """Tune and tell.

    Args:
        options: the command line.
        timer: times a call.

    Raises:
        SettingError: there is no such kernel or class of shapes, or nothing may compile.
        BaselineError: the stored configurations cannot be read or written.
        PerfgateError: there is no GPU, or not all that was asked for was tuned.
    """
    from perfgate.static import find

    if options.jobs < 1:
        raise SettingError(f"--jobs must be at least 1, not {options.jobs}")
    roots = find.source_roots(Path.cwd())
    find.extend_path(roots)
    root = (options.baselines or Path(os.environ.get(VARIABLE) or "baselines")).resolve()
    if options.dry_run:
        with _some_gpu() as where:
            tunable = resolve(options.kernel, roots)
            classes, left_out = _wanted(tunable, options)
            yield from telling.plan(tunable, classes, left_out, where)
        return
    key, environment = _device()
    tunable = resolve(options.kernel, roots)
    classes, left_out = _wanted(tunable, options)
    stored = store.load(root, key, tunable.kernel)
    if options.missing:
        classes = {
            name: shape
            for name, shape in classes.items()
            if name not in stored or stored[name].environment != environment
        }
    deadline = time.monotonic() + (options.budget_s if options.budget_s is not None else float("inf"))
    yield f"tuning {tunable.kernel} on {key}: {count(len(classes), 'class', 'classes')} of shapes"
    done: list[Choice] = []
    stopped = ""
    device_lost: DeviceLost | None = None
    try:
        with Ahead(options.kernel, options.jobs, len(classes)) as ahead:
            for number, (name, shape) in enumerate(classes.items(), 1):
                if time.monotonic() >= deadline:
                    stopped = f"the budget of {options.budget_s:g} s is spent"
                    break
                at = f"[{number}/{len(classes)}] "
                also = _found_before(tunable, shape, stored.get(name))
                prepare = functools.partial(ahead.prepare, name)
                choice = search(
                    tunable,
                    shape,
                    timer=timer,
                    also=also,
                    left_out=left_out.get(name, ()),
                    tell=telling.progress(at),
                    prepare=prepare,
                )
                path = store.merge(root, key, tunable.kernel, {name: _tuned(choice, environment)})
                done.append(choice)
                yield from telling.told(at, choice)
                if problem := ahead.problem_once():
                    yield f"configurations are compiled one at a time: {problem}"
                sys.stdout.flush()
    except KeyboardInterrupt:
        stopped = "interrupted"
    except DeviceLost as error:
        device_lost = error
    if done:
        yield ""
        yield from telling.table(done)
        yield f"stored in {display_path(path)}"
    if device_lost is not None:
        telling.clear()
        yield f"{device_lost.what}\ngoing on without it in a fresh process"
        left = None if options.budget_s is None else max(0.0, deadline - time.monotonic())
        others = {"budget-s": left, "jobs": options.jobs, "baselines": options.baselines}
        lost.go_on(
            lost.arguments(
                options.kernel,
                list(classes)[len(done) :],
                [*options.leave_out, device_lost.left_out],
                [*options.lost, *([device_lost.shape_class] if device_lost.of_class else [])],
                others,
            )
        )
    if stopped:
        what = f"{stopped}: {len(done)} of {count(len(classes), 'class was', 'classes were')} tuned"
        why = "What was found is stored." if done else "Nothing was found yet."
        raise PerfgateError(what, why, f"go on with: perfgate tune {options.kernel} --missing")
    if options.lost:
        raise PerfgateError(f"left out: {', '.join(sorted(options.lost))}", "Nothing is stored for what was left out.")


def _device() -> tuple[str, Mapping[str, str]]:
    """Give the hardware key of the current GPU and the software on it."""
    from perfgate.hardware import detect

    hardware = detect()
    if hardware.accelerator is None:
        raise PerfgateError(
            "perfgate tune needs a GPU, and this machine has none",
            hint="list what would be tried with: perfgate tune KERNEL --dry-run",
        )
    import torch

    key = store.device_key(torch.cuda.current_device())
    assert key is not None
    return key, hardware.environments.get(hardware.accelerator.kind, {})


@contextlib.contextmanager
def _some_gpu() -> Iterator[str]:
    """Let launchers see this machine's GPU, or a pretended one; give its name."""
    from perfgate.hardware import detect

    accelerator = detect().accelerator
    if accelerator is not None:
        yield accelerator.key
        return
    try:
        from perfgate.static import pretend
    except ImportError as error:
        raise PerfgateError(f"kernels cannot be imported: {error}", hint="pip install torch triton") from error
    from perfgate.static.targets import find

    with pretend.gpu(find(_PRETENDED)):
        yield f"{_PRETENDED} (there is no GPU here)"


def _chosen(tunable: Tunable, patterns: list[str] | None) -> dict[str, Shape]:
    classes = tunable.classes()
    if not patterns:
        return classes
    for pattern in patterns:
        if not fnmatch.filter(classes, pattern):
            raise SettingError(
                f"{tunable.kernel}: no class of shapes matches {pattern!r}", hint=f"classes are {', '.join(classes)}"
            )
    return {
        name: shape
        for name, shape in classes.items()
        if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
    }


def _wanted(tunable: Tunable, options: argparse.Namespace) -> tuple[dict[str, Shape], Mapping[str, Collection[str]]]:
    """Give the classes that were asked for, and the configurations that are left out, by class."""
    skipped, left_out = lost.parse(options.leave_out, tunable.classes())
    chosen = _chosen(tunable, options.shapes)
    return {name: shape for name, shape in chosen.items() if name not in skipped}, left_out


def _found_before(tunable: Tunable, shape: Shape, entry: Tuned | None) -> list[Any]:
    """Give the configuration that is stored, so that tuning again is never a step back."""
    config = like(tunable.default(*shape), entry.config) if entry is not None and entry.config is not None else None
    return [config] if config is not None else []


def _tuned(choice: Choice, environment: Mapping[str, str]) -> Tuned:
    return Tuned(
        config=fields_of(choice.best) if choice.changed else None,
        config_s=choice.best_s,
        default=fields_of(choice.default),
        default_s=choice.default_s,
        date=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        environment=environment,
    )
