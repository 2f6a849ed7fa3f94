"""How are the processes asked that compile? One that is warm starts a child for each target; see ``worker``."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from perfgate.static.answers import Answer, Question, answer_from_json


class Gone(Exception):
    """A process ended before it answered.

    Attributes:
        slow: which of the questions took too long, by its number, where that is why.
    """

    slow: int | None = None


class NoCompiler(Exception):
    """torch or triton is missing."""


class Parent:
    """The process that has imported torch and triton, and starts the children that compile."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._children: list[Child] = []
        self._ended = False

    def child(self, target: str) -> Child:
        """Start a child that compiles for one target.

        Raises:
            NoCompiler: there is nothing to compile with.
            Gone: the parent ended.
        """
        mine, its = socket.socketpair()
        with its:
            reply = self._request({"target": target}, its)
        if "missing" in reply:
            mine.close()
            raise NoCompiler(reply["missing"])
        child = Child(reply["pid"], mine, self)
        self._children.append(child)
        if self._ended:
            child.end()
        return child

    def how(self, pid: int) -> str:
        """Say how a child ended.

        Raises:
            Gone: the parent ended too.
        """
        return str(self._request({"ended": pid})["how"])

    def end(self) -> None:
        """End all processes, and start none any more."""
        self._ended = True
        for child in self._children:
            child.end()
        # First without waiting for whoever asks: that may be for a reply that takes long.
        self._end_process()
        with self._lock:
            self._end_process()

    def _end_process(self) -> None:
        if self._process is not None:
            _kill(self._process.pid)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(5)

    def _request(self, request: Mapping[str, Any], passed: socket.socket | None = None) -> dict[str, Any]:
        """Ask, with a socket to pass on, and wait for the reply."""
        with self._lock:
            if self._ended:
                raise Gone("the compiling processes were ended")
            if self._process is None or self._process.poll() is not None:
                self._process = self._start()
            try:
                line = json.dumps(request).encode() + b"\n"
                socket.send_fds(self._socket, [line], [passed.fileno()] if passed is not None else [])
                reply = self._replies.readline()
            except OSError:
                reply = b""
            if not reply.endswith(b"\n"):
                ended = f"the compiling process ended with exit code {self._process.wait()}"
                raise Gone(f"{ended}\n{self._told()}".rstrip())
        answer: dict[str, Any] = json.loads(reply)
        return answer

    def _start(self) -> subprocess.Popen[bytes]:
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        # Where kernels are interpreted in this process (its tests may want that), they are compiled in the other one.
        environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
        # A GPU is not needed, and one that is there must not be held.
        environment |= {"CUDA_VISIBLE_DEVICES": "", "HIP_VISIBLE_DEVICES": "", "PYTHONWARNINGS": "ignore"}
        environment["PYTHONPATH"] = os.pathsep.join(entry for entry in sys.path if entry)
        self._socket, its = socket.socketpair()
        self._replies = self._socket.makefile("rb")
        with its:
            return subprocess.Popen(
                [sys.executable, "-P", "-m", "perfgate.static.worker", json.dumps(sys.path)],
                stdin=its.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=self._log,
                env=environment,
                start_new_session=True,
            )

    def _told(self) -> str:
        """Give the end of what the process and its children printed."""
        self._log.seek(0)
        return "\n".join(self._log.read().decode("utf-8", "replace").strip().splitlines()[-15:])


class Child:
    """A process that compiles for one target.

    Args:
        pid: its number.
        connection: what it is asked through.
        parent: the process that started it.
    """

    def __init__(self, pid: int, connection: socket.socket, parent: Parent) -> None:
        self._pid = pid
        self._socket = connection
        self._lines = connection.makefile("rb")
        self._parent = parent
        self._ended = False

    def ask(self, questions: Sequence[Question], patience_s: float) -> list[Answer]:
        """Ask and wait.

        Args:
            questions: on its target.
            patience_s: seconds that each of them may take.

        Raises:
            Gone: the process ended, by itself or because it took too long.
        """
        self._socket.settimeout(patience_s)
        gone, compiled, line = Gone(), 0, b"\n"
        try:
            self._socket.sendall(json.dumps([asdict(question) for question in questions]).encode() + b"\n")
            # An empty line says that one more of them is compiled.
            while line == b"\n":
                line = self._lines.readline()
                compiled += line == b"\n"
        except TimeoutError:
            gone = Gone(f"the compiler took more than {patience_s:.0f} s")
            gone.slow = compiled if compiled < len(questions) else None
            self.end()
        except OSError:
            line = b""
        if not gone.args and line.endswith(b"\n"):
            return [answer_from_json(each) for each in json.loads(line)]
        self._ended = True
        self._socket.close()
        how = self._parent.how(self._pid)
        raise gone if gone.args else Gone(f"the compiler ended its process with {how}")

    def end(self) -> None:
        """End the process and the tools that it has started."""
        if not self._ended:
            _kill(self._pid)


def _kill(group: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, 9)
