"""Under which key are the baselines of a device stored?

A key is a folder name that separates what must not be compared: vendor and model, memory size, power limit and MIG
profile of a GPU; model and number of usable threads of a CPU. Examples: ``nvidia-h200``, ``nvidia-h200-500w``,
``nvidia-h200-mig-1g-18gb``, ``nvidia-geforce-rtx-3080-10gb-320w``, ``cpu-amd-epyc-7b13-8t``.

Names come from drivers and hypervisors and are not trusted. Two names share a key only if they differ in nothing but

- the case of ASCII letters,
- the marks (R), (TM) and (C),
- which of the separators space ``.`` ``-`` ``_`` ``@`` stand between words, how many, and any at the ends,
- a leading vendor (drivers before 470 say "Tesla T4", later ones may say "NVIDIA T4").

Every other character makes the key carry ``--`` and a hash of the whole name, which no plain name can contain.
"""

from __future__ import annotations

import hashlib
import math
import re
import string
from typing import NamedTuple, TypeGuard

GIB = 1024**3

#: Longest slug of a name, its hash included.
LONGEST = 64

_MARKS = re.compile(r"\((?:r|tm|c)\)|[®™©]", re.IGNORECASE | re.ASCII)
_SEPARATORS = re.compile(r"[ ._@-]+")
_LOST = re.compile(r"[^a-z0-9-]+")
# Only ASCII: str.lower() would fold the Kelvin sign into "k".
_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)
_RESERVED = re.compile(r"con|prn|aux|nul|com[0-9]|lpt[0-9]")


class Reference(NamedTuple):
    """The usual configuration of a model: what its key leaves unsaid."""

    memory_gb: int
    power_w: int


#: Models as their drivers name them, with the memory they are sold with and their default power limit.
REFERENCES: dict[str, Reference] = {
    "nvidia-h200": Reference(141, 700),
    "nvidia-h200-nvl": Reference(141, 600),
    "nvidia-h100-80gb-hbm3": Reference(80, 700),
    "nvidia-h100-pcie": Reference(80, 350),
    "nvidia-h100-nvl": Reference(94, 400),
    "nvidia-b200": Reference(180, 1000),
    "nvidia-a100-sxm4-40gb": Reference(40, 400),
    "nvidia-a100-sxm4-80gb": Reference(80, 400),
    "nvidia-a100-pcie-40gb": Reference(40, 250),
    "nvidia-a100-80gb-pcie": Reference(80, 300),
    "nvidia-a10": Reference(24, 150),
    "nvidia-a40": Reference(48, 300),
    "nvidia-l4": Reference(24, 72),
    "nvidia-l40s": Reference(48, 350),
    "nvidia-tesla-t4": Reference(16, 70),
    "nvidia-geforce-rtx-3090": Reference(24, 350),
    "nvidia-geforce-rtx-4090": Reference(24, 450),
    "amd-instinct-mi300x": Reference(192, 750),
    "amd-instinct-mi325x": Reference(256, 1000),
}

#: Memory sizes that cards are sold with, in GB. What a driver reports is a few percent less, and depends on ECC and on
#: who is asked (torch leaves out what the driver keeps), so it is raised to the next of these.
_SIZES = (
    *(1, 2, 3, 4, 5, 6, 8, 10, 11, 12, 16, 20, 24, 32, 40, 48, 64),
    *(72, 80, 94, 96, 128, 141, 144, 180, 186, 192, 256, 288),
)


def slug(name: str) -> str:
    """Turn any text into a readable, safe and short file name of ``a-z``, ``0-9`` and ``-``.

    Args:
        name: text that may come from anywhere.

    Returns:
        1 to ``LONGEST`` characters that begin and end with a letter or digit.
    """
    plain = _SEPARATORS.sub("-", _MARKS.sub(" ", name).translate(_LOWER))
    safe = _LOST.sub("-", plain).strip("-")
    if _LOST.search(plain) is None and safe and len(safe) <= LONGEST and not _RESERVED.fullmatch(safe):
        return safe
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:10]
    head = re.sub("-+", "-", safe)[: LONGEST - len(digest) - 2].rstrip("-")
    return f"{head or 'unnamed'}--{digest}"


def printable(text: str) -> str:
    """Make untrusted text fit for a terminal and a report: one line, nothing invisible, at most 120 characters."""
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text.strip())
    return shown if len(shown) <= 120 else shown[:117] + "..."


def memory_class_gb(memory_bytes: float) -> int:
    """Give the size in GB that a card with this much reported memory is sold with."""
    gib = memory_bytes / GIB
    return next((size for size in _SIZES if gib <= size), math.ceil(gib / 32) * 32)


def _known(figure: float | None) -> TypeGuard[float]:
    """Tell whether a figure says anything: drivers answer 0 for what they cannot tell."""
    return figure is not None and math.isfinite(figure) and figure > 0


def gpu_key(
    vendor: str, model: str, memory_bytes: float | None, power_limit_w: float | None, mig: str | None = None
) -> str:
    """Give the key of a GPU.

    Args:
        vendor: "nvidia" or "amd".
        model: name of the whole card, without a MIG profile.
        memory_bytes: memory of the whole card, or None when unknown.
        power_limit_w: configured power limit of the whole card, or None when unknown.
        mig: MIG profile, e.g. "1g.18gb".
    """
    key = slug(model)
    if key != vendor and not key.startswith(f"{vendor}-"):
        key = f"{vendor}-{key}"
    usual = REFERENCES.get(key)
    if _known(memory_bytes) and (usual is None or memory_class_gb(memory_bytes) != usual.memory_gb):
        key += f"-{memory_class_gb(memory_bytes)}gb"
    if _known(power_limit_w) and (usual is None or round(power_limit_w) != usual.power_w):
        key += f"-{round(power_limit_w)}w"
    if mig is not None:
        # "1g.18gb+me" and "1g.24gb-me" are profiles with and without the media engines.
        key += f"-mig-{slug(mig.replace('+', '.plus.'))}"
    return key


def cpu_key(model: str, threads: int) -> str:
    """Give the key of a CPU of which this process may use so many logical processors."""
    return f"cpu-{slug(model)}-{threads}t"
