"""Which points are not done yet, and how are they run? One engine a model and scheme, each in a process of its own.

An engine is started again only when what happened cannot be lived with: a point that killed it is not tried twice.
Imports nothing heavy.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import tempfile
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perf_workloads.slidesparse.serving import models, results
from perf_workloads.slidesparse.serving.origin import UNKNOWN, Origin
from perf_workloads.slidesparse.serving.process import EngineFailed, EngineProcess
from perf_workloads.slidesparse.serving.results import Key, Record
from perf_workloads.slidesparse.serving.workloads import NEW_TOKENS, PASSES, Point
from perfgate.model import Outcome


@dataclass(frozen=True)
class Settings:
    """How points are run.

    Attributes:
        passes: of a prefill.
        new_tokens: of a decoded sequence.
        most_tokens: fewer passes where a prefill of all of them has more tokens; None for as many as asked.
        load_timeout_s: for the start of an engine.
        run_timeout_s: for one point.
        eager: neither compile nor capture graphs.
        options: further options of ``vllm.LLM``; they are stored with the results.
    """

    passes: int = PASSES
    new_tokens: int = NEW_TOKENS
    most_tokens: int | None = None
    load_timeout_s: float = 900
    run_timeout_s: float = 900
    eager: bool = False
    options: tuple[tuple[str, Any], ...] = ()

    def passes_of(self, point: Point) -> int:
        """Give the passes of a prefill: at least 4."""
        most = self.passes if self.most_tokens is None else max(self.most_tokens // point.tokens, 4)
        return min(self.passes, most)

    def asked(self) -> dict[str, str]:
        """Give, as a fact of failures, what makes points run in another way than by default; nothing where nothing."""
        found = {name: getattr(self, name) for name in _KEPT if getattr(self, name) != getattr(Settings, name)}
        if "options" in found:
            found["options"] = dict(found["options"])
        return {"asked": json.dumps(found)} if found else {}

    def as_failed(self, record: Record, given: Collection[str] = ()) -> Settings:
        """Give these settings, and those that a failed run was asked for with instead of all that was not given now.

        Args:
            record: the failed run.
            given: names of settings that stand over stored ones, also where they are the defaults.
        """
        asked = json.loads(record.facts.get("asked", "{}"))
        if stored := record.facts.get("options"):
            asked["options"] = json.loads(stored)
        if "options" in asked:
            asked["options"] = tuple(asked["options"].items())
        kept = {name: asked[name] for name in _KEPT if name in asked and name not in given}
        return dataclasses.replace(self, **kept)


#: Settings that a failure is stored with, so that it can be run again as it was.
_KEPT = ("passes", "new_tokens", "most_tokens", "eager", "options")

#: How cases run their points; of a prefill the stored results of the H200 have as many tokens.
CASES = Settings(most_tokens=2**18)


@dataclass(frozen=True)
class Job:
    """One engine: a model in a scheme, the points to run, and all that it must have room for.

    ``settings`` stand for those of the campaign.
    """

    model: str
    scheme: str
    points: tuple[Point, ...]
    room: tuple[Point, ...]
    settings: Settings | None = None


def this_device() -> str:
    """Name the device that engines run on, as the hardware key of baselines does."""
    from perfgate.hardware import detect

    hardware = detect()
    return (hardware.accelerator or hardware.cpu).key


def jobs(
    device: str,
    names: Iterable[str],
    schemes: Iterable[str],
    points: Sequence[Point],
    records: Iterable[Record],
    *,
    again: bool = False,
) -> list[Job]:
    """List what is to be run: points that did not succeed yet, the smallest M first.

    Args:
        device: results of others do not count.
        names: models.
        schemes: of each.
        points: that are wanted.
        records: what was run before.
        again: run what succeeded as well.
    """
    stands = results.standing(records)
    wanted = []
    schemes = tuple(schemes)
    for model in names:
        for scheme in schemes:
            todo = []
            for point in points:
                before = stands.get(Key(device, model, scheme, *point))
                if again or before is None or not before.ok:
                    todo.append(point)
            if todo:
                wanted.append(Job(model, scheme, _ordered(todo), tuple(points)))
    return wanted


def failed_jobs(
    device: str,
    records: Iterable[Record],
    settings: Settings,
    wanted: Callable[[Key], bool] = lambda key: True,
    given: Collection[str] = (),
) -> list[Job]:
    """List the points that failed, the smallest M first; those that were asked for alike share an engine.

    An engine has room for all points that were run of its model and scheme.

    Args:
        device: results of others do not count.
        records: what was run before.
        settings: how; what is not given is as it was when a point failed.
        wanted: which points are.
        given: names of settings that stand over what is stored with a failure.
    """
    stands = {key: record for key, record in results.standing(records).items() if key.device == device and wanted(key)}
    alike: dict[tuple[str, str, str], list[Record]] = defaultdict(list)
    for key, record in stands.items():
        if not record.ok:
            how = json.dumps([record.facts.get(name, "") for name in ("asked", "options")])
            alike[key.model, key.scheme, how].append(record)
    found = []
    for (model, scheme, _), failed in alike.items():
        room = tuple(key.point for key in stands if (key.model, key.scheme) == (model, scheme))
        points = _ordered(record.key.point for record in failed)
        found.append(Job(model, scheme, points, room, settings.as_failed(failed[0], given)))
    return found


def _ordered(points: Iterable[Point]) -> tuple[Point, ...]:
    return tuple(sorted(points, key=lambda point: (point.tokens, point.stage)))


class Bench:
    """Runs points of one model and scheme in one engine, which is started when the first is asked for.

    Args:
        folder: for the model's configuration and the process's messages, which runs there.
        device: as results name it.
        model: one of ``models.CONFIGS``.
        scheme: one of ``models.SERVED``.
        room: points that the engine must have room for.
        settings: how points are run.
        start: what starts a process, for tests.
        origin: the software and the code, as results name them.
    """

    def __init__(
        self,
        folder: Path,
        device: str,
        model: str,
        scheme: str,
        room: Sequence[Point],
        settings: Settings,
        start: Callable[[Path], EngineProcess] = EngineProcess,
        origin: Origin = UNKNOWN,
    ) -> None:
        self._origin = origin
        self._device, self._model, self._scheme, self._room, self._settings = device, model, scheme, room, settings
        self._model_folder = models.write_model(folder.resolve(), model, scheme)
        self._process = start(folder / f"{model}-{scheme}.log")
        self._ready = False
        self._refused: EngineFailed | None = None

    def run(self, point: Point) -> Record:
        """Run one point; a failure is a record too."""
        key = Key(self._device, self._model, self._scheme, *point)
        settings = self._settings
        try:
            self._start()
            figures = self._process.ask(
                "run",
                settings.run_timeout_s,
                stage=point.stage,
                tokens=point.tokens,
                passes=settings.passes_of(point),
                new_tokens=settings.new_tokens,
            )
            facts = self._process.ask("facts", settings.run_timeout_s)
            if settings.options:
                facts["options"] = json.dumps(dict(settings.options))
        except EngineFailed as error:
            # An engine that failed in the middle of a run still has its requests.
            self.end()
            return self._record(key, error.outcome, error.cause, {}, settings.asked())
        if (unpinned := figures.pop("pinned")) is not None:
            return self._record(key, Outcome.FAILED, unpinned, {}, {**facts, **settings.asked()})
        return self._record(key, Outcome.PASSED, "", figures, facts)

    def end(self) -> None:
        """End the engine."""
        self._process.end()
        self._ready = False

    def _record(
        self, key: Key, outcome: Outcome, cause: str, figures: Mapping[str, float], facts: Mapping[str, str]
    ) -> Record:
        return Record(key, _now(), outcome, cause, figures, facts, self._origin.environment, self._origin.commit)

    def _start(self) -> None:
        """Start the engine unless it is there; one that could not be started is not tried again."""
        if self._refused is not None:
            raise self._refused
        if self._ready:
            return
        try:
            self._process.ask(
                "load",
                self._settings.load_timeout_s,
                folder=str(self._model_folder),
                points=[list(point) for point in self._room],
                drawn=True,
                eager=self._settings.eager,
                options={"dtype": "bfloat16", **dict(self._settings.options)},
            )
        except EngineFailed as error:
            self._refused = EngineFailed(error.outcome, f"the engine did not start: {error.cause}", alive=False)
            raise self._refused from None
        self._ready = True


def run(
    todo: Iterable[Job],
    device: str,
    store: Path,
    settings: Settings,
    say: Callable[[str], None],
    start: Callable[[Path], EngineProcess] = EngineProcess,
    logs: Path | None = None,
    origin: Origin = UNKNOWN,
) -> bool:
    """Run jobs, storing each point as soon as it ended.

    Args:
        todo: what to run.
        device: as results name it.
        store: file of results.
        settings: how.
        say: shows a line.
        start: what starts a process, for tests.
        logs: folder for what engines print; without one it is thrown away.
        origin: the software and the code, as results name them.

    Returns:
        Whether all succeeded.
    """
    all_ok = True
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) if logs is None else logs
        for job in todo:
            say(f"{job.model} {job.scheme}: {len(job.points)} points")
            bench = Bench(folder, device, job.model, job.scheme, job.room, job.settings or settings, start, origin)
            try:
                for point in job.points:
                    record = bench.run(point)
                    results.append(store, record)
                    say(_shown(record))
                    all_ok &= record.ok
            finally:
                bench.end()
    return all_ok


def _shown(record: Record) -> str:
    head = f"  {record.key.point}: "
    if not record.ok:
        return f"{head}{record.outcome.value.replace('_', ' ')}: {record.cause}"
    name = "prompt" if record.key.stage == "prefill" else "output"
    rate, elapsed_s = record.figures[f"{name}_tokens_per_s"], record.figures["elapsed_s"]
    return f"{head}{rate:,.0f} {name} tokens/s in {elapsed_s:.1f} s"


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
