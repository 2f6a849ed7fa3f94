"""Which markers does perfgate know, what does each need, and may a case with these markers run here?

``MARKERS`` is the one table. A case is written for the kinds of device that its markers name; with both ``cuda`` and
``rocm`` it runs on whichever the machine has, and with several of AMD's architectures on each of them. A case without
any of the GPU markers runs on the CPU.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from perfgate.errors import SettingError

# Every start of pytest reads the table: nothing else is imported for it.
if TYPE_CHECKING:
    from perfgate.model import Device, DeviceKind, Hardware

#: Name, positional and keyword arguments of one marker, as in pytest's Mark.
Mark = tuple[str, tuple[Any, ...], Mapping[str, Any]]

#: Gives the reason why this machine lacks what a marker needs, or None. The case's markers come with their arguments, 0
#: where they have none.
Requirement = Callable[["Hardware", Mapping[str, float]], "str | None"]

_GIB = 1024**3
_FP8_CAPABILITY = (8, 9)
_FP8_ARCHS = ("gfx942", "gfx950", "gfx12")
#: AMD's architectures that have a marker: those that the static gate compiles for.
_ARCHS = {"gfx90a": "MI210, MI250X", "gfx942": "MI300X, MI325X", "gfx1100": "RX 7900, PRO W7900"}
_ACCELERATORS: tuple[DeviceKind, ...] = ("cuda", "rocm")


@dataclass(frozen=True)
class Marker:
    """One marker: what ``pytest --markers`` says of it, and what it means for a case."""

    doc: str
    #: What it needs of the machine; None for nothing.
    unmet: Requirement | None = None
    implies: frozenset[str] = frozenset()
    #: Whether a case with it runs on a GPU.
    accelerator: bool = False
    #: The one argument it takes, and whether it must be there.
    argument: str = ""
    required: bool = False
    #: Another argument that it may take: a name.
    label: str = ""
    #: Whether its arguments are many, and read where they are used.
    free: bool = False


#: What ``pytest --markers`` says of the marker that :mod:`perfgate.plan` reads.
PERF = (
    'perf(time="2%", memory="0", clock="wall", cache="cold", threads=1, budget=1.0, outcomes=()): '
    "how perfgate measures and judges a case. time, memory: allowed change, a share, an amount or both "
    '("2%", "0.3us", "2% or 0.25us": the larger). clock: "device" (time on the GPU, launch gaps excluded), '
    '"wall" or "both". cache: "cold" or "warm" L2 for the device clock. threads: of a CPU case. budget: seconds of '
    'sampling. outcomes: ways of failing that may be recorded as this case\'s baseline, e.g. ("out_of_memory",).'
)


def _needs_cuda(hardware: Hardware, _: Mapping[str, float]) -> str | None:
    return None if hardware.find("cuda") else "needs a CUDA device (cuda): this machine has none"


def _needs_rocm(hardware: Hardware, _: Mapping[str, float]) -> str | None:
    return None if hardware.find("rocm") else "needs a ROCm device (rocm): this machine has none"


def _needs_capability(name: str, least: tuple[int, int]) -> Requirement:
    need = f"needs compute capability {_dotted(least)} or more ({name})"

    def unmet(hardware: Hardware, _: Mapping[str, float]) -> str | None:
        device = hardware.find("cuda")
        if device is None:
            return f"{need}: this machine has no CUDA device"
        if device.capability is None:
            return f"{need}: that of {device.name} is unknown"
        return None if device.capability >= least else f"{need}: {device.name} has {_dotted(device.capability)}"

    return unmet


def _needs_arch(hardware: Hardware, given: Mapping[str, float]) -> str | None:
    # No architecture has all that another has, and a GPU has one: of several marked ones it is enough.
    archs = [name for name in _ARCHS if name in given]
    need = f"needs an AMD GPU of architecture {' or '.join(archs)} ({', '.join(archs)})"
    device = hardware.find("rocm")
    if device is None:
        return f"{need}: this machine has no ROCm device"
    if device.arch is None:
        return f"{need}: that of {device.name} is unknown"
    return None if device.arch in archs else f"{need}: {device.name} is {device.arch}"


def _needs_fp8(hardware: Hardware, _: Mapping[str, float]) -> str | None:
    need = "needs FP8 arithmetic (fp8)"
    device = hardware.accelerator
    if device is None:
        return f"{need}: this machine has no GPU"
    if device.kind == "rocm":
        if device.arch is None:
            return f"{need}: the architecture of {device.name} is unknown"
        return None if device.arch.startswith(_FP8_ARCHS) else f"{need}: {device.name} is {device.arch}"
    if device.capability is None:
        return f"{need}: the compute capability of {device.name} is unknown"
    if device.capability >= _FP8_CAPABILITY:
        return None
    return f"{need}: {device.name} has compute capability {_dotted(device.capability)}"


def _needs_multi_gpu(hardware: Hardware, _: Mapping[str, float]) -> str | None:
    device = hardware.accelerator
    if device is not None and device.count >= 2:
        return None
    return f"needs two or more GPUs (multi_gpu): this process sees {'one' if device else 'none'}"


def _needs_vram(hardware: Hardware, given: Mapping[str, float]) -> str | None:
    gib = given["vram"]
    device = hardware.accelerator
    memory = device.memory_bytes if device else 0
    if memory >= gib * _GIB:
        return None
    from perfgate import units

    need, has = units.together([gib * _GIB, memory], "B")
    need = f"needs {need} of device memory (vram)"
    if device is None:
        return f"{need}: this machine has no GPU"
    return f"{need}: {device.name} has {has}" if memory else f"{need}: that of {device.name} is unknown"


def _capability(name: str, least: tuple[int, int], such_as: str) -> Marker:
    return Marker(
        f"needs an NVIDIA GPU of compute capability {_dotted(least)} or more ({such_as}); implies cuda",
        _needs_capability(name, least),
        frozenset({"cuda"}),
        accelerator=True,
    )


def _arch(name: str) -> Marker:
    return Marker(
        f"needs an AMD GPU of exactly this architecture ({_ARCHS[name]}), or of one of several; implies rocm",
        _needs_arch,
        frozenset({"rocm"}),
        accelerator=True,
    )


def _dotted(capability: tuple[int, int]) -> str:
    return ".".join(map(str, capability))


MARKERS: Mapping[str, Marker] = {
    "cuda": Marker("runs on an NVIDIA GPU", _needs_cuda, accelerator=True),
    "rocm": Marker("runs on an AMD GPU; with cuda: on either", _needs_rocm, accelerator=True),
    "cpu": Marker("runs on the CPU"),
    "sm80": _capability("sm80", (8, 0), "A100 and later"),
    "sm89": _capability("sm89", (8, 9), "L4, RTX 40 and later"),
    "sm90": _capability("sm90", (9, 0), "H100 and later"),
    "sm100": _capability("sm100", (10, 0), "B200 and later"),
    **{name: _arch(name) for name in _ARCHS},
    "fp8": Marker(
        f"needs FP8 arithmetic: compute capability {_dotted(_FP8_CAPABILITY)} or more, or {', '.join(_FP8_ARCHS)}",
        _needs_fp8,
        accelerator=True,
    ),
    "multi_gpu": Marker("needs two or more visible GPUs", _needs_multi_gpu, accelerator=True),
    "vram": Marker(
        "needs a GPU with at least so many GiB of memory, as its driver reports them",
        _needs_vram,
        accelerator=True,
        argument="gib",
        required=True,
    ),
    "static": Marker(
        "compiles but runs nothing, so that it needs no GPU whatever its other markers say. launches: where a module "
        'maps names to functions that launch kernels ("package.module" for its LAUNCHES, or "package.module:NAME"); '
        "there is one case for each of them and each target, which gates the figures of the compiled kernels and hands "
        'them to the test as its argument compiled. targets: names such as ("sm90", "gfx942"), all by default. limits: '
        'allowed changes by figure, such as {"registers": "20%"}',
        argument="launches, targets=None, limits=None",
        free=True,
    ),
    "isolate": Marker(
        "runs in a child process, which is stopped after the timeout in seconds; a crash there ends this case only. "
        "Tests of one group share a process, which saves starting it: for those that profile, and time nothing",
        argument="timeout",
        label="group",
    ),
}


def ini_lines() -> list[str]:
    """Give a line for each marker in the form of pytest's ``markers`` option."""
    return [f"{_signature(name, marker)}: {marker.doc}." for name, marker in MARKERS.items()]


def implied(names: set[str]) -> set[str]:
    """Give the markers that these imply and that are not among them."""
    return set().union(*(MARKERS[name].implies for name in names if name in MARKERS)) - names


def validate(marks: Sequence[Mark]) -> None:
    """Check the arguments of every marker that is in the table; others are passed over.

    Raises:
        SettingError: a marker has arguments that it does not take, or lacks one. The caller adds where it stands.
    """
    for name, args, kwargs in marks:
        if name in MARKERS:
            _argument(name, args, kwargs)


def skip_reason(marks: Sequence[Mark], hardware: Hardware) -> str | None:
    """Tell why a case with these markers cannot run on this machine.

    Args:
        marks: the case's markers, the nearest first: of several with one name only that counts.
        hardware: the machine.

    Raises:
        SettingError: a marker has arguments that it does not take, or lacks one.

    Returns:
        The reason in one line, or None when it can run.
    """
    arguments: dict[str, float] = {}
    for name, args, kwargs in marks:
        if name in MARKERS:
            arguments.setdefault(name, _argument(name, args, kwargs))
    if "static" in arguments:
        return None
    names = set(arguments)
    # What a more exact marker implies need not be told again.
    covered = set().union(*(MARKERS[name].implies for name in names))
    kinds = _kinds(names)
    present = [kind for kind in kinds if hardware.find(kind)]
    reasons = []
    candidates: Sequence[DeviceKind | None] = present[:1] or kinds or [None]
    for kind in candidates:
        part = hardware if kind is None else _only(kind, hardware)
        others = frozenset(_ACCELERATORS) - {kind} if kind else frozenset()
        for name, marker in MARKERS.items():
            if name not in names - covered or marker.unmet is None or ({name} | marker.implies) & others:
                continue
            if reason := marker.unmet(part, arguments):
                reasons.append(reason)
                break
    return "; ".join(reasons) or None


def device_for(names: set[str], hardware: Hardware) -> Device:
    """Give the device that a case with these markers runs on.

    That is the first GPU of the kind they name, any GPU if they name none but need one, the CPU otherwise. A static
    case, and one that will be skipped for lack of a GPU, belongs to the CPU.
    """
    if "static" in names or not any(MARKERS[name].accelerator for name in names if name in MARKERS):
        return hardware.cpu
    kinds = _kinds(names)
    devices = [device for device in map(hardware.find, kinds) if device] if kinds else [hardware.accelerator]
    return next(filter(None, devices), hardware.cpu)


def _kinds(names: set[str]) -> list[DeviceKind]:
    """Give the kinds of GPU that markers name, by themselves or by implication."""
    return [kind for kind in _ACCELERATORS if kind in names | implied(names)]


def _only(kind: DeviceKind, hardware: Hardware) -> Hardware:
    """Leave only one kind of accelerator in a machine."""
    from perfgate.model import Hardware

    return Hardware(tuple(device for device in hardware.devices if device.kind in (kind, "cpu")))


def _argument(name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> float:
    """Give the number that a marker was given, 0 for none.

    Raises:
        SettingError: the arguments are not what the marker takes.
    """
    marker = MARKERS[name]
    if marker.free:
        return 0.0
    given = ", ".join([*map(repr, args), *(f"{key}={value!r}" for key, value in kwargs.items())])
    what = f"marker {name} cannot be used as {name}({given})"
    if not marker.argument:
        if given:
            raise SettingError(what, "It takes no arguments.", f"write @pytest.mark.{name}")
        return 0.0
    label = kwargs.get(marker.label)
    if isinstance(label, str) and label:
        kwargs = {key: value for key, value in kwargs.items() if key != marker.label}
    if not args and not kwargs and not marker.required:
        return 0.0
    # An optional argument is given by its name, so that the line in the test says what it is.
    values = [*(args if marker.required else ()), *(kwargs[name] for name in kwargs if name == marker.argument)]
    if len(values) == len(args) + len(kwargs) == 1 and (number := _positive(values[0])):
        return number
    if marker.required:
        raise SettingError(what, "It takes one positive number of GiB.", f"write @pytest.mark.{name}(24)")
    why = "It takes timeout=, a positive number of seconds, and group=, a name; both may be left out."
    raise SettingError(what, why, f"write @pytest.mark.{name}(timeout=60)")


def _positive(value: object) -> float | None:
    """Give a usable number, or None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) and value > 0 else None


def _signature(name: str, marker: Marker) -> str:
    if not marker.argument:
        return name
    if marker.required or marker.free:
        return f"{name}({marker.argument})"
    return f"{name}({marker.argument}=seconds, {marker.label}=name)"
