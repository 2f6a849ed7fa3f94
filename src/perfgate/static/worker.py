"""How is a launch compiled in a process of its own? Reads questions from its input, one JSON object a line.

Run as ``python -m perfgate.static.worker``. The process imports torch and triton once and starts a child by ``fork``
for each target: what a launcher remembers of its GPU must not reach another target, and a compiler that ends its
process must end no other's. Nothing here imports pytest; ``TRITON_INTERPRET`` must not be set.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, BinaryIO

from perfgate.static.answers import Answer, Question
from perfgate.static.targets import TARGETS, Target

_DEFAULT = "LAUNCHES"
#: Settings of the compiler that change what it gives, and are not told by the compiler itself.
_SETTINGS = ("TRITON_DEFAULT_FP_FUSION",)


def main() -> None:
    """Answer until the input ends."""
    questions = os.fdopen(os.dup(0), "rb")
    answers = os.fdopen(os.dup(1), "wb")
    # What launchers print must not be taken for an answer.
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    sys.path[:] = json.loads(questions.readline())
    missing = _import_compiler()
    children: dict[str, _Child] = {}
    for line in questions:
        question = Question(**json.loads(line))
        if missing:
            _write(answers, asdict(Answer("no_compiler", missing)))
            continue
        child = children.get(question.target)
        if child is None:
            child = children[question.target] = _Child(question.target)
        reply = child.ask(line)
        if reply is None:
            reason = children.pop(question.target).end()
            reply = (json.dumps(asdict(Answer("crashed", f"the compiler {reason}"))) + "\n").encode()
        answers.write(reply)
        answers.flush()


def _import_compiler() -> str:
    """Import what every child needs; say what is missing."""
    for name in ("torch", "triton"):
        try:
            importlib.import_module(name)
        except ImportError as error:
            return f"{name} is not installed" if error.name == name else f"{name} cannot be imported: {error}"
    # The first tensor without memory imports a lot.
    from perfgate.static import capture

    capture.warm_up()
    return ""


class _Child:
    """A process that compiles for one target.

    Args:
        target: its name.
    """

    def __init__(self, target: str) -> None:
        ask_read, ask_write = os.pipe()
        tell_read, tell_write = os.pipe()
        sys.stderr.flush()
        self._pid = os.fork()
        if self._pid == 0:
            os.close(ask_write)
            os.close(tell_read)
            try:
                _serve(TARGETS[target], os.fdopen(ask_read, "rb"), os.fdopen(tell_write, "wb"))
            finally:
                os._exit(0)
        os.close(ask_read)
        os.close(tell_write)
        self._ask = os.fdopen(ask_write, "wb")
        self._tell = os.fdopen(tell_read, "rb")

    def ask(self, line: bytes) -> bytes | None:
        """Pass a question on; None when the process is gone."""
        try:
            self._ask.write(line)
            self._ask.flush()
        except BrokenPipeError:
            return None
        reply = self._tell.readline()
        return reply if reply.endswith(b"\n") else None

    def end(self) -> str:
        """Say how the process ended."""
        self._tell.close()
        _, status = os.waitpid(self._pid, 0)
        code = os.waitstatus_to_exitcode(status)
        if code >= 0:
            return f"ended its process with exit code {code}"
        import signal

        return f"ended its process with {signal.Signals(-code).name}"


def _serve(target: Target, questions: BinaryIO, answers: BinaryIO) -> None:
    """Answer questions on one target until the parent is gone."""
    from perfgate.static import pretend

    unsupported = pretend.supported(target)
    for line in questions:
        question = Question(**json.loads(line))
        if not question.launch:
            answer = _list(question.place)
        elif unsupported:
            answer = Answer("no_target", unsupported)
        else:
            answer = compile_launch(question, target)
        _write(answers, asdict(answer))


def _write(answers: BinaryIO, answer: Mapping[str, Any]) -> None:
    answers.write(json.dumps(answer).encode() + b"\n")
    answers.flush()


def _launches(place: str) -> Mapping[str, Callable[[], object]]:
    """Import the launches of a place.

    Raises:
        LookupError: there are none, with what is wrong.
        Exception: whatever the import raises.
    """
    module, _, name = place.partition(":")
    found = getattr(importlib.import_module(module), name or _DEFAULT, None)
    if found is None:
        raise LookupError(f"{module} has no {name or _DEFAULT}")
    if not isinstance(found, Mapping) or not all(isinstance(each, str) and callable(found[each]) for each in found):
        raise LookupError(f"{module}.{name or _DEFAULT} must map names to functions")
    if not found:
        raise LookupError(f"{module}.{name or _DEFAULT} is empty")
    return found


def _list(place: str) -> Answer:
    """Name the launches of a place, as the names of ``code``."""
    try:
        return Answer("compiled", code=dict.fromkeys(_launches(place), ""))
    except Exception as error:
        return _failed(error)


def compile_launch(question: Question, target: Target) -> Answer:
    """Compile one launch for a target."""
    from perfgate.static import capture, reading

    environment = environment_of(target)
    try:
        launches = _launches(question.place)
        if question.launch not in launches:
            raise LookupError(f"{question.place} has no launch {question.launch!r}; it has {', '.join(launches)}")
    except Exception as error:
        return _failed(error)
    try:
        compiled = capture.run(launches[question.launch], target)
    except capture.CompileFailed as failure:
        cause = failure.__cause__
        assert cause is not None
        reason = f"{failure}: {type(cause).__name__}: {_core(cause)}"
        return Answer("compile_error", reason, _text(cause), environment=environment)
    except (ValueError, NotImplementedError) as refusal:
        # Said before any kernel is launched, by the launcher: it knows that this target cannot do it.
        return Answer("unsupported", _first_line(refusal), _text(refusal), environment=environment)
    except Exception as error:
        return _failed(error)
    if not compiled:
        return Answer("failed", f"the launch {question.launch!r} launched no Triton kernel", environment=environment)
    distinct = list({kernel.hash: kernel for kernel in compiled}.values())
    names = _names([kernel.metadata.name for kernel in distinct])
    try:
        figures = [reading.figures_of(kernel, target) for kernel in distinct]
        code = {name: code_of(kernel, question.code) for name, kernel in zip(names, distinct, strict=True)}
    except Exception as error:
        return _failed(error)
    from dataclasses import replace

    kernels = tuple(replace(each, name=name) for each, name in zip(figures, names, strict=True))
    return Answer("compiled", "", "", kernels, len(compiled), environment, code if question.code else {})


def _names(names: list[str]) -> list[str]:
    """Tell kernels of one name apart: ``k``, ``k#2``, ``k#3``."""
    return [
        name if names.index(name) == index else f"{name}#{names[: index + 1].count(name)}"
        for index, name in enumerate(names)
    ]


def code_of(kernel: Any, kind: str) -> str:
    """Give the code of a kernel in one of its forms; empty where the target has none of it."""
    if kind == "sass" and "cubin" in kernel.asm:
        from perfgate.static import nvidia

        return nvidia.sass(kernel.asm["cubin"])
    text = dict(kernel.asm).get(kind, "")
    return text if isinstance(text, str) else ""


def environment_of(target: Target) -> dict[str, str]:
    """Give the versions and settings that compiled code depends on."""
    import triton

    environment = {"triton": str(triton.__version__)}
    if target.backend == "cuda":
        from triton.backends.nvidia.compiler import get_ptxas

        assert isinstance(target.arch, int)
        environment["ptxas"] = str(get_ptxas(target.arch).version)
    settings = {name: os.environ[name] for name in _SETTINGS if name in os.environ}
    from triton._C.libtriton import get_cache_invalidating_env_vars

    settings |= {str(name): str(value) for name, value in get_cache_invalidating_env_vars().items()}
    if settings:
        environment["settings"] = " ".join(f"{name}={settings[name]}" for name in sorted(settings))
    return environment


def _failed(error: Exception) -> Answer:
    if isinstance(error, LookupError) and error.args and type(error) is LookupError:
        return Answer("failed", str(error))
    return Answer("failed", f"{type(error).__name__}: {_first_line(error)}", _text(error))


def _core(error: BaseException) -> str:
    """Give the line that says what is wrong: Triton's errors show the source first."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if type(error).__name__ == "CompilationError" else lines[0]) if lines else ""


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), "")


def _text(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))


if __name__ == "__main__":
    main()
