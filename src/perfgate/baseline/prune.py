"""Which stored baselines does no test use any more?"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import NamedTuple

from perfgate.baseline.store import BaselineStore, StoredFile
from perfgate.model import Damage


class Unused(NamedTuple):
    """One baseline without a test; ``case`` is None when the test module is gone and its whole file with it."""

    key: str
    module: str
    case: str | None


def unused(
    store: BaselineStore,
    collected: Mapping[str, Collection[str]],
    module_exists: Callable[[str], bool],
    keys: Collection[str] | None = None,
) -> list[Unused]:
    """List what can be removed, sorted. A file with any damage is passed over: see :func:`damaged`.

    Args:
        store: where the baselines are.
        collected: for each module that pytest collected whole, without selection, the names of its cases.
        module_exists: tells whether the file of a test module is still there.
        keys: the hardware to look at; None for all. Where cases depend on the hardware, name the one that was collected
            on.
    """
    found: list[Unused] = []
    for file in _files(store, keys):
        gone = not module_exists(file.module)
        if not gone and file.module not in collected:
            continue
        loaded = store.load(file.key, file.module)
        if loaded.damages:
            continue
        cases = [None] if gone else sorted(loaded.cases.keys() - set(collected[file.module]))
        found.extend(Unused(file.key, file.module, case) for case in cases)
    return found


def damaged(store: BaselineStore, keys: Collection[str] | None = None) -> list[Damage]:
    """List the damages that keep files from being pruned."""
    return [damage for file in _files(store, keys) for damage in store.load(file.key, file.module).damages]


def remove(store: BaselineStore, items: Iterable[Unused]) -> list[Unused]:
    """Remove unused baselines, and the files and folders that are empty then.

    Returns:
        What was removed. A file that has become damaged since it was listed is left alone.

    Raises:
        BaselineError: a file cannot be written.
    """
    by_file: dict[tuple[str, str], list[Unused]] = {}
    for item in items:
        by_file.setdefault((item.key, item.module), []).append(item)
    removed: list[Unused] = []
    for (key, module), group in by_file.items():
        whole = any(item.case is None for item in group)
        gone = store.discard(key, module, None if whole else [item.case for item in group if item.case is not None])
        if gone is not None:
            removed.extend(item for item in group if item.case is None or item.case in gone)
    return removed


def _files(store: BaselineStore, keys: Collection[str] | None) -> list[StoredFile]:
    return [file for file in store.files() if keys is None or file.key in keys]
