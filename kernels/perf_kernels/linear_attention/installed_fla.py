"""Which of fla's functions are installed? Imported when one is called, never before, and never replaced by another."""

from __future__ import annotations

import importlib
import importlib.metadata
import warnings
from collections.abc import Callable
from typing import Any

INSTALL = "pip install fla-core"


def function(caller: str, implementation: str, module: str, name: str) -> Callable[..., Any]:
    """Import a function of fla.

    Args:
        caller: the function to name in a message.
        implementation: what the user asked for.
        module: e.g. "fla.ops.linear_attn".
        name: e.g. "chunk_linear_attn".

    Raises:
        ModuleNotFoundError: fla, or something it needs, is not installed.
    """
    try:
        with warnings.catch_warnings():
            # On a machine without a GPU fla warns that it found none; who calls it there gets an error of ours.
            warnings.simplefilter("ignore")
            return getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{caller}: implementation {implementation!r} needs fla, and {error.name} is not installed\n"
            f"hint: {INSTALL}, or choose another implementation",
            name=error.name,
        ) from error


def version() -> str | None:
    """Give the version of fla-core, or None if it is not installed."""
    try:
        return importlib.metadata.version("fla-core")
    except importlib.metadata.PackageNotFoundError:
        return None
