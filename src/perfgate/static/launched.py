"""Which compiled kernels did a timed call launch, what are their figures, and are their launches declared?

Asked on a GPU, in the untimed pass of a case. What is found is shown beside a regression of time and gates nothing.
"""

from __future__ import annotations

import contextlib
import importlib.util
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from perfgate.static.answers import FORMS, Answer, Question
from perfgate.static.figures import VERSION, Figures, Form
from perfgate.static.find import MODULE
from perfgate.static.metrics import DESCRIBING, Spec
from perfgate.static.pool import Pool
from perfgate.static.targets import TARGETS, of_device
from perfgate.static.words import differences

if TYPE_CHECKING:
    from perfgate.static.undeclared_marker import Marker

#: One launched kernel: its figures, and under FORM, FUNCTION and TARGET what it was compiled for; under FIGURES the
#: version of the figures.
Record = Mapping[str, "float | str"]

FORM, FUNCTION, TARGET, DIGEST, FIGURES = "form", "function", "target", "digest", "figures"
_SEPARATOR = "; "
#: Version of the figures, at the least, of records that do not tell it.
_UNTOLD = 1
_AS_FAR = " as far as their versions count alike"


class UndeclaredLaunch(UserWarning):
    """A timed case, or a test, launches a kernel in a form that no launch beside it declares."""


@contextlib.contextmanager
def recording() -> Iterator[list[Any]]:
    """Collect Triton's records of the kernels that are launched inside of the block, each compiled form once.

    A process that has not imported triton launches none of its kernels.
    """
    found: list[Any] = []
    jit = sys.modules.get("triton.runtime.jit")
    if jit is None:
        yield found
        return
    original = jit.JITFunction.run
    seen: set[int] = set()

    def run(self: Any, *args: Any, **kwargs: Any) -> Any:
        kernel = original(self, *args, **kwargs)
        if kernel is not None and id(kernel) not in seen:
            seen.add(id(kernel))
            found.append(kernel)
        return kernel

    jit.JITFunction.run = run
    try:
        yield found
    finally:
        jit.JITFunction.run = original


def describe(kernels: Iterable[Any]) -> dict[str, Record]:
    """Give the records of compiled kernels by name; one that cannot be read is left out.

    Args:
        kernels: Triton's own records (``CompiledKernel``), in the order of their launch.
    """
    from perfgate.static.reading import figures_of

    found: dict[str, Record] = {}
    for kernel in kernels:
        # What is wrong with a kernel's description is no reason to lose what was measured of it.
        with contextlib.suppress(Exception):
            made_for = kernel.metadata.target
            target = of_device(made_for.backend, made_for.arch)
            if target is None:
                continue
            figures = figures_of(kernel, target)
            number = sum(name.split("#")[0] == figures.name for name in found) + 1
            found[figures.name if number == 1 else f"{figures.name}#{number}"] = record_of(figures)
    return found


def record_of(figures: Figures) -> Record:
    """Give the record of one kernel."""
    return {
        **{spec.name: float(spec.of(figures)) for spec in DESCRIBING if spec.applies(figures)},
        FIGURES: VERSION,
        DIGEST: figures.code.digest,
        FUNCTION: figures.form.kernel,
        TARGET: figures.target,
        FORM: form_text(figures.form),
    }


def form_text(form: Form) -> str:
    """Write what a kernel was compiled for, e.g. ``x_ptr *bf16:16; TILE =4096; num_warps 8``."""
    return _SEPARATOR.join(f"{name} {value}" for name, value in {**form.arguments, **form.options}.items())


def compared(before: Mapping[str, Record], now: Mapping[str, Record]) -> list[str]:
    """Tell how the kernels of a case differ from those of its baseline, a line each; nothing where one is unknown.

    Compared are the figures that the versions of both records count alike, all of them where it is one version.
    """
    if not before or not now:
        return []
    lines = []
    for name, record in now.items():
        if name not in before:
            lines.append(f"kernel {name}: not launched when the baseline was recorded")
            continue
        told = _changes(before[name], record)
        if told:
            lines.append(f"kernel {name}: {', '.join(told)}")
    lines += [f"kernel {name}: no longer launched" for name in before if name not in now]
    if lines:
        return lines
    if all(DIGEST in record for records in (before, now) for record in records.values()):
        return ["the compiled kernels are identical"]
    left = any(_left(before[name], record) for name, record in now.items())
    return [f"the compiled kernels have the same figures{_AS_FAR if left else ''}"]


def _changes(before: Record, now: Record) -> list[str]:
    """Tell what differs between two records of a kernel."""
    forms = _form_changes(str(before.get(FORM, "")), str(now.get(FORM, "")))
    known = DIGEST in before and DIGEST in now
    same = known and before[DIGEST] == now[DIGEST]
    left = _left(before, now)
    units = {spec.name: spec.unit for spec in DESCRIBING if spec not in left}
    told = [*differences(_figures(before, units), _figures(now, units)), *forms]
    if told or same or not known:
        return told
    return [f"other instructions, the same figures{_AS_FAR if left else ''}"]


def _left(before: Record, now: Record) -> list[Spec]:
    """List the figures that the versions of two records count otherwise."""
    first, last = sorted(float(record.get(FIGURES, _UNTOLD)) for record in (before, now))
    # What a later version than this one counts otherwise is not known here.
    return [spec for spec in DESCRIBING if not (first == last or spec.version <= first < last <= VERSION)]


def _figures(record: Record, units: Mapping[str, str]) -> dict[str, tuple[str, float]]:
    return {name: (unit, float(record[name])) for name, unit in units.items() if name in record}


def _form_changes(before: str, now: str) -> list[str]:
    """Tell which arguments or options a kernel was compiled for otherwise."""
    old, new = form_parts(before), form_parts(now)
    return [
        f"{name} {old.get(name, 'absent')} -> {new.get(name, 'absent')}"
        for name in {**old, **new}
        if old.get(name) != new.get(name)
    ]


def _differences(
    declared: Mapping[str, str], launched: Mapping[str, str], permitted: Collection[str] = ()
) -> list[str]:
    """Tell what a launch has otherwise that is not permitted.

    Compared is what both tell: of a compiled kernel Triton does not tell every option that a launch may give.
    """
    return [
        f"{name} {value} -> {launched[name]}"
        for name, value in declared.items()
        if launched.get(name, value) != value and name not in permitted
    ]


def form_parts(form: str) -> dict[str, str]:
    """Read what :func:`form_text` wrote: arguments and options by their names."""
    return dict(part.split(" ", 1) for part in form.split(_SEPARATOR) if " " in part)


def undeclared(records: Iterable[Record], pool: Pool, markers: Sequence[Marker] = ()) -> list[str]:
    """Tell which kernels were launched in a form that no launch declares and no marker allows.

    Only kernels whose package declares launches are looked at.

    Args:
        records: of launched kernels.
        pool: looks at the declared launches.
        markers: ``undeclared_launches`` markers of the test that launched them.
    """
    # Here alone: reading what was launched, to show a run, needs no pytest.
    from perfgate.static.undeclared_marker import allowed

    lines: dict[str, None] = {}
    for record in records:
        function, target = str(record[FUNCTION]), str(record[TARGET])
        place = declared_in(function.rpartition(".")[0])
        if place is None:
            continue
        answer = pool.ask(Question(place, "", target, FORMS))
        if answer.status in ("no_compiler", "no_target"):
            continue
        if answer.status != "compiled":
            lines[f"the launches of {place} cannot be looked at: {answer.reason}"] = None
            continue
        known = _declared_forms(answer, function, target)
        name = function.rpartition(".")[2]
        if not known:
            if not allowed(markers, [name]):
                lines[f"{name} is launched, and no launch of {place} launches it"] = None
            continue
        parts = form_parts(str(record[FORM]))
        permitted = allowed(markers, parts)
        nearest = min((_differences(form, parts, permitted) for form in known), key=len)
        if not nearest:
            continue
        lines[f"{name} is launched in a form that no launch of {place} has; nearest: {', '.join(nearest)}"] = None
    return list(lines)


def declared_in(module: str) -> str | None:
    """Give the import path of the launches beside a kernel's module, or None."""
    package = module.rpartition(".")[0]
    if not package:
        return None
    place = f"{package}.{MODULE}"
    with contextlib.suppress(ImportError, ValueError):
        return place if importlib.util.find_spec(place) is not None else None
    return None


def _declared_forms(answer: Answer, function: str, target: str) -> list[Mapping[str, str]]:
    """Give the forms of a function that launches declare, compiled or not, and what was tuned for this target.

    A launch need not give each option: Triton has a default for it.
    """
    from perfgate.static.reading import default_options

    defaults = default_options(TARGETS[target])
    return [
        {**defaults, **form.arguments, **form.options}
        for forms in answer.forms.values()
        for form in forms
        if form.kernel == function
    ]
