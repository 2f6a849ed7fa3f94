"""Which baselines are there, and how do new ones get in without losing any?"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from perfgate.baseline.check import Contents, Origin, examine
from perfgate.baseline.files import locked, read_file, remove_file, replace_file
from perfgate.baseline.format import dump, dump_case, dump_environment, environment_id
from perfgate.baseline.layout import baseline_path, display_path, module_of
from perfgate.errors import BaselineError
from perfgate.model import Baseline, Damage


@dataclass(frozen=True)
class LoadedFile:
    """The baselines of one test module: those that can be used, and what is wrong with the others."""

    path: Path
    exists: bool
    cases: Mapping[str, Baseline]
    damages: tuple[Damage, ...] = ()

    def damage_of(self, case: str) -> tuple[Damage, ...]:
        """Give what keeps a case from being compared: its own damages and those of the whole file."""
        return tuple(damage for damage in self.damages if damage.case is None or damage.case == case)


@dataclass(frozen=True)
class StoredFile:
    """One baseline file."""

    key: str
    module: str
    path: Path


class BaselineStore:
    """The folder of all baselines: one folder a hardware key, one file a test module, one entry a case.

    A module is its path below pytest's rootdir without ``.py``; a case is what follows the first ``::`` of its node id.

    Args:
        root: the folder; it need not exist.
        lock_timeout_s: how long to wait for another writer.
    """

    def __init__(self, root: Path, *, lock_timeout_s: float = 60.0) -> None:
        self.root = root
        self.lock_timeout_s = lock_timeout_s

    def path(self, key: str, module: str) -> Path:
        """Give the file of a module's baselines; raise BaselineError where none can be."""
        return baseline_path(self.root, key, module)

    def load(self, key: str, module: str) -> LoadedFile:
        """Read the baselines of a module on one kind of hardware.

        Raises:
            BaselineError: key or module cannot name a file. Whatever is wrong with the file itself is a damage.
        """
        path = self.path(key, module)
        found = self._contents(path, key, module)
        contents = found or Contents({})
        return LoadedFile(path, found is not None, contents.cases, contents.damages)

    def merge(self, key: str, module: str, baselines: Mapping[str, Baseline], *, keep_existing: bool = False) -> Path:
        """Store baselines by case, and leave every other entry of the file as it stands, even where it is damaged.

        Args:
            key: the hardware key.
            module: the test module.
            baselines: what to store, by the name of the case in the file.
            keep_existing: leave alone a case that by now has a baseline that can be used.

        Returns:
            The file.

        Raises:
            BaselineError: the file is unusable as a whole or cannot be written; it is left as it was.
        """
        path = self.path(key, module)
        with locked(self.root, self.lock_timeout_s):
            contents = self._editable(path, key, module, len(baselines))
            kept = contents.cases if keep_existing else {}
            fresh = {case: baseline for case, baseline in baselines.items() if case not in kept}
            if fresh:
                self._write(path, key, module, _text(key, contents, fresh, ()), fresh)
        return path

    def discard(self, key: str, module: str, cases: Collection[str] | None = None) -> tuple[str, ...] | None:
        """Remove the entries of some cases, or of all; a file without entries goes too. Leave a damaged file alone.

        Returns:
            The names of the removed cases; None when the file is damaged, or there is none.

        Raises:
            BaselineError: the file cannot be written.
        """
        path = self.path(key, module)
        if not os.path.exists(path):
            return None
        with locked(self.root, self.lock_timeout_s):
            contents = self._contents(path, key, module)
            if contents is None or contents.damages:
                return None
            removed = tuple(case for case in contents.cases if cases is None or case in cases)
            if len(removed) == len(contents.cases):
                try:
                    remove_file(path, self.root)
                except OSError as error:
                    raise _unwritable(path, error, "The unused baselines are still there.") from error
            elif removed:
                self._write(path, key, module, _text(key, contents, {}, removed), {})
            return removed

    def keys(self) -> tuple[str, ...]:
        """Give the hardware keys that have a folder, sorted; raise BaselineError if the folder cannot be read."""
        try:
            with os.scandir(self.root) as entries:
                return tuple(sorted(entry.name for entry in entries if entry.is_dir() and entry.name[0] != "."))
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise _unreadable(error, self.root) from error

    def modules(self, key: str) -> tuple[str, ...]:
        """Give the modules that have a file under a key, sorted; raise BaselineError if a folder cannot be read."""
        folder = self.path(key, "module").parent
        try:
            paths = (Path(at, name) for at, _, names in os.walk(folder, onerror=_raise) for name in names)
            return tuple(sorted(module for path in paths if (module := module_of(folder, path)) is not None))
        except OSError as error:
            raise _unreadable(error, folder) from error

    def files(self) -> tuple[StoredFile, ...]:
        """Give all baseline files, sorted by key and module."""
        return tuple(
            StoredFile(key, module, self.path(key, module)) for key in self.keys() for module in self.modules(key)
        )

    def _contents(self, path: Path, key: str, module: str) -> Contents | None:
        """Read and check a file; None when there is none."""
        origin = Origin(display_path(path), key, module.removesuffix(".py"))
        try:
            return examine(read_file(path), origin)
        except FileNotFoundError:
            return None
        except OSError as error:
            hint = "check what lies there, and the permissions of the file and its folders"
            return Contents({}, (origin.whole(f"cannot be read: {error.strerror}", hint=hint),))

    def _editable(self, path: Path, key: str, module: str, count: int) -> Contents:
        contents = self._contents(path, key, module) or Contents({})
        if damage := contents.whole_damage:
            results = "1 new result is" if count == 1 else f"{count} new results are"
            why = f"{results} not stored: writing the file would lose what is in it."
            raise BaselineError(str(damage), why, damage.hint)
        return contents

    def _write(self, path: Path, key: str, module: str, text: str, fresh: Mapping[str, Baseline]) -> None:
        data = text.encode("ascii")
        # The reader's checks are the writer's: a result that could not be read back must not replace one that can.
        for damage in examine(data, Origin(display_path(path), key, module)).damages:
            if damage.case is None or damage.case in fresh:
                raise BaselineError(
                    f"a new result cannot be stored in {damage}",
                    "None of the new results for this file are stored; it is left as it was.",
                    "correct the figure in the test, or leave the test out of the recording",
                )
        try:
            replace_file(path, data)
        except OSError as error:
            why = "The new results are not stored; what was stored before is unchanged."
            raise _unwritable(path, error, why) from error


def _text(key: str, contents: Contents, fresh: Mapping[str, Baseline], removed: Iterable[str]) -> str:
    """Give the text of a file with some cases replaced or removed, and without environments that nothing refers to."""
    gone = {*fresh, *removed}
    cases = [(entry.name, entry.raw) for entry in contents.entries if entry.name not in gone]
    environments = [(entry.name, entry.raw) for entry in contents.environments]
    times = Counter(entry.name for entry in contents.environments)
    # One that is given twice, or gives a name twice, is damaged: no new case may refer to it.
    taken = {
        entry.name: entry.value if times[entry.name] == 1 and type(entry.value) is dict else None
        for entry in contents.environments
    }
    for case, baseline in fresh.items():
        name = environment_id(baseline.environment, taken)
        if name not in taken:
            taken[name] = dict(baseline.environment)
            environments.append((name, dump_environment(baseline.environment)))
        cases.append((case, dump_case(baseline, name)))
    # A damaged entry may name its environment in a place of its own: any mention counts.
    mentioned = "".join(raw for _, raw in cases)
    return dump(key, [(name, raw) for name, raw in environments if f'"{name}"' in mentioned], cases)


def _unwritable(path: Path, error: OSError, why: str) -> BaselineError:
    return BaselineError(
        f"{display_path(path)}: cannot be written: {error.strerror}",
        why,
        "check the free space and the permissions of its folder, or name another with --perf-baselines=DIR",
    )


def _unreadable(error: OSError, folder: Path) -> BaselineError:
    return BaselineError(
        f"{display_path(Path(error.filename or folder))}: the folder cannot be read: {error.strerror}",
        "Baselines in it would be overlooked.",
        "check its permissions, or name another folder with --perf-baselines=DIR",
    )


def _raise(error: OSError) -> None:
    # A folder may be removed by another process while this one looks: then nothing is overlooked.
    if not isinstance(error, FileNotFoundError):
        raise error
