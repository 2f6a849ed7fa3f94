"""In which form does a launch launch its kernel? From its arguments alone, by Triton's own rules: nothing is compiled.

The same for a kernel that a GPU runs, one in Triton's interpreter, and one that is launched on tensors without memory.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from perfgate.static.figures import Form

_ALIGNED = "D"


def form_of_launch(function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Form:
    """Give what a kernel would be compiled for, launched with these arguments.

    Args:
        function: Triton's record of the kernel, compiled or interpreted.
        args: of the launch.
        kwargs: of the launch; those that are no arguments of the kernel are options.
    """
    signature = _signature(function)
    options = {name: str(value) for name, value in kwargs.items() if name not in signature.parameters}
    plain, unaligned = (
        _named(function, option, signature) for option in ("do_not_specialize", "do_not_specialize_on_alignment")
    )
    arguments = {
        name: _constant(value)
        if "constexpr" in str(signature.parameters[name].annotation)
        else _argument(value, specialize=name not in plain, align=name not in unaligned)
        for name, value in arguments_of(function, args, kwargs).items()
    }
    return Form(f"{function.fn.__module__}.{function.fn.__name__}", arguments, options)


def arguments_of(function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Give the arguments of a kernel by their names, with its defaults, as a launch gives them to a grid.

    Args:
        function: Triton's record of the kernel, compiled or interpreted.
        args: of the launch.
        kwargs: of the launch; those that are no arguments of the kernel are left out.
    """
    signature = _signature(function)
    bound = signature.bind(*args, **{name: value for name, value in kwargs.items() if name in signature.parameters})
    bound.apply_defaults()
    return dict(bound.arguments)


def _signature(function: Any) -> inspect.Signature:
    """Give the arguments of a kernel. Triton keeps those of a compiled one."""
    known = getattr(function, "signature", None)
    return known if isinstance(known, inspect.Signature) else inspect.signature(function.fn)


def _named(function: Any, option: str, signature: inspect.Signature) -> set[str]:
    """Give the arguments that an option of ``triton.jit`` names, or numbers."""
    given = getattr(function, option, None) or getattr(function, "kwargs", {}).get(option) or ()
    names = list(signature.parameters)
    return {names[each] if isinstance(each, int) else str(each) for each in given}


def _constant(value: Any) -> str:
    plain = getattr(value, "value", value)
    return f"={getattr(plain, '__name__', plain)}"


def _argument(value: Any, *, specialize: bool, align: bool) -> str:
    from triton.backends.compiler import BaseBackend
    from triton.runtime.jit import native_specialize_impl

    kind, hint = native_specialize_impl(BaseBackend, value, False, specialize, align)
    if kind == "constexpr":
        return _constant(value)
    if isinstance(kind, tuple):
        return f"({', '.join(_argument(part, specialize=specialize, align=align) for part in value)})"
    return f"{kind}:16" if hint == _ALIGNED else str(kind)
