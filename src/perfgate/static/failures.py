"""How is an error of a launch put into words for the user? Heavy: imports torch and triton."""

from __future__ import annotations

import traceback
from dataclasses import replace

from triton.compiler.errors import CompilationError
from triton.errors import TritonError

from perfgate.errors import PerfgateError
from perfgate.static import launcher
from perfgate.static.answers import Answer


def answer_of(error: Exception) -> Answer:
    """Say what is wrong with a launch; what perfgate itself says is told without a traceback."""
    if isinstance(error, PerfgateError):
        reason, _, detail = str(error).partition("\n")
        return Answer("failed", reason, detail)
    return Answer("failed", f"{type(error).__name__}: {first_line(error)}", traced(error))


def answer_of_launch(error: Exception) -> Answer:
    """Say what is wrong with a launch that was begun, and what had been launched by then where that makes it wrong."""
    if not isinstance(error, launcher.FailedAfterLaunch):
        return answer_of(error)
    cause = error.__cause__
    assert isinstance(cause, Exception)
    failed = answer_of(cause)
    return replace(failed, reason=f"{failed.reason} (after the launch of {error})")


def compiler_says(kernel: str, error: BaseException) -> str:
    """Say in one line that a kernel does not compile, and why."""
    return f"{kernel}: {type(error).__name__}: {_core(error)}"


def first_line(error: BaseException) -> str:
    """Give the first line that an error has to say; empty where it says nothing."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), "")


def said_of_source(error: BaseException) -> str:
    """Give what the compiler says of the source, without its own frames; all of an error that it did not mean."""
    if not isinstance(error, TritonError):
        return traced(error)
    said: list[str] = []
    cause: BaseException | None = error
    while cause is not None:
        said.insert(0, "".join(traceback.format_exception_only(cause)))
        cause = cause.__cause__
    return "\n".join(said)


def traced(error: BaseException) -> str:
    """Give an error with its traceback."""
    return "".join(traceback.format_exception(error))


def _core(error: BaseException) -> str:
    """Give the line that says what is wrong: Triton's errors show the source first, and of a call only its place."""
    while type(error) is CompilationError and error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not isinstance(error, CompilationError) or len(lines) < 2:
        return lines[0] if lines else ""
    # What has no message ends with the mark below its line.
    return f"{lines[0]} {lines[-2]}" if lines[-1] == "^" else lines[-1]
