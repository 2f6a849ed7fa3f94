"""Which paths did a flag with an optional value take? Tests that stand behind it on the command line are given back."""

from __future__ import annotations

import os
from typing import Any


def free_compared_path(namespace: Any, args: list[str]) -> None:
    """Give a path back that ``--benchmark-compare PATH`` took for the name of a stored run.

    pytest-benchmark declares the flag with an optional value, so ``--benchmark-compare tests/`` would compare with
    a run called "tests/" and test everything. What looks like a path is one: pytest names it
    when it is missing.

    Args:
        namespace: the options known so far; changed in place.
        args: the command line; changed in place.
    """
    value = getattr(namespace, "benchmark_compare", None)
    if not isinstance(value, str) or not _is_test_path(value):
        return
    flag = "--benchmark-compare"
    for index in range(args.index("--") if "--" in args else len(args)):
        if args[index] == f"{flag}={value}":
            args[index] = value
        elif args[index : index + 2] == [flag, value]:
            del args[index]
        else:
            continue
        # At the end of the line the flag has nothing left to take.
        args.insert(args.index("--") if "--" in args else len(args), flag)
        namespace.benchmark_compare = True
        namespace.file_or_dir = [*namespace.file_or_dir, value]
        return


def _is_test_path(value: str) -> bool:
    """Whether a value names tests rather than a run that pytest-benchmark has stored."""
    path, colons, _ = value.partition("::")
    if colons or path.endswith(".py"):
        return True
    return not path.endswith(".json") and ("/" in path or os.path.exists(path))


def free_profiled_path(namespace: Any, args: list[str]) -> None:
    """Give a path back that ``--perf-profile PATH`` or ``--perf-history PATH`` took: their own comes after ``=``.

    Args:
        namespace: the options known so far; changed in place.
        args: the command line; changed in place.
    """
    end = args.index("--") if "--" in args else len(args)
    for index in range(end):
        if args[index] in ("--perf-profile", "--perf-history"):
            args[index] += "="
            if index + 1 < end and not args[index + 1].startswith("-"):
                namespace.file_or_dir = [*namespace.file_or_dir, args[index + 1]]
