"""Which software does a measurement depend on, without importing any of it?"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from perfgate.hardware.key import printable
from perfgate.hardware.sources import Sources
from perfgate.model import DeviceKind

#: What is recorded for each kind of device, in this order. A change of any of these makes a baseline STALE.
RECORDED: Mapping[DeviceKind, tuple[str, ...]] = {
    "cuda": ("driver", "cuda", "torch", "triton", "python"),
    "rocm": ("driver", "rocm", "torch", "triton", "python"),
    "cpu": ("torch", "python"),
}

#: triton goes by other names in builds of torch for ROCm and in nightly builds.
_TRITON = ("triton", "triton-rocm", "pytorch-triton-rocm", "pytorch-triton")

# "2.13.0+cpu" and "2.13.0" may be the same build from two registries; the toolkit is recorded by itself.
# Any other local part ("+gitabc", "+nv25.01") is another build of torch and stays.
_TOOLKIT = re.compile(r"\+(?:cpu|cu[0-9]+|rocm[0-9.]+|xpu)$")


@dataclass(frozen=True)
class Software:
    """Versions found; None for what is not installed."""

    python: str
    torch: str | None = None
    triton: str | None = None
    #: The toolkits that torch was built with, e.g. "13.0" and "6.3.42131".
    cuda: str | None = None
    hip: str | None = None


def installed(sources: Sources) -> Software:
    """Look up the installed versions in the packages' metadata and in the text of torch's version file."""
    torch = sources.version("torch")
    text = (sources.package_text("torch", "torch/version.py") or "") if torch else ""
    return Software(
        python=sources.python,
        torch=_TOOLKIT.sub("", torch) if torch else None,
        triton=next(filter(None, map(sources.version, _TRITON)), None),
        cuda=_assigned("cuda", text),
        hip=_assigned("hip", text),
    )


def environment(kind: DeviceKind, software: Software, provider: Mapping[str, str]) -> dict[str, str]:
    """Give what is recorded with every measurement on a kind of device.

    Args:
        kind: "cuda", "rocm" or "cpu".
        software: installed versions.
        provider: what the device's provider knows: "driver", and "cuda" or "rocm" for a machine without torch.
            The toolkit that torch was built with goes before the newest one that the driver supports.
    """
    known: dict[str, str | None] = {
        **provider,
        "torch": software.torch,
        "triton": software.triton,
        "python": software.python,
    }
    for name, toolkit in (("cuda", software.cuda), ("rocm", software.hip)):
        if toolkit is not None:
            known[name] = toolkit
    return {name: printable(text) for name in RECORDED[kind] if (text := known.get(name))}


def _assigned(name: str, source: str) -> str | None:
    """Find the string that a line ``name: type = "string"`` of Python source assigns."""
    match = re.search(rf"""^{name}\b[^=\n]*=\s*['"]([^'"\n]+)['"]""", source, re.MULTILINE)
    return match[1] if match else None
