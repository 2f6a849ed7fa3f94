"""Is what the compiler says of a kernel told in one line that helps?"""

from __future__ import annotations

import ast

import pytest

pytest.importorskip("triton")

from triton.compiler.errors import CompilationError, CompileTimeAssertionFailure  # triton may be missing

from perfgate.static import failures  # imports triton

SOURCE = "def f(TILE):\n    tl.static_assert(TILE < 1024)"


def mistake(kind: type[CompilationError], message: str) -> CompilationError:
    return kind(SOURCE, ast.parse(SOURCE).body[0].body[0], message)  # type: ignore[attr-defined]  # a function's body


@pytest.mark.parametrize(
    ("message", "told"),
    [("too wide", "too wide"), ("", "at 2:4: tl.static_assert(TILE < 1024)")],
)
def test_an_assertion_of_the_kernel_is_told(message: str, told: str) -> None:
    error = mistake(CompileTimeAssertionFailure, message)
    assert failures.compiler_says("f", error) == f"f: CompileTimeAssertionFailure: {told}"


def test_what_a_call_fails_with_is_told_rather_than_its_place() -> None:
    error = mistake(CompilationError, "")
    error.__cause__ = ValueError("no\nreally")
    assert failures.compiler_says("f", error) == "f: CompilationError: no"
