"""Where is the history kept? A file of SQLite, or a database named by its address."""

from __future__ import annotations

import importlib.util
import os
import re
from pathlib import Path

from perfgate.errors import SettingError

#: The file at the root that holds the history when nothing else is named.
DEFAULT = "perf-history.sqlite"
#: Names the history where a command line should not show it: an address may hold a password.
VARIABLE = "PERFGATE_HISTORY"

_SQLITE = "sqlite:///"
_POSTGRESQL = "postgresql+psycopg://"
_KNOWN = ("sqlite", "postgresql", "postgres", "postgresql+psycopg")
_INSTALL = "pip install 'perfgate[history]'"
_INSTALL_POSTGRES = "pip install 'perfgate[history,postgres]'"


def locate(value: str, folder: Path, source: str) -> str:
    """Give the address of a history as SQLAlchemy reads it.

    Args:
        value: what the user gave: "" (the variable, else the default file), a path, or an address.
        folder: where a relative path begins.
        source: what the user gave it with, for messages.

    Raises:
        SettingError: the address is of no database that can be used, or what reaches it is not installed.
    """
    if not value and (value := os.environ.get(VARIABLE, "")):
        source = f"${VARIABLE}"
    scheme, colon, rest = (value or DEFAULT).partition("://")
    if not colon:
        address = _SQLITE + str(folder / scheme)
        if not scheme.strip() or (folder / scheme).is_dir():
            raise SettingError(
                f"{source}: {str(folder / scheme)!r} is a folder", hint=f"name a file: --perf-history={DEFAULT}"
            )
    elif scheme not in _KNOWN:
        raise SettingError(
            f"{source}: a history is not kept in {scheme!r}",
            hint=f"a path, {_SQLITE}PATH or {_POSTGRESQL}USER@HOST/DATABASE",
        )
    elif scheme == "sqlite":
        if not rest.startswith("/") or not rest.strip("/"):
            raise SettingError(f"{source}: {value!r} names no file", hint=f"{_SQLITE}PATH, or the path alone")
        path = rest[1:]
        address = _SQLITE + str(folder / path)
    else:
        address = _POSTGRESQL + rest
    _require("sqlalchemy", source, _INSTALL)
    if address.startswith(_POSTGRESQL):
        _require("psycopg", source, _INSTALL_POSTGRES)
    return address


def shown(address: str) -> str:
    """Write an address for people: a file as its path, and never a password."""
    if (path := file_of(address)) is not None:
        return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)
    # To the first @, as SQLAlchemy reads it, whatever stands between; and to one more, should the password hold that.
    hidden = re.sub(r"(://[^/@:]*):[^@]*@(?:[^/?@]*@)*", r"\1:***@", address)
    return re.sub(r"([?&](?:ssl)?password=)[^&]*", r"\1***", hidden)


def file_of(address: str) -> Path | None:
    """Give the file of a history in SQLite; None for a server's."""
    return Path(address.removeprefix(_SQLITE)) if address.startswith(_SQLITE) else None


def _require(module: str, source: str, install: str) -> None:
    if importlib.util.find_spec(module) is None:
        raise SettingError(f"{source}: {module} is not installed, and it is what reaches the history", hint=install)
