"""How long does each linear layer take in each of its calls? Hooks around the layers, cold calls told from warm ones.

The first call of a layer with a new number of tokens is cold: it pages weights in, starts libraries and lets them
prepare for that shape. In the published report such calls made one layer look 28 times dearer than its twins.
"""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from perf_workloads.bitnet.clocks import Clock

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Call:
    """One call of a layer.

    Args:
        phase: "prefill", "decode" or "prefill again".
        input_shape: of the activations.
        output_shape: of the result.
        seconds: its duration.
        cold: whether it was the layer's first with this shape.
        late: whether its duration may hold a wait of the GPU for its launches.
    """

    phase: str
    input_shape: Shape
    output_shape: Shape
    seconds: float
    cold: bool
    late: bool = False


#: Passes that are not part of the generation.
APART = "prefill again"


def group_of(name: str) -> str:
    """Give a layer's name without its number: "mlp.gate_proj", "lm_head"."""
    return ".".join(name.split(".")[-2:])


@dataclass(frozen=True)
class LayerFigures:
    """What one layer did in a generation.

    Args:
        name: full name of the module.
        ternary: whether its weights are.
        parameters: number of weights.
        weight_bytes: bytes that they take in memory.
        itemsize: bytes of one activation.
        calls: all calls, in order.
    """

    name: str
    ternary: bool
    parameters: int
    weight_bytes: int
    itemsize: int
    calls: Sequence[Call]

    @property
    def group(self) -> str:
        """Give the kind of layer, see :func:`group_of`."""
        return group_of(self.name)

    @property
    def counted(self) -> list[Call]:
        """List the calls that are part of the generation."""
        return [call for call in self.calls if call.phase != APART]

    @property
    def total_s(self) -> float:
        """Add up the generation, cold calls included, as the published table does. Not for a ranking."""
        return sum(call.seconds for call in self.counted)

    @property
    def cold_s(self) -> float:
        """Add up the cold calls."""
        return sum(call.seconds for call in self.counted if call.cold)

    @property
    def warm(self) -> list[Call]:
        """List the warm calls of the decode phase: one token each."""
        return [call for call in self.counted if call.phase == "decode" and not call.cold]

    @property
    def warm_s(self) -> float:
        """Give the median of the warm calls, in seconds a call."""
        return statistics.median(call.seconds for call in self.warm)

    @property
    def prefill_again_s(self) -> float:
        """Give the seconds of the prompt's pass when it was repeated."""
        return sum(call.seconds for call in self.calls if call.phase == APART)


class LayerRecorder:
    """Times the calls of modules between entering and leaving.

    Args:
        modules: linear layers by name.
        clock: of the device they run on.
    """

    def __init__(self, modules: Mapping[str, Any], clock: Clock) -> None:
        self._modules, self._clock = modules, clock
        self._marks: dict[str, list[tuple[str, Any, Any, Shape, Shape]]] = {name: [] for name in modules}
        self._started: dict[str, Any] = {}
        self._handles: list[Any] = []
        self._phase = ""

    def __enter__(self) -> LayerRecorder:
        for name, module in self._modules.items():
            self._handles.append(module.register_forward_pre_hook(self._before(name)))
            self._handles.append(module.register_forward_hook(self._after(name)))
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Say what the calls meanwhile belong to."""
        self._phase = name
        yield
        self._phase = ""

    def figures(self, activation_bytes: int) -> list[LayerFigures]:
        """Give the figures of every layer; ``activation_bytes`` is the size of one activation."""
        return [
            LayerFigures(
                name,
                ternary=hasattr(module, "weight_bytes"),
                parameters=module.in_features * module.out_features,
                weight_bytes=getattr(module, "weight_bytes", None) or module.weight.nbytes,
                itemsize=activation_bytes,
                calls=self._calls(name),
            )
            for name, module in self._modules.items()
        ]

    def _calls(self, name: str) -> list[Call]:
        seen: set[Shape] = set()
        calls = []
        for phase, start, end, taken, given in self._marks[name]:
            seconds, late = self._clock.seconds(start, end), self._clock.late(start, end)
            calls.append(Call(phase, taken, given, seconds, taken not in seen, late))
            seen.add(taken)
        return calls

    def _before(self, name: str) -> Any:
        def hook(*_: object) -> None:
            self._started[name] = self._clock.before()

        return hook

    def _after(self, name: str) -> Any:
        def hook(_: object, inputs: tuple[Any, ...], output: Any) -> None:
            start = self._started.pop(name)
            end = self._clock.after(start)
            self._marks[name].append((self._phase, start, end, tuple(inputs[0].shape), tuple(output.shape)))

        return hook
