"""How does the gate run under pytest-xdist? One GPU for each worker, and only the controller writes."""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from perfgate import markers
from perfgate.errors import SettingError
from perfgate.gate import Log
from perfgate.naming import case_of
from perfgate.selection import is_case, is_compiled

if TYPE_CHECKING:
    from perfgate.run import State

#: Variables that choose devices, the one that decides first. HIP reads CUDA's where its own is not set.
_VISIBLE = {"cuda": ("CUDA_VISIBLE_DEVICES",), "rocm": ("HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES")}


def register(config: pytest.Config, state: State) -> None:
    """Register the hooks of a controller or a worker."""
    if state.settings.active:
        # pytest-benchmark disables itself under xdist and says so; here each worker has a GPU of its own.
        config.option.benchmark_disable = True
    hooks = WorkerHooks(state) if state.is_worker else ControllerHooks(state)
    config.pluginmanager.register(hooks, "perfgate-xdist")


def assign(workers: int, kind: str, count: int, visible: str | None) -> list[str]:
    """Give each worker the name of one visible GPU.

    Args:
        workers: number of workers.
        kind: "cuda" or "rocm".
        count: GPUs that this process sees.
        visible: value of the variable that already restricts them, or None.

    Raises:
        SettingError: more workers than GPUs.
    """
    if workers > count:
        raise SettingError(
            f"-n {workers}: more workers than GPUs ({count} {kind})",
            "Two workers on one GPU would slow each other down, and every verdict with it.",
            f"-n {count}",
        )
    names = [name.strip() for name in visible.split(",")] if visible else [str(index) for index in range(count)]
    return names[:workers]


class ControllerHooks:
    """Hooks of the controller: pin workers, refuse what cannot be timed in parallel, collect what they hand over."""

    def __init__(self, state: State) -> None:
        self.state = state
        self._folder = Path(tempfile.mkdtemp(prefix="perfgate-xdist-"))

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_setupnodes(self, config: pytest.Config, specs: list[Any]) -> None:
        """Give each worker a GPU, before it imports anything."""
        if not self.state.settings.active:
            return
        device = self.state.hardware.accelerator
        if device is None:
            # Cases that only compile may run side by side; a worker complains of any other.
            return
        variable, *others = _VISIBLE[device.kind]
        visible = next((os.environ[name] for name in (variable, *others) if name in os.environ), None)
        try:
            names = assign(len(specs), device.kind, device.count, visible)
        except SettingError as error:
            raise pytest.UsageError(str(error)) from None
        for spec, name in zip(specs, names, strict=True):
            spec.env[variable] = name

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Tell a worker how to start fresh processes, and where to complain."""
        node.workerinput["perfgate_launch"] = self.state.launch.to_json()
        node.workerinput["perfgate_complaints"] = str(self._folder / "complaints")

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, node: Any, ids: list[str]) -> None:
        """Refuse timed CPU cases before any test runs."""
        complaints = self._folder / "complaints"
        if complaints.exists():
            raise pytest.UsageError(str(_timed_on_cpu("-n", complaints.read_text(encoding="utf-8"))))

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: object) -> None:
        """Take what a finished worker hands over."""
        data = getattr(node, "workeroutput", {}).get("perfgate")
        if data is not None:
            self.state.book.absorb(Log(**data))
        elif self.state.settings.active:
            problem = f"worker {node.gateway.id} ended early: cases it held to confirm or to record have no result"
            self.state.book.absorb(Log(problems=[problem]))

    def pytest_unconfigure(self) -> None:
        """Remove the folder shared with the workers."""
        import shutil

        shutil.rmtree(self._folder, ignore_errors=True)


class WorkerHooks:
    """Hooks of a worker: complain about timed CPU cases."""

    def __init__(self, state: State) -> None:
        self.state = state

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Name the first timed CPU case, before the controller hears that the collection is done."""
        if self.state.gate is None:
            return
        for item in session.items:
            names = {mark.name for mark in item.iter_markers()}
            timed = is_case(item) and not is_compiled(item) and "skip" not in names
            if timed and markers.device_for(names, self.state.hardware).kind == "cpu":
                path = Path(self.state.config.workerinput["perfgate_complaints"])  # type: ignore[attr-defined]
                path.write_text(f"{case_of(item)} runs on the CPU", encoding="utf-8")
                return


def _timed_on_cpu(flag: str, what: str) -> SettingError:
    return SettingError(
        f"{flag}: cases on a CPU cannot be timed side by side: {what}",
        "Workers on one CPU slow each other down, and every verdict with it.",
        "leave -n out, or select GPU cases: -m cuda",
    )


def point_at(config: pytest.Config, index: int) -> None:
    """Tell xdist which test the next reports of this worker belong to.

    A report that was held back comes after other tests have run; xdist labels each report with the test it ran last.
    """
    for plugin in config.pluginmanager.get_plugins():
        if hasattr(plugin, "item_index"):
            plugin.item_index = index


def hand_over(config: pytest.Config, log: Log) -> None:
    """Send what this worker found out beside its reports."""
    # Through JSON: only plain values travel.
    config.workeroutput["perfgate"] = json.loads(json.dumps(asdict(log)))  # type: ignore[attr-defined]
