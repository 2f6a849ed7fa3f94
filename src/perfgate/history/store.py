"""How are runs added to the history, and how is a series read? SQLite or PostgreSQL, through SQLAlchemy.

Heavy: imports SQLAlchemy.
"""

from __future__ import annotations

import contextlib
import random
import sqlite3
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, OperationalError, SQLAlchemyError

from perfgate.errors import HistoryError
from perfgate.history import tables
from perfgate.history.adding import FIELDS, add
from perfgate.history.entry import Entry
from perfgate.history.place import DEFAULT, file_of, shown

# A writer waits for others so long, and begins again so often when one of two in each other's way was broken off.
_BUSY_S, _TRIES = 15, 4
_CONNECT_S = 10

Result = TypeVar("Result")


@dataclass(frozen=True)
class SeriesName:
    """Which figure a series is of."""

    id: int
    case: str
    key: str
    metric: str
    unit: str
    better: str


@dataclass(frozen=True)
class StoredRun:
    """A run that points refer to."""

    id: int
    source: str
    published: bool
    started_s: float
    revision: str
    host: str
    #: Versions by name, as JSON.
    software: str = "{}"


@dataclass(frozen=True)
class StoredPoint:
    """One figure of one run."""

    run: StoredRun
    value: float
    low: float | None
    high: float | None
    verdict: str
    allowed: float | None


class History:
    """The runs so far.

    Args:
        address: where they are, from :func:`perfgate.history.place.locate`.
        create: whether to make what is missing; otherwise a history that is not there is an error.

    Raises:
        HistoryError: it cannot be reached or read.
    """

    def __init__(self, address: str, *, create: bool = True) -> None:
        self.address = address
        path = file_of(address)
        if path is not None and not create and not path.exists():
            raise HistoryError(
                f"{shown(address)}: there is no history",
                hint="runs are added with: pytest --benchmark-compare --perf-history",
            )
        with self._told("cannot be opened"):
            try:
                if path is not None and create:
                    path.parent.mkdir(parents=True, exist_ok=True)
                self._engine = _engine(address)
            except (OSError, ValueError) as error:
                reason = error.strerror if isinstance(error, OSError) else str(error)
                raise HistoryError(f"{shown(address)}: the history cannot be opened: {reason}") from error
            self._again(self._migrate)

    def __enter__(self) -> History:
        """Use it, and close it at the end."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    def close(self) -> None:
        """Let go of the database."""
        self._engine.dispose()

    def append(self, entry: Entry) -> bool:
        """Add a run, whole or not at all.

        Returns:
            Whether it was not there before.

        Raises:
            HistoryError: it cannot be written.
        """
        with self._told("the run cannot be added"):
            return self._again(lambda: self._write(lambda connection: add(connection, entry)))

    def find(self, text: str = "") -> list[SeriesName]:
        """Give the series of a case by its whole id, else those whose case contains the text, in the order of names."""
        query = sa.select(tables.series)
        with self._reading() as connection:
            rows = connection.execute(query.where(tables.series.c.name == text)).all()
            if not rows:
                # LIKE would need its wildcards taken out, and differs between the databases.
                rows = [row for row in connection.execute(query) if text in row.name]
        return sorted((SeriesName(*row) for row in rows), key=lambda each: (each.case, each.key, each.metric, each.id))

    def points(self, series_id: int) -> list[StoredPoint]:
        """Give the points of a series, the oldest first."""
        columns = [tables.points.c[name] for name in FIELDS]
        joined = tables.points.join(tables.runs, tables.points.c.run_id == tables.runs.c.id)
        query = sa.select(*_run_columns(), *columns).select_from(joined).where(tables.points.c.series_id == series_id)
        with self._reading() as connection:
            rows = connection.execute(query.order_by(tables.runs.c.started_s, tables.runs.c.id)).all()
        fields = len(_run_columns())
        return [StoredPoint(StoredRun(*row[:fields]), *row[fields:]) for row in rows]

    def everything(self) -> Iterator[tuple[SeriesName, list[StoredPoint]]]:
        """Give every series that somebody judges with its points, one after the other."""
        with self._reading() as connection:
            names = {row.id: SeriesName(*row) for row in connection.execute(sa.select(tables.series))}
            runs = {row.id: StoredRun(*row) for row in connection.execute(sa.select(*_run_columns()))}
            columns = [tables.points.c[name] for name in ("run_id", *FIELDS)]
            query = sa.select(tables.points.c.series_id, *columns).order_by(tables.points.c.series_id)
            found: list[StoredPoint] = []
            last = None
            for row in connection.execution_options(yield_per=10_000).execute(query):
                series_id, run_id, *rest = row
                if series_id != last:
                    if found:
                        yield names[last], sorted(found, key=_age)
                    found, last = [], series_id
                run = runs.get(run_id)
                # None: a run that was added since.
                if run is not None and not run.published and series_id in names:
                    found.append(StoredPoint(run, *rest))
            if found and last is not None:
                yield names[last], sorted(found, key=_age)

    def last_s(self, until_s: float) -> float:
        """Give when the last run began, of those up to a time; in seconds since the epoch, 0 when there is none."""
        began = tables.runs.c.started_s
        query = sa.select(sa.func.max(began)).where(tables.runs.c.published.is_(False), began <= until_s)
        with self._reading() as connection:
            return float(connection.execute(query).scalar_one() or 0.0)

    def later(self, than_s: float) -> list[StoredRun]:
        """Give the runs that began later than a time, the earliest first."""
        began = tables.runs.c.started_s
        query = sa.select(*_run_columns()).where(tables.runs.c.published.is_(False), began > than_s)
        with self._reading() as connection:
            return [StoredRun(*row) for row in connection.execute(query.order_by(began, tables.runs.c.id))]

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sa.Connection]:
        with self._told("cannot be read"), self._engine.connect() as connection:
            yield connection

    def _migrate(self) -> None:
        """Make the tables, or bring them up to date."""
        with self._engine.connect() as connection:
            if tables.is_current(connection, self.address):
                return
        if self._engine.dialect.name == "sqlite":
            # Readers and a writer then keep out of each other's way; the file remembers it. Who comes second to a new
            # file may be refused; a file that cannot be written says so at the next statement.
            with self._engine.connect() as connection, contextlib.suppress(sqlite3.OperationalError):
                driver: Any = connection.connection.dbapi_connection
                driver.execute("PRAGMA journal_mode=WAL")
        self._write(lambda connection: tables.migrate(connection, self.address))

    def _write(self, work: Callable[[sa.Connection], Result]) -> Result:
        """Do something in one writing transaction."""
        with self._engine.connect().execution_options(writes=True) as connection, connection.begin():
            return work(connection)

    def _again(self, work: Callable[[], Result]) -> Result:
        """Do something, again when another writer was in the way."""
        for attempt in range(1, _TRIES):
            try:
                return work()
            except OperationalError:
                # Two that were in each other's way must not meet again.
                time.sleep(random.uniform(0.05, 0.2) * attempt)
        return work()

    @contextlib.contextmanager
    def _told(self, what: str) -> Iterator[None]:
        said = "the history " if what.startswith("cannot") else ""
        try:
            yield
        except SQLAlchemyError as error:
            cause = str(error.orig if isinstance(error, DBAPIError) else error).strip().splitlines()
            raise HistoryError(
                f"{shown(self.address)}: {said}{what}: {cause[0] if cause else type(error).__name__}",
                hint=f"is it reachable, and a history of perfgate? The default is a file: --perf-history={DEFAULT}",
            ) from error
        except UnicodeEncodeError as error:
            # The name of a file, and so of a case, may hold bytes that are no text.
            raise HistoryError(
                f"{shown(self.address)}: {said}{what}: {error.object!r} is not UTF-8", hint="give it another name"
            ) from error


def _run_columns() -> list[sa.Column[Any]]:
    return [tables.runs.c[name] for name in ("id", "source", "published", "started_s", "revision", "host", "software")]


def _age(point: StoredPoint) -> tuple[float, int]:
    return point.run.started_s, point.run.id


def _engine(address: str) -> sa.Engine:
    path = file_of(address)
    if path is None:
        return sa.create_engine(sa.engine.make_url(address), connect_args={"connect_timeout": _CONNECT_S})
    # Not by its address: what follows a question mark in the name of a file is no option.
    engine = sa.create_engine(sa.URL.create("sqlite", database=str(path)), connect_args={"timeout": _BUSY_S})

    @sa.event.listens_for(engine, "connect")
    def prepare(connection: Any, record: Any) -> None:
        # The driver would begin transactions by itself, and not the kind that waits for other writers.
        connection.isolation_level = None
        connection.execute("PRAGMA synchronous=NORMAL")

    @sa.event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        writes = connection.get_execution_options().get("writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine
