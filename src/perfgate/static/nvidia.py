"""What does compiled code for an NVIDIA GPU say? Reads a cubin with the tools that come inside triton."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections import Counter
from pathlib import Path

from perfgate.errors import PerfgateError
from perfgate.static.figures import Code, by_width, digest_of

_USAGE = re.compile(r"REG:(\d+) STACK:(\d+) SHARED:\d+ LOCAL:(\d+)")
_INSTRUCTION = re.compile(r"^\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_.]*)(.*)$", re.MULTILINE)
_BITS = {"8": 1, "16": 2, "32": 4, "64": 8, "128": 16, "256": 32}
_WIDTH = re.compile(r"\.[USF]?(8|16|64|128|256)(?=\.|$)")
#: HMMA, IMMA, DMMA, QMMA, OMMA; HGMMA and its like of Hopper; UTCHMMA and its like of Blackwell.
_TENSOR_CORE = re.compile(r"(?:UTC)?[A-Z]G?MMA(?=\.|$)")
#: Copies of whole tiles by the tensor memory accelerator: as wide as any.
_BULK_LOADS = ("UTMALDG", "UBLKCP")
_BULK_STORES = ("UTMASTG", "UTMAREDG")
_INSTRUCTION_BYTES = 16


def read(cubin: bytes) -> Code:
    """Read a kernel's compiled code.

    Raises:
        PerfgateError: the tools do not understand it.
    """
    with tempfile.TemporaryDirectory(prefix="perfgate-") as folder:
        path = Path(folder) / "kernel.cubin"
        path.write_bytes(cubin)
        usage = _tool("cuobjdump", "--dump-resource-usage", str(path))
        sass = _tool("nvdisasm", "-c", "--no-dataflow", str(path))
    return parse(usage, sass)


def sass(cubin: bytes) -> str:
    """Give the machine code as text."""
    with tempfile.TemporaryDirectory(prefix="perfgate-") as folder:
        path = Path(folder) / "kernel.cubin"
        path.write_bytes(cubin)
        return _tool("nvdisasm", "-c", "--no-dataflow", str(path))


def parse(usage: str, sass: str) -> Code:
    """Read the outputs of ``cuobjdump --dump-resource-usage`` and ``nvdisasm -c``."""
    found = _USAGE.search(usage)
    if found is None:
        raise PerfgateError("cuobjdump: no resource usage in what it printed", usage.strip()[:500])
    registers, stack, local = map(int, found.groups())
    loads: Counter[int] = Counter()
    stores: Counter[int] = Counter()
    tensor_core = traffic = spills = barriers = number = 0
    instructions = [(match[1], match[2]) for match in _INSTRUCTION.finditer(sass)]
    for opcode, _ in instructions:
        name = opcode.split(".", 1)[0]
        if name == "NOP":
            continue
        number += 1
        if name in ("LDG", "LD", "LDGSTS"):
            loads[_width(opcode)] += 1
        elif name in ("STG", "ST"):
            stores[_width(opcode)] += 1
        elif name in _BULK_LOADS:
            loads[16] += 1
        elif name in _BULK_STORES:
            stores[16] += 1
        elif name in ("LDL", "STL"):
            traffic += 1
            spills += max(_width(opcode) // 4, 1) if name == "STL" else 0
        elif name in ("BAR", "UCGABAR_WAIT"):
            barriers += 1
        elif _TENSOR_CORE.match(opcode):
            tensor_core += 1
    return Code(
        registers=registers,
        spills=spills,
        stack=stack + local,
        instructions=number,
        loads=by_width(loads),
        stores=by_width(stores),
        tensor_core=tensor_core,
        local_memory=traffic,
        barriers=barriers,
        # Padding to the next multiple of 128 bytes is not the kernel's.
        code_size=number * _INSTRUCTION_BYTES,
        digest=digest_of(f"{opcode}{operands.rstrip()}" for opcode, operands in instructions),
    )


def _width(opcode: str) -> int:
    """Give the bytes a thread of a memory instruction, e.g. 16 for ``LDG.E.128.CONSTANT``."""
    match = _WIDTH.search(opcode)
    return _BITS[match[1]] if match else 4


def _tool(name: str, *arguments: str) -> str:
    import triton

    own = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / name
    command = [str(own) if own.exists() else name, *arguments]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=120, env={**os.environ, "LC_ALL": "C"}, check=False
        )
    except OSError as error:
        raise PerfgateError(
            f"{name} cannot be started: {error.strerror}",
            "It comes inside triton and with the CUDA toolkit; without it compiled code cannot be read.",
            "install a triton wheel of the registry, or put the CUDA toolkit's bin folder on PATH",
        ) from None
    if done.returncode:
        raise PerfgateError(f"{name} ended with exit code {done.returncode}", done.stderr.strip()[-500:])
    return done.stdout
