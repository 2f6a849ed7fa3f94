"""Where are tuned configurations kept, and how do they come back?

One file a kernel and hardware key, ``baselines/<key>/tuning/<kernel>.json``, as ``perfgate/schema/tuning.schema.json``
says::

    {
      "schema": 1,
      "key": "nvidia-h200",
      "kernel": "row_quantization",
      "environments": {
        "0f2ab81c9d3e": {"driver": "580.1", "python": "3.12.3", "torch": "2.11.0", "triton": "3.6.0"}
      },
      "classes": {
        "int8-16bit-3584-128": {
          "recorded": {"date": "2026-01-31T12:00:00+00:00", "environment": "0f2ab81c9d3e"},
          "default": {"num_warps": 4, "one_pass": true, "tile": 1024},
          "default_s": 2.41e-06,
          "config": {"num_warps": 8, "one_pass": true, "tile": 2048},
          "config_s": 2.3e-06
        }
      }
    }

Like a baseline it is made for review and for git: everything is sorted, and a class that is tuned again changes its own
lines. A class for which the default is best has the ``config`` null.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perfgate.baseline import document
from perfgate.baseline.files import locked
from perfgate.baseline.format import SIGNIFICANT_DIGITS, dump_environment, environment_id
from perfgate.baseline.layout import TUNING, baseline_path

SCHEMA = 1
SCHEMA_FILE = "tuning.schema.json"
_KIND = document.Kind("a tuning file", SCHEMA_FILE, SCHEMA)
_LOCK_TIMEOUT_S = 60.0
#: What turns a configuration into code: with another version another configuration may be the fastest.
_COMPILED_BY = ("torch", "triton")


@dataclass(frozen=True)
class Tuned:
    """What is stored for one class of shapes.

    Attributes:
        config: the fields of the configuration to launch; None for the default.
        config_s: seconds that a call takes with it.
        default: the fields of the default, when it was tuned.
        default_s: seconds that a call takes with that.
        date: when it was tuned, as ISO 8601 in UTC.
        environment: the software that it was tuned with.
    """

    config: Mapping[str, Any] | None
    config_s: float
    default: Mapping[str, Any]
    default_s: float
    date: str
    environment: Mapping[str, str]


def device_key(index: int) -> str | None:
    """Give the hardware key of a device as torch counts them, or None."""
    from perfgate.hardware import detect

    devices = [device for device in detect().devices if device.kind != "cpu"]
    return devices[index].key if 0 <= index < len(devices) else None


def other_software(tuned: Tuned, index: int) -> str:
    """Name the software that a configuration was tuned with, where a device has another one now; else nothing.

    Args:
        tuned: what is stored.
        index: of the device, as torch counts them.

    Returns:
        E.g. ``"torch 2.11.0, triton 3.6.0"``: those that differ. What was not recorded is not known to differ.
    """
    from perfgate.hardware import detect

    hardware = detect()
    devices = [device for device in hardware.devices if device.kind != "cpu"]
    now = hardware.environments.get(devices[index].kind, {}) if 0 <= index < len(devices) else {}
    differing = (name for name in _COMPILED_BY if tuned.environment.get(name) not in (None, now.get(name)))
    return ", ".join(f"{name} {tuned.environment[name]}" for name in differing)


def path_of(root: Path, key: str, kernel: str) -> Path:
    """Give the file of a kernel; raise BaselineError where key or kernel cannot name one."""
    return baseline_path(root, key, f"{TUNING}/{kernel}")


def load(root: Path, key: str, kernel: str) -> dict[str, Tuned]:
    """Read what is stored of a kernel, by class of shapes; nothing when there is no file.

    Args:
        root: the folder of all baselines.
        key: the hardware key.
        kernel: its name.

    Raises:
        BaselineError: the file cannot be read, is damaged, or is of another version.
    """
    path = path_of(root, key, kernel)
    again = f"delete it and run: perfgate tune {kernel}"
    contents = document.read(path, _KIND, again)
    if contents is None:
        return {}
    for name, wanted in (("key", path.parent.parent.name), ("kernel", path.stem)):
        if contents[name] != wanted:
            raise document.damaged(path, f"{name} is {json.dumps(contents[name])}, not {wanted!r}", again)
    environments = contents["environments"]
    return {
        name: Tuned(
            fields["config"],
            float(fields["config_s"]),
            fields["default"],
            float(fields["default_s"]),
            fields["recorded"]["date"],
            environments.get(fields["recorded"]["environment"], {}),
        )
        for name, fields in contents["classes"].items()
    }


def merge(root: Path, key: str, kernel: str, tuned: Mapping[str, Tuned]) -> Path:
    """Store classes of shapes beside those that the file has already; give the file.

    Raises:
        BaselineError: the file is damaged or cannot be written; it is left as it was.
    """
    path = path_of(root, key, kernel)
    with locked(root, _LOCK_TIMEOUT_S):
        text = _text(key, kernel, {**load(root, key, kernel), **tuned})
        document.write(path, text, "What was found")
    return path


def _text(key: str, kernel: str, tuned: Mapping[str, Tuned]) -> str:
    environments: dict[str, Mapping[str, str]] = {}
    classes = []
    for name, entry in sorted(tuned.items()):
        identifier = environment_id(entry.environment, environments)
        environments[identifier] = entry.environment
        lines = {
            "recorded": {"date": entry.date, "environment": identifier},
            "default": entry.default,
            "default_s": _rounded(entry.default_s),
            "config": entry.config,
            "config_s": _rounded(entry.config_s),
        }
        body = ",\n".join(
            f"      {json.dumps(part)}: {json.dumps(value, sort_keys=part != 'recorded')}"
            for part, value in lines.items()
        )
        classes.append(f"    {json.dumps(name)}: {{\n{body}\n    }}")
    software = [f"    {json.dumps(name)}: {dump_environment(environments[name])}" for name in sorted(environments)]
    return (
        f'{{\n  "schema": {SCHEMA},\n  "key": {json.dumps(key)},\n  "kernel": {json.dumps(kernel)},\n'
        f'  "environments": {_block(software)},\n  "classes": {_block(classes)}\n}}\n'
    )


def _rounded(seconds: float) -> float:
    return float(f"{seconds:.{SIGNIFICANT_DIGITS}g}")


def _block(members: Iterable[str]) -> str:
    text = ",\n".join(members)
    return f"{{\n{text}\n  }}" if text else "{}"
