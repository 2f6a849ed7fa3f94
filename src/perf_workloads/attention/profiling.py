"""Does a profile add up? A column of the published tables was seven times off, and its backward spans showed nothing.

A renamed field of the profiler is read as nothing or as another quantity without an error, so what is shown is checked
against the time of the kernels themselves.
"""

from __future__ import annotations

from typing import Any

#: Parts of a training step, as it marks them itself.
SPANS = ("forward", "loss", "backward", "optimizer")


class ProfileMismatch(AssertionError):
    """A column of a profile is not what its name says."""


def assert_adds_up(profile: Any) -> None:
    """Check that operators and spans of a training profile tell of the time that the whole profile tells of.

    What runs between operators is not theirs. On the device half of all must be. On a CPU the profiler's times are
    those of the clock, and where others want the core a thread waits anywhere: a fifth must be, more than a column that
    is seven times off could show. All that runs on the device is launched within one of ``SPANS``; what torch's
    optimizers mark inside of those is not added.

    Args:
        profile: a ``perfgate.profile.Profile`` of steps whose parts are all marked.

    Raises:
        ProfileMismatch: they do not.
    """
    # A CPU that has launched everything waits for the device, in no operator.
    least_cpu = 0.0 if profile.device_s else 0.2
    of_cpu = sum(row.self_cpu_s for row in profile.operators)
    checks = [("self CPU time of the operators", of_cpu, profile.cpu_s, least_cpu)]
    if profile.device_s:
        of_operators = sum(row.self_device_s for row in profile.operators)
        of_spans = sum(span.device_s for span in profile.spans if span.name in SPANS)
        checks += [
            ("self device time of the operators", of_operators, profile.device_s, 0.5),
            ("device time of the spans", of_spans, profile.device_s, 0.98),
        ]
    for name, figure, whole, least in checks:
        if not least * whole <= figure <= 1.02 * whole:
            raise ProfileMismatch(f"the {name} adds up to {figure:.6f} s, and the whole profile to {whole:.6f} s")
