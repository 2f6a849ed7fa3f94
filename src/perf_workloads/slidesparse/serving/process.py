"""How does an engine run in a process of its own, that may hang, run out of memory or die of an illegal access?

Imports nothing heavy.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from perfgate.model import Outcome
from perfgate.outcomes import classify

_MODULE = "perf_workloads.slidesparse.serving.child"
#: Last lines of a process's messages that are searched for why it died.
_TAIL_BYTES = 20000
_LONGEST_CAUSE = 300
#: For a process to end by itself.
_PATIENCE_S = 10.0


class EngineFailed(Exception):
    """A request was not answered with a result.

    Args:
        outcome: how it ended.
        cause: why, in one line.
        alive: whether the process can take another request.
    """

    def __init__(self, outcome: Outcome, cause: str, alive: bool) -> None:
        super().__init__(cause)
        self.outcome, self.cause, self.alive = outcome, cause, alive


class EngineProcess:
    """A process for an engine; it starts with the first request and ends with the block.

    Args:
        log: file for what the process prints; it runs in that folder.
        command: what to start, for tests.
    """

    def __init__(self, log: Path, command: Sequence[str] = (sys.executable, "-P", "-m", _MODULE)) -> None:
        self._log = log.resolve()
        self._command = list(command)
        self._process: subprocess.Popen[bytes] | None = None
        self._start_of_log = 0

    def __enter__(self) -> EngineProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end(_PATIENCE_S if kind is None else 0)

    def ask(self, call: str, timeout_s: float, **arguments: Any) -> Any:
        """Make one call in the process.

        Raises:
            EngineFailed: it failed, did not answer in time, or the process died. After all but a plain failure the
                process is ended: what a GPU was left with cannot be trusted.
        """
        process = self._started()
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps({"call": call, **arguments}).encode() + b"\n")
            process.stdin.flush()
        except BrokenPipeError:
            raise self._death() from None
        line = self._read_line(process, timeout_s)
        if line is None:
            self.end(0)
            raise EngineFailed(Outcome.TIMED_OUT, f"{call} took longer than {timeout_s:g} s", alive=False)
        if not line.endswith(b"\n"):
            raise self._death()
        reply = json.loads(line)
        if "outcome" not in reply:
            return reply["result"]
        outcome = Outcome(reply["outcome"])
        alive = outcome is Outcome.FAILED and call != "load"
        if not alive:
            self.end()
        raise EngineFailed(outcome, _one_line(reply["cause"]), alive)

    def end(self, patience_s: float = _PATIENCE_S) -> None:
        """End the process and what it started; it may take ``patience_s`` to give back what it holds."""
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(patience_s)
        # Compilers and workers belong to its group.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert process.stdout is not None
        process.stdout.close()

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            with self._log.open("ab") as log:
                self._start_of_log = log.tell()
                self._process = subprocess.Popen(
                    self._command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    bufsize=0,
                    start_new_session=True,
                    # Not where it was called: what lies there must not be imported instead of an installed package.
                    cwd=self._log.parent,
                    env=_environment(),
                )
        return self._process

    def _read_line(self, process: subprocess.Popen[bytes], timeout_s: float) -> bytes | None:
        """Read one line; None if none came in time, one without an end if the process died."""
        assert process.stdout is not None
        deadline_s = time.monotonic() + timeout_s
        line = b""
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            while not line.endswith(b"\n"):
                if not selector.select(max(deadline_s - time.monotonic(), 0)):
                    return None
                part = os.read(process.stdout.fileno(), 1 << 16)
                if not part:
                    break
                line += part
        return line

    def _death(self) -> EngineFailed:
        """Say what the process died of: by its last messages, else by its status."""
        assert self._process is not None
        status = self._process.wait()
        self.end()
        with self._log.open("rb") as log:
            log.seek(max(self._start_of_log, self._log.stat().st_size - _TAIL_BYTES))
            lines = log.read().decode(errors="replace").splitlines()
        for line in reversed(lines):
            outcome = classify(RuntimeError(line))
            if outcome is not Outcome.FAILED:
                return EngineFailed(outcome, _one_line(line), alive=False)
        if status == -signal.SIGKILL:
            return EngineFailed(Outcome.OUT_OF_MEMORY, "the process was killed (SIGKILL), as for memory", alive=False)
        how = f"signal {signal.Signals(-status).name}" if status < 0 else f"status {status}"
        last = next((line for line in reversed(lines) if line.strip()), "it printed nothing")
        return EngineFailed(Outcome.CRASHED, _one_line(f"the process ended with {how}: {last}"), alive=False)


def _environment() -> dict[str, str]:
    """Give this process's variables, with paths that hold in another folder."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(_import_path())}
    if named := os.environ.get("PERFGATE_BASELINES"):
        environment["PERFGATE_BASELINES"] = str(Path(named).resolve())
    return environment


def _import_path() -> list[str]:
    """List where this process imports from, but for the folder that it was called in."""
    here, own = Path.cwd(), Path(__file__).parents[3]
    paths = [Path(entry).resolve() for entry in sys.path if entry]
    return [str(path) for path in (own, *paths) if path != here]


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST_CAUSE else line[: _LONGEST_CAUSE - 3] + "..."
