"""Where are results kept, how are they read back, and what is wrong with those that cannot be?

``layout`` names the file of a case, ``format``, ``fields`` and ``check`` turn records into text and text into records
and damages, ``files`` reads, locks and replaces, and ``store`` brings them together. ``record`` makes a baseline of
several processes' measurements, ``prune`` removes what no test uses any more. Standard library only: the pytest plugin
may import this at start.
"""

from __future__ import annotations

from perfgate.baseline.layout import split_node_id
from perfgate.baseline.prune import Unused, damaged, remove, unused
from perfgate.baseline.record import to_baseline
from perfgate.baseline.store import BaselineStore, LoadedFile, StoredFile

__all__ = [
    "BaselineStore",
    "LoadedFile",
    "StoredFile",
    "Unused",
    "damaged",
    "remove",
    "split_node_id",
    "to_baseline",
    "unused",
]
