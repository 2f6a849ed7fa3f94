"""Is the launch of a static case another than that of its baseline? Told beside what changed of its figures.

A pointer that is no longer aligned, a width that is a constant no more, fewer stages or warps: what the compiler was
given is often why it made something else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from perfgate.static.figures import Figures
from perfgate.static.launched import FORM, Record, form_parts, form_text
from perfgate.static.tested import words


def records_of(kernels: Sequence[Figures]) -> dict[str, Record]:
    """Give what each kernel was compiled for, by its name; those of which it is not known are left out."""
    return {kernel.name: {FORM: form_text(kernel.form)} for kernel in kernels if kernel.form.kernel}


def told(before: Mapping[str, Record], now: Mapping[str, Record]) -> list[str]:
    """Tell what kernels are launched with otherwise, and which others are launched, a line each.

    Nothing where one side does not know its kernels.
    """
    if not before or not now:
        return []
    gone, new = ([name for name in one if name not in other] for one, other in ((before, now), (now, before)))
    lines = [f"no longer launched: {', '.join(gone)}"] if gone else []
    lines += [f"not launched before: {', '.join(new)}"] if new else []
    for name, record in now.items():
        changes = ", ".join(_changes(_parts(before.get(name, {})), _parts(record)))
        if changes:
            lines.append(f"launched otherwise: {f'{name}: ' if len(now) > 1 else ''}{changes}")
    return lines


def _parts(record: Record) -> dict[str, str]:
    return form_parts(str(record.get(FORM, "")))


def _changes(before: Mapping[str, str], now: Mapping[str, str]) -> Iterator[str]:
    if not before:
        return
    for name in {**before, **now}:
        old, new = words(before.get(name)), words(now.get(name))
        if old != new:
            same = old[0] == new[0]
            yield f"{name} {', '.join(filter(None, old[same:]))} -> {', '.join(filter(None, new[same:]))}"
