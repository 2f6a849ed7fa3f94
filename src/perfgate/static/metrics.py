"""Which figures of compiled code are under the gate, and how much may each change?"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from perfgate.errors import SettingError
from perfgate.model import Better, Limit, Metric
from perfgate.static.figures import WIDTHS, Figures, by_class, mean_width
from perfgate.static.targets import TARGETS
from perfgate.units import parse_limit

_PERCENT = "%"


@dataclass(frozen=True)
class Spec:
    """One figure of a kernel as a metric.

    Attributes:
        name: as in files and in ``limits=`` of the marker.
        unit: base unit.
        better: which way it may always go.
        limit: how far it may go the other way.
        of: gives it.
        word: as it is read in a sentence.
        backend: of the only targets that it is a figure of; empty: of all.
        version: of the figures (``figures.VERSION``) from which on the same code has this one.
    """

    name: str
    unit: str
    better: Better
    limit: Limit
    of: Callable[[Figures], float]
    word: str
    backend: str = ""
    version: int = 1

    def applies(self, kernel: Figures) -> bool:
        """Tell whether it is a figure of the kernel's target."""
        return self.backend in ("", TARGETS[kernel.target].backend)


#: How far counts of accesses may grow, by two; and the bytes that they move, by one of the widest.
_ACCESSES = Limit(0.10, 2.0)
_BYTES = Limit(0.10, 1.0 * WIDTHS[0])
#: How far the share of asynchronous loads may drop. The copies before a loop are counted, too, as many as there are
#: stages, and what is loaded once beside them, a bias say: fewer stages or other tiles change the share, and leave the
#: pipeline. One that is lost drops it to 0.
_ASYNCHRONOUS = Limit(0.50)
#: Scalar registers are given to a wave in such steps (CDNA), or all of them (RDNA): fewer cost nothing.
_SCALARS = Limit(0.10, 16.0)
_SIDES = ("load", "store")


def _by_width(kernel: Figures, side: str) -> Mapping[int, int]:
    found: Mapping[int, int] = getattr(kernel.code, f"{side}s")
    return found


def _at_most(side: str, width: int) -> Spec:
    """Count the accesses up to a width.

    Those that become wider leave counts and join none, so no count grows; where some become narrower, or are added, one
    does.
    """
    if width == WIDTHS[-1]:
        return _of_class(side, width)
    everything = width == WIDTHS[0]
    name = f"{side}s" if everything else f"{side}s_at_most_{width}"
    word = f"global {side}s" if everything else f"{side}s of at most {width} bytes"

    def count(kernel: Figures) -> float:
        return sum(number for each, number in _by_width(kernel, side).items() if everything or each <= width)

    return Spec(name, "1", "lower", _ACCESSES, count, word)


def _of_class(side: str, width: int) -> Spec:
    name = f"{side}s_{width}" if width > WIDTHS[-1] else f"{side}s_narrower"
    word = f"{width}-byte {side}s" if width > WIDTHS[-1] else f"{side}s of 1 or 2 bytes"
    return Spec(name, "1", "lower", _ACCESSES, lambda kernel: by_class(_by_width(kernel, side))[width], word)


def _moved(side: str) -> Spec:
    """Count the bytes of a thread, which tells more traffic from wider accesses."""

    def count(kernel: Figures) -> float:
        return sum(width * number for width, number in _by_width(kernel, side).items())

    return Spec(f"{side}_bytes", "B", "lower", _BYTES, count, f"bytes of global {side}s", version=3)


def _mean(side: str) -> Spec:
    word = f"mean width of global {side}s"
    return Spec(
        f"{side}_width", "B", "higher", Limit(0.10), lambda kernel: mean_width(_by_width(kernel, side)), word, version=3
    )


_COUNTED = tuple(_at_most(side, width) for side in _SIDES for width in WIDTHS)
#: Every figure of a kernel, causes before what they do to the machine. Registers and shared memory may grow a little;
#: what that costs is occupancy, which may not drop at all.
SPECS: tuple[Spec, ...] = (
    Spec("registers", "1", "lower", Limit(0.10), lambda kernel: kernel.code.registers, "registers"),
    Spec("scalars", "1", "lower", _SCALARS, lambda kernel: kernel.code.scalars, "scalar registers", "hip"),
    Spec("shared_memory", "B", "lower", Limit(0.10), lambda kernel: kernel.shared, "shared memory"),
    Spec("occupancy", _PERCENT, "higher", Limit(), lambda kernel: 100 * kernel.occupancy, "occupancy"),
    Spec("spills", "1", "lower", Limit(), lambda kernel: kernel.code.spills, "spilled registers"),
    Spec("stack", "B", "lower", Limit(), lambda kernel: kernel.code.stack, "stack"),
    Spec("local_memory", "1", "lower", Limit(), lambda kernel: kernel.code.local_memory, "local-memory accesses"),
    *(_mean(side) for side in _SIDES),
    *_COUNTED,
    *(_moved(side) for side in _SIDES),
    Spec(
        "asynchronous",
        _PERCENT,
        "higher",
        _ASYNCHRONOUS,
        lambda kernel: 100 * kernel.asynchronous,
        "asynchronous loads",
        "cuda",
        version=4,
    ),
    Spec("tensor_core", "1", "higher", Limit(), lambda kernel: kernel.code.tensor_core, "tensor-core instructions"),
    Spec("barriers", "1", "lower", Limit(0.10), lambda kernel: kernel.code.barriers, "barriers"),
    Spec(
        "narrow_offsets", "1", "lower", Limit(), lambda kernel: len(kernel.narrow_offsets), "32-bit offsets", version=4
    ),
    Spec("instructions", "1", "lower", Limit(0.05), lambda kernel: kernel.code.instructions, "instructions"),
    Spec("code_size", "B", "lower", Limit(0.05), lambda kernel: kernel.code.code_size, "code size"),
)
#: What describes a kernel that is not judged: accesses are counted width by width.
DESCRIBING: tuple[Spec, ...] = (
    *(spec for spec in SPECS if spec not in _COUNTED),
    *(_of_class(side, width) for side in _SIDES for width in WIDTHS),
)
#: Of the launch as a whole.
LAUNCHES = "launches"
#: Forms of kernels that do not compile, or do not fit the target, of a launcher that catches that and goes on.
PASSED_OVER = "passed_over"
#: torch's operators on the device beside the kernels, and bytes of the tensors that come into being meanwhile.
OPERATORS, ALLOCATED = "operators", "allocated"
_UNITS_OF_LAUNCH: Mapping[str, str] = {LAUNCHES: "1", PASSED_OVER: "1", OPERATORS: "1", ALLOCATED: "B"}
#: How far they may grow; the others not at all.
_LIMITS_OF_LAUNCH = {ALLOCATED: Limit(0.01, 4096.0)}
#: Figures that hardly any launch has: 0 is not stored.
_RARE = frozenset({PASSED_OVER, OPERATORS})
WORDS: Mapping[str, str] = {
    **{spec.name: spec.word for spec in (*DESCRIBING, *SPECS)},
    LAUNCHES: "kernel launches",
    PASSED_OVER: "kernels passed over",
    OPERATORS: "torch operators",
    ALLOCATED: "memory of new tensors",
}
_UNITS: Mapping[str, str] = {**{spec.name: spec.unit for spec in SPECS}, **_UNITS_OF_LAUNCH}


def metrics_of(
    kernels: Iterable[Figures], of_launch: Mapping[str, tuple[float, str]], limits: Mapping[str, Limit]
) -> tuple[Metric, ...]:
    """Turn the figures of a launch into metrics, which repeat exactly.

    With one kernel they go by the figure's name, so that the kernel may be renamed; with several each is
    ``<kernel>.<figure>``.

    Args:
        kernels: what the launch launched.
        of_launch: the figures of the launch as a whole, by name, and what each counts, in words.
        limits: by figure, instead of the usual ones.
    """
    kernels = tuple(kernels)
    found = [
        Metric(
            name,
            _UNITS_OF_LAUNCH[name],
            float(value),
            limit=limits.get(name, _LIMITS_OF_LAUNCH.get(name, Limit())),
            unless_stored=0.0 if name in _RARE else None,
            about=about,
        )
        for name, (value, about) in of_launch.items()
    ]
    for kernel in kernels:
        prefix = f"{kernel.name}." if len(kernels) > 1 else ""
        found += [
            Metric(
                prefix + spec.name, spec.unit, float(spec.of(kernel)), spec.better, limits.get(spec.name, spec.limit)
            )
            for spec in SPECS
            if spec.applies(kernel)
        ]
    return tuple(found)


def split(metric: str) -> tuple[str, str]:
    """Split a metric's name into kernel and figure; the kernel is empty where there is only one."""
    kernel, _, figure = metric.rpartition(".")
    return kernel, figure


def read_limits(given: object, where: str) -> dict[str, Limit]:
    """Check the ``limits`` of a marker.

    Raises:
        SettingError: it is not a mapping from figures to limits.
    """
    if not isinstance(given, Mapping):
        raise SettingError(
            f"{where}: static marker: limits={given!r} cannot be used", hint='write limits={"registers": "20%"}'
        )
    limits = {}
    for name, text in given.items():
        if name not in _UNITS:
            raise SettingError(
                f"{where}: static marker: limits: there is no figure {name!r}", hint=f"figures are {', '.join(_UNITS)}"
            )
        try:
            limits[name] = parse_limit(str(text), _UNITS[name])
        except SettingError as error:
            raise SettingError(f"{where}: static marker: {name}: {error.what}", error.why, error.hint) from None
    return limits
