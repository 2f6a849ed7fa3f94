"""How is a configuration compiled that ``perfgate tune`` is going to time? As it will be launched on the GPU at hand.

The process that times asks with a question; a process without a GPU makes the launch, on pretended inputs.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from perfgate.errors import SettingError
from perfgate.static import find
from perfgate.static.answers import CACHED, Question
from perfgate.static.targets import Target
from perfgate.tune.tunable import Shape, Tunable, like, resolve


@dataclass(frozen=True)
class Card:
    """What a launcher may ask about the card beyond its target.

    Attributes:
        model: its name.
        multiprocessors: how many it has.
        memory_bytes: its memory.
        l2_bytes: its L2 cache.
    """

    model: str
    multiprocessors: int
    memory_bytes: int
    l2_bytes: int


@dataclass(frozen=True)
class Candidate:
    """One configuration for one class of shapes.

    Attributes:
        kernel: as the command line names it.
        shape_class: name of the class.
        config: fields of the configuration.
        card: that it will run on.
    """

    kernel: str
    shape_class: str
    config: Mapping[str, Any]
    card: Card


def question(wanted: Candidate, target: str) -> Question:
    """Ask for a candidate to be compiled for the target of its card."""
    fields = asdict(wanted)
    return Question(fields.pop("kernel"), json.dumps(fields), target, CACHED)


def of_question(asked: Question) -> Candidate:
    """Give the candidate that was asked for."""
    fields = json.loads(asked.launch)
    return Candidate(asked.place, fields["shape_class"], fields["config"], Card(**fields["card"]))


def on_card(target: Target, wanted: Candidate) -> Target:
    """Give the target with the figures of the card."""
    return replace(target, **asdict(wanted.card))


def tunable_of(wanted: Candidate) -> Tunable:
    """Import what is tuned.

    Raises:
        SettingError: there is no such kernel, or it cannot be imported or tuned.
    """
    return resolve(wanted.kernel, find.source_roots(Path.cwd()))


def arguments(wanted: Candidate) -> tuple[Any, ...]:
    """Give what ``launch`` takes: the configuration, and inputs of its class. Shapes may depend on the GPU.

    Raises:
        SettingError: the kernel has no such class or configuration.
    """
    tunable = tunable_of(wanted)
    shape = _classes(tunable).get(wanted.shape_class)
    if shape is None:
        raise SettingError(f"{tunable.kernel} has no class of shapes {wanted.shape_class!r}")
    config = like(tunable.default(*shape), wanted.config)
    if config is None:
        raise SettingError(f"{tunable.kernel} has no such configuration: {dict(wanted.config)}")
    return (config, *tunable.inputs(*shape))


@functools.lru_cache(maxsize=1)
def _classes(tunable: Tunable) -> Mapping[str, Shape]:
    return tunable.classes()
