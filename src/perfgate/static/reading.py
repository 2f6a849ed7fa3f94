"""What are the figures of a compiled kernel? Takes Triton's own record of it, on a GPU or without one.

Figures of the code are stored beside the compiled kernel in Triton's cache: reading takes longer than compiling.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from perfgate.static import amd, nvidia
from perfgate.static.figures import VERSION, Code, Figures, Form, code_from_json
from perfgate.static.index_width import narrow_offsets
from perfgate.static.occupancy import occupancy
from perfgate.static.targets import Target

_THREADS = re.compile(r"\.(?:reqntid|maxntid)\s+(\d+)")
#: Options that say how a kernel was launched; the others are the compiler's.
_OPTIONS = ("num_warps", "num_stages", "num_ctas", "maxnreg", "waves_per_eu", "matrix_instr_nonkdim", "kpack")


def default_options(target: Target) -> dict[str, str]:
    """Give the options that a launch has which does not give them, where Triton can compile for the target."""
    try:
        from triton.backends.compiler import GPUTarget
        from triton.compiler.compiler import make_backend

        options = make_backend(GPUTarget(target.backend, target.arch, target.lanes)).parse_options({})
    # Another Triton may lack the backend, or have moved what makes one.
    except Exception:
        return {}
    return {name: str(value) for name in _OPTIONS if (value := getattr(options, name, None)) is not None}


def figures_of(kernel: Any, target: Target, code: Code | None = None) -> Figures:
    """Give the figures of a ``CompiledKernel``.

    Args:
        kernel: Triton's record.
        target: what it was compiled for.
        code: what :func:`codes_of` read, where it did already.

    Raises:
        PerfgateError: its code cannot be read.
    """
    if code is None:
        code = codes_of([kernel])[kernel.hash]
    warps = _warps(kernel, target)
    shared = int(kernel.metadata.shared)
    return Figures(
        name=kernel.metadata.name,
        target=target.name,
        warps=warps,
        shared=shared,
        occupancy=occupancy(target.limits, registers=code.registers, shared=shared, warps=warps, scalars=code.scalars),
        narrow_offsets=tuple(narrow_offsets(kernel.asm["ttir"])),
        code=code,
        form=form_of(kernel),
    )


def codes_of(kernels: Sequence[Any]) -> dict[str, Code]:
    """Read the code of kernels of one target, by their hashes; what was read before comes from Triton's cache.

    Raises:
        PerfgateError: the code of one of them cannot be read.
    """
    caches = {kernel.hash: _Cached(kernel) for kernel in kernels}
    found = {name: code for name, cached in caches.items() if (code := cached.get()) is not None}
    unread = {kernel.hash: kernel for kernel in kernels if kernel.hash not in found}
    nvidias = [kernel for kernel in unread.values() if "cubin" in kernel.asm]
    if nvidias:
        codes = nvidia.read([kernel.asm["cubin"] for kernel in nvidias], nvidias[0].metadata.target.arch)
        read = {kernel.hash: code for kernel, code in zip(nvidias, codes, strict=True)}
    else:
        read = {name: amd.parse(kernel.asm["amdgcn"]) for name, kernel in unread.items()}
    for name, code in read.items():
        caches[name].put(code)
    return found | read


class _Cached:
    """What is stored of a kernel's code beside it in Triton's cache. One that cannot be used costs time, nothing else.

    Args:
        kernel: Triton's record.
    """

    def __init__(self, kernel: Any) -> None:
        binary = kernel.asm.get("cubin") or kernel.asm["amdgcn"].encode()
        self._name = f"perfgate-code-{VERSION}-{hashlib.sha256(binary).hexdigest()[:16]}.json"
        self._manager: Any = None
        with contextlib.suppress(Exception):
            from triton.runtime.cache import get_cache_manager

            self._manager = get_cache_manager(kernel.hash)

    def get(self) -> Code | None:
        """Give what was stored."""
        with contextlib.suppress(Exception):
            stored = self._manager.get_file(self._name)
            return code_from_json(json.loads(Path(stored).read_text(encoding="utf-8")))
        return None

    def put(self, code: Code) -> None:
        """Store it."""
        with contextlib.suppress(Exception):
            self._manager.put(json.dumps(asdict(code)), self._name, binary=False)


def _warps(kernel: Any, target: Target) -> int:
    """Give the warps of a block; a warp-specialised kernel has more than it was launched with."""
    threads = _THREADS.search(kernel.asm.get("ptx") or "")
    return int(threads[1]) // target.lanes if threads else int(kernel.metadata.num_warps)


def form_of(kernel: Any) -> Form:
    """Give what a kernel was compiled for, from the source that Triton keeps with it."""
    source = kernel.src
    function = source.fn
    names = list(source.signature)
    hints: dict[tuple[int, ...], list[str]] = {}
    for path, found in dict(source.attrs or {}).items():
        hints[tuple(path)] = sorted(_hint(*hint) for hint in found)
    constants = {
        tuple(path) if isinstance(path, tuple | list) else (names.index(path),): value
        for path, value in dict(source.constants).items()
    }
    arguments = {
        name: _argument(kind, (index,), hints, constants)
        for index, (name, kind) in enumerate(dict(source.signature).items())
    }
    metadata = kernel.metadata
    options = {name: str(value) for name in _OPTIONS if (value := getattr(metadata, name, None)) is not None}
    return Form(f"{function.__module__}.{function.__name__}", arguments, options)


def _argument(kind: Any, path: tuple[int, ...], hints: Mapping[tuple[int, ...], list[str]], constants: Any) -> str:
    if isinstance(kind, tuple):
        return f"({', '.join(_argument(part, (*path, index), hints, constants) for index, part in enumerate(kind))})"
    if path in constants:
        return f"={getattr(constants[path], '__name__', constants[path])}"
    return ":".join([str(kind), *hints.get(path, ())])


def _hint(name: str, value: Any) -> str:
    """Write a hint: ``16`` for divisible by 16, ``2g`` for an offset that stays below 2 GiB."""
    return {"tt.divisibility": str(value), "tt.pointer_range": "2g"}.get(name, f"{name}={value}")
