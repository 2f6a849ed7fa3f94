"""Which process compiles? This one starts a child for each target; questions are lines of JSON, lists of them.

Run as ``python -m perfgate.static.worker PATH``, with ``sys.path`` as JSON and a socket as standard input. This process
imports torch and triton once, and starts a child by ``fork`` whenever it is asked for one: what a launcher remembers of
its GPU must not reach another target, and a compiler that ends its process must end no other's. The child answers on a
socket that comes with the request. Nothing here imports pytest; ``TRITON_INTERPRET`` must not be set.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import signal
import socket
import sys
import traceback
from dataclasses import asdict
from typing import BinaryIO

from perfgate.static.answers import Question
from perfgate.static.targets import TARGETS, Target


def main() -> None:
    """Start children, and tell how they ended, until nobody asks any more."""
    asked = socket.socket(fileno=os.dup(0))
    # What launchers print must not be taken for an answer.
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    sys.path[:] = json.loads(sys.argv[1])
    missing = _import_compiler()
    while True:
        line, sockets = _line(asked)
        if not line:
            return
        request = json.loads(line)
        reply: dict[str, object]
        if "ended" in request:
            reply = {"how": _how(request["ended"])}
        elif missing:
            reply = {"missing": missing}
        else:
            reply = {"pid": _fork(request["target"], sockets[0], asked)}
        for each in sockets:
            os.close(each)
        asked.sendall(json.dumps(reply).encode() + b"\n")


def _line(asked: socket.socket) -> tuple[bytes, list[int]]:
    """Read one line, and the sockets that come with it; nothing when nobody asks any more."""
    line = b""
    sockets: list[int] = []
    while not line.endswith(b"\n"):
        part, more, *_ = socket.recv_fds(asked, 1 << 16, 1)
        if not part:
            return b"", sockets
        line += part
        sockets += more
    return line, sockets


def _fork(target: str, answered: int, asked: socket.socket) -> int:
    """Start a child that compiles for one target and answers on a socket; give its number."""
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return pid
    try:
        # So that it can be ended with the tools that it has started.
        os.setsid()
        asked.close()
        with socket.socket(fileno=answered) as mine:
            _serve(TARGETS[target], mine.makefile("rb"), mine.makefile("wb"))
    except BrokenPipeError:
        pass
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def _how(pid: int) -> str:
    """Say how a child ended."""
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    return f"exit code {code}" if code >= 0 else signal.Signals(-code).name


def _import_compiler() -> str:
    """Import what every child needs; say what is missing."""
    for name in ("torch", "triton"):
        try:
            importlib.import_module(name)
        except ImportError as error:
            return f"{name} is not installed" if error.name == name else f"{name} cannot be imported: {error}"
    from perfgate.static import compiling

    compiling.warm_up()
    # What was imported stays: children must not look through it for garbage again and again.
    gc.collect()
    gc.freeze()
    return ""


def _serve(target: Target, questions: BinaryIO, answers: BinaryIO) -> None:
    """Answer questions on one target until nobody asks any more; an empty line says that one more is compiled."""
    from perfgate.static import compiling, pretend

    def tell() -> None:
        answers.write(b"\n")
        answers.flush()

    unsupported = pretend.supported(target)
    for line in questions:
        asked = [Question(**each) for each in json.loads(line)]
        found = compiling.answers(asked, target, unsupported, tell)
        answers.write(json.dumps([asdict(answer) for answer in found]).encode() + b"\n")
        answers.flush()


if __name__ == "__main__":
    main()
