"""How many basins does a program of the HBV kernels hold, and how many days does it read ahead?

The days of a basin depend on each other, so what counts is how long one day takes in one warp, not how many warps a
multiprocessor holds: one warp a program, one basin a thread, spread over as many multiprocessors as there are. Days are
handled in chunks that the compiler schedules as one block, so that the snow of one day overlaps with the soil of the
day before, and the forcings of later chunks are on their way from memory meanwhile.
"""

from __future__ import annotations

from dataclasses import dataclass

from perf_kernels.hbv.reference import PARAMETERS, STATES
from perf_kernels.tuned import rows_class

#: Bytes of a number.
_FP32 = 4
#: Days of a chunk. In training three: with four the backward pass needs more registers than a thread has.
DAYS, TRAINING_DAYS = 4, 3
#: From this many basins on a large GPU has so many warps that they hide each other's waits.
MANY_BASINS = 16384
#: Numbers of basins up to which shapes are tuned together; the last also stands for all above it.
BASINS = (256, 1024, 16384, 65536)


@dataclass(frozen=True)
class LaunchConfig:
    """How one launch cuts up basins and days.

    Attributes:
        block: basins of a program, a power of two.
        num_warps: warps of a program.
        days: days of a chunk; in training also the days between two checkpoints, the same forward and backward.
        ahead: chunks between the one that is computed and the one that is being read, 1 or more.
    """

    block: int = 32
    num_warps: int = 1
    days: int = DAYS
    ahead: int = 2


def launch_config(
    basins: int,
    days: int,
    lanes: int = 32,
    *,
    smooth: bool = False,
    training: bool = False,
    backward: bool = False,
) -> LaunchConfig:
    """Choose the launch for a series of ``days`` days of ``basins`` basins.

    Args:
        basins: of all programs.
        days: of a series.
        lanes: threads of a warp (64 on AMD's CDNA).
        smooth: for the smooth model, whose days take longer.
        training: for a forward pass that keeps what the backward pass needs, or for that.
        backward: for the backward pass, which holds several times as many numbers a day.
    """
    ahead = 1 if backward and (smooth or basins >= MANY_BASINS) else 2
    return LaunchConfig(
        block=lanes, num_warps=1, days=min(TRAINING_DAYS if training or backward else DAYS, max(days, 1)), ahead=ahead
    )


def shape_class(basins: int, days: int, smooth: bool, training: bool, backward: bool) -> str:
    """Name the shapes that share a tuned configuration, e.g. ``smooth-backward-1024``: some basins, any days."""
    kind = "backward" if backward else "training" if training else "forward"
    return f"{'smooth' if smooth else 'hard'}-{kind}-{rows_class(basins, BASINS)}"


def checkpoints(days: int, spacing: int) -> int:
    """Count the checkpoints of a series: one a chunk, and one for each day after the last whole chunk."""
    return days // spacing + days % spacing


def bytes_moved(days: int, basins: int, *, save: bool = False) -> int:
    """Count the bytes that a forward pass must move: three forcings in, discharge out, parameters and states.

    Args:
        days: T.
        basins: B.
        save: also count what is kept for the backward pass.
    """
    a_basin = 4 * days + len(PARAMETERS) + 2 * len(STATES)
    return _FP32 * basins * a_basin + (saved_bytes(days, basins) if save else 0)


def bytes_moved_backward(days: int, basins: int, *, forcing_gradients: bool = False) -> int:
    """Count the bytes that a backward pass must move, where the gradient of the discharge is one number."""
    a_basin = (6 if forcing_gradients else 3) * days + 2 * len(PARAMETERS) + len(STATES)
    return _FP32 * basins * a_basin + saved_bytes(days, basins)


def saved_bytes(days: int, basins: int) -> int:
    """Count the bytes kept for the backward pass: soil moisture of every day, the other storages of every chunk."""
    spacing = launch_config(basins, days, training=True).days
    return _FP32 * basins * (days + (len(STATES) - 1) * checkpoints(days, spacing))
