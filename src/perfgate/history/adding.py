"""How does a run become rows of the tables? Once, whatever the number of those that add it at the same time.

Heavy: imports SQLAlchemy.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from perfgate.history import tables
from perfgate.history.entry import Entry, Point

#: What a point says of itself: attributes of a point, and columns of their table.
FIELDS = ("value", "low", "high", "verdict", "allowed")


def add(connection: sa.Connection, entry: Entry) -> bool:
    """Add a run, its figures, and the series that are new.

    Args:
        connection: in a writing transaction.
        entry: the run.

    Returns:
        Whether it was not there before.
    """
    insert: Any = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    added = connection.execute(
        insert(tables.runs)
        .values(
            identity=entry.identity,
            source=entry.source,
            published=entry.published,
            started_s=entry.started_s,
            revision=entry.revision,
            host=entry.host,
            software=json.dumps(dict(entry.software), sort_keys=True),
        )
        .on_conflict_do_nothing(index_elements=["identity"])
        .returning(tables.runs.c.id)
    ).scalar_one_or_none()
    if added is None:
        return False
    if entry.points:
        ids = _series_ids(connection, insert, entry.points)
        rows = [
            {
                "series_id": ids[_place(point)],
                "run_id": added,
                **{name: getattr(point, name) for name in FIELDS},
            }
            for point in entry.points
        ]
        connection.execute(tables.points.insert(), rows)
    return True


def _place(point: Point) -> tuple[str, str, str, str]:
    return point.case, point.key, point.metric, point.unit


def _series_ids(connection: sa.Connection, insert: Any, points: Sequence[Point]) -> dict[tuple[str, ...], int]:
    """Give the ids of the series of some points; make those that are new."""
    table = tables.series
    query = sa.select(table).where(table.c.key.in_(sorted({point.key for point in points})))

    def known() -> dict[tuple[str, ...], int]:
        return {(row.name, row.key, row.metric, row.unit): row.id for row in connection.execute(query)}

    ids = known()
    # In one order for all writers: two that make the same series would otherwise wait for each other.
    new = sorted({(*_place(point), point.better) for point in points if _place(point) not in ids})
    if new:
        names = ("name", "key", "metric", "unit", "better")
        rows = [dict(zip(names, values, strict=True)) for values in new]
        connection.execute(insert(table).on_conflict_do_nothing(), rows)
        ids = known()
    return ids
