"""Which tables hold the history? Runs, series, and one point for each figure of a run; changed by ordered steps.

Heavy: imports SQLAlchemy.
"""

from __future__ import annotations

import sqlalchemy as sa

from perfgate.errors import HistoryError
from perfgate.history.place import shown

metadata = sa.MetaData()

#: One row: the version of the tables.
version = sa.Table("perfgate_version", metadata, sa.Column("version", sa.Integer, nullable=False))

runs = sa.Table(
    "perfgate_runs",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    # A hash of what the run is: importing it again adds nothing.
    sa.Column("identity", sa.String(64), nullable=False, unique=True),
    # "perfgate", "pytest-benchmark", or the name of the file of published figures.
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("published", sa.Boolean, nullable=False),
    # Seconds since the epoch: a text with an offset from UTC would not sort.
    sa.Column("started_s", sa.Float(53), nullable=False),
    sa.Column("revision", sa.Text, nullable=False),
    sa.Column("host", sa.Text, nullable=False),
    # JSON.
    sa.Column("software", sa.Text, nullable=False),
)

series = sa.Table(
    "perfgate_series",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("key", sa.Text, nullable=False),
    sa.Column("metric", sa.Text, nullable=False),
    sa.Column("unit", sa.Text, nullable=False),
    sa.Column("better", sa.Text, nullable=False),
    sa.UniqueConstraint("name", "key", "metric", "unit"),
)

# The points of a series lie beside each other: in SQLite the table is its own index.
points = sa.Table(
    "perfgate_points",
    metadata,
    sa.Column("series_id", sa.Integer, sa.ForeignKey("perfgate_series.id"), primary_key=True),
    sa.Column("run_id", sa.Integer, sa.ForeignKey("perfgate_runs.id"), primary_key=True),
    sa.Column("value", sa.Float(53), nullable=False),
    # The least and the greatest value of a process.
    sa.Column("low", sa.Float(53)),
    sa.Column("high", sa.Float(53)),
    sa.Column("verdict", sa.Text, nullable=False),
    # The change that its limit allowed, in the metric's unit.
    sa.Column("allowed", sa.Float(53)),
    sqlite_with_rowid=False,
)


# What differs between the databases. Steps are text: they stay as they were when the tables above have moved on.
_DIALECTS = {
    "sqlite": {"id": "INTEGER PRIMARY KEY", "real": "REAL", "end": " WITHOUT ROWID"},
    "postgresql": {"id": "SERIAL PRIMARY KEY", "real": "DOUBLE PRECISION", "end": ""},
}

#: What leads from each version to the next; the number of steps is the version that this program reads.
STEPS: tuple[tuple[str, ...], ...] = (
    # 1: runs, series and points.
    (
        "CREATE TABLE perfgate_version (version INTEGER NOT NULL)",
        "INSERT INTO perfgate_version VALUES (1)",
        "CREATE TABLE perfgate_runs (id {id}, identity VARCHAR(64) NOT NULL UNIQUE, source TEXT NOT NULL, "
        "published BOOLEAN NOT NULL, started_s {real} NOT NULL, revision TEXT NOT NULL, host TEXT NOT NULL, "
        "software TEXT NOT NULL)",
        'CREATE TABLE perfgate_series (id {id}, name TEXT NOT NULL, "key" TEXT NOT NULL, metric TEXT NOT NULL, '
        'unit TEXT NOT NULL, better TEXT NOT NULL, UNIQUE (name, "key", metric, unit))',
        "CREATE TABLE perfgate_points (series_id INTEGER NOT NULL REFERENCES perfgate_series (id), "
        "run_id INTEGER NOT NULL REFERENCES perfgate_runs (id), value {real} NOT NULL, low {real}, high {real}, "
        "verdict TEXT NOT NULL, PRIMARY KEY (series_id, run_id)){end}",
    ),
    # 2: what the limit of a point allowed; runs are found by their time.
    (
        "ALTER TABLE perfgate_points ADD COLUMN allowed {real}",
        "CREATE INDEX perfgate_runs_started ON perfgate_runs (started_s)",
    ),
)

# Whoever changes the tables of a server holds the lock of this number.
_LOCK = 0x70657266


def is_current(connection: sa.Connection, address: str) -> bool:
    """Tell whether the tables need no step.

    Raises:
        HistoryError: a newer program has made them.
    """
    return _version(connection, address) == len(STEPS)


def migrate(connection: sa.Connection, address: str, steps: tuple[tuple[str, ...], ...] | None = None) -> None:
    """Make the tables, or bring them to what this program reads: all steps or none.

    Args:
        connection: in a transaction that nobody writes beside (SQLite), or of a server.
        address: for messages.
        steps: the first few steps; None takes all.

    Raises:
        HistoryError: a newer program has made them.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(sa.text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
    steps = STEPS if steps is None else steps
    words = _DIALECTS[connection.dialect.name]
    # Read again: another process may have been first.
    for step in steps[_version(connection, address) :]:
        for statement in step:
            connection.exec_driver_sql(statement.format(**words))
    connection.execute(version.update().values(version=len(steps)))


def _version(connection: sa.Connection, address: str) -> int:
    """Give the version of the tables, 0 where there are none."""
    if not sa.inspect(connection).has_table(version.name):
        return 0
    found = connection.execute(sa.select(version.c.version)).scalar_one()
    if found > len(STEPS):
        raise HistoryError(
            f"{shown(address)}: the history has version {found} of its tables",
            f"This perfgate reads versions up to {len(STEPS)}.",
            "install a newer version: pip install --upgrade perfgate",
        )
    return int(found)
