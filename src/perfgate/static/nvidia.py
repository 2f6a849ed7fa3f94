"""What does compiled code for an NVIDIA GPU say? Reads cubins with the tools that come inside triton."""

from __future__ import annotations

import bisect
import hashlib
import itertools
import os
import re
import struct
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from perfgate.errors import PerfgateError
from perfgate.static.figures import Code, by_width

_USAGE = re.compile(r"REG:(\d+) STACK:(\d+) SHARED:\d+ LOCAL:(\d+)")
_INSTRUCTION = re.compile(r"^\s+/\*([0-9a-f]{4,})\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_.]*)", re.MULTILINE)
_BITS = {"8": 1, "16": 2, "32": 4, "64": 8, "128": 16, "256": 32}
_WIDTH = re.compile(r"\.[USF]?(8|16|64|128|256)(?=\.|$)")
#: HMMA, IMMA, DMMA, QMMA, OMMA; HGMMA and its like of Hopper; UTCHMMA and its like of Blackwell.
_TENSOR_CORE = re.compile(r"(?:UTC)?[A-Z]G?MMA(?=\.|$)")
#: Copies of whole tiles by the tensor memory accelerator: as wide as any. UBLKCP says to and from what it copies,
#: S shared and G global memory.
_BULK_LOADS = re.compile(r"UTMALDG\b|UBLKCP\.S\.G\b")
_BULK_STORES = re.compile(r"UTMA(?:STG|REDG)\b|UBLK(?:CP|RED)\.G\.S\b")
_INSTRUCTION_BYTES = 16
#: Triton compiles for the variant of an architecture that has all of its instructions, from this one on.
_FIRST_WITH_VARIANTS = 90


def read(cubins: Sequence[bytes], arch: int) -> list[Code]:
    """Read the compiled code of kernels, each a cubin of its own.

    The disassembler takes longer to start than to work: it is given the instructions of all kernels in one file.

    Args:
        cubins: compiled for one architecture.
        arch: compute capability times ten.

    Raises:
        PerfgateError: the tools do not understand one of them.
    """
    codes = [instructions_of(cubin) for cubin in cubins]
    starts = [0, *itertools.accumulate(map(len, codes))]
    kernels: list[list[str]] = [[] for _ in codes]
    for address, opcode in opcodes(_disassembled(b"".join(codes), arch)):
        kernels[bisect.bisect_right(starts, address) - 1].append(opcode)
    return [
        parse(_usage(cubin), found, digest=hashlib.sha256(code).hexdigest()[:12])
        for cubin, code, found in zip(cubins, codes, kernels, strict=True)
    ]


def instructions_of(cubin: bytes) -> bytes:
    """Give the instructions of a cubin, which is an ELF file: its sections ``.text.<function>``.

    Raises:
        PerfgateError: it has none.
    """
    try:
        (table,) = struct.unpack_from("<Q", cubin, 0x28)
        size, number, names_at = struct.unpack_from("<HHH", cubin, 0x3A)
        sections = [struct.unpack_from("<I20xQQ", cubin, table + size * index) for index in range(number)]
        names = sections[names_at][1]
        found = [cubin[at : at + length] for name, at, length in sections if cubin.startswith(b".text.", names + name)]
    except (struct.error, IndexError):
        found = []
    if not found:
        raise PerfgateError("the cubin holds no instructions", "It is no ELF file with a section .text.<function>.")
    return b"".join(found)


def sass(cubin: bytes) -> str:
    """Give the machine code as text."""
    return _with_file(cubin, "nvdisasm", "-c", "--no-dataflow")


def opcodes(sass: str) -> Iterable[tuple[int, str]]:
    """Give the address and the opcode of each instruction that ``nvdisasm`` printed."""
    return ((int(match[1], 16), match[2]) for match in _INSTRUCTION.finditer(sass))


def parse(usage: str, opcodes: Iterable[str], digest: str = "") -> Code:
    """Count the opcodes of a kernel, and read the output of ``cuobjdump --dump-resource-usage``.

    Raises:
        PerfgateError: the output tells no resources.
    """
    found = _USAGE.search(usage)
    if found is None:
        raise PerfgateError("cuobjdump: no resource usage in what it printed", usage.strip()[:500])
    registers, stack, local = map(int, found.groups())
    loads: Counter[int] = Counter()
    stores: Counter[int] = Counter()
    tensor_core = traffic = spills = barriers = number = asynchronous = 0
    for opcode in opcodes:
        name = opcode.split(".", 1)[0]
        if name == "NOP":
            continue
        number += 1
        if name in ("LDG", "LD"):
            loads[_width(opcode)] += 1
        elif name == "LDGSTS" or _BULK_LOADS.match(opcode):
            # Loads to shared memory, which a thread waits for later: a software pipeline is made of them.
            width = _width(opcode) if name == "LDGSTS" else 16
            loads[width] += 1
            asynchronous += width
        elif name in ("STG", "ST"):
            stores[_width(opcode)] += 1
        elif _BULK_STORES.match(opcode):
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
        digest=digest,
        asynchronous_bytes=asynchronous,
    )


def _width(opcode: str) -> int:
    """Give the bytes a thread of a memory instruction, e.g. 16 for ``LDG.E.128.CONSTANT``."""
    match = _WIDTH.search(opcode)
    return _BITS[match[1]] if match else 4


def _disassembled(instructions: bytes, arch: int) -> str:
    variant = "a" if arch >= _FIRST_WITH_VARIANTS else ""
    return _with_file(instructions, "nvdisasm", "--no-dataflow", "--binary", f"SM{arch}{variant}")


def _usage(cubin: bytes) -> str:
    return _with_file(cubin, "cuobjdump", "--dump-resource-usage")


def _with_file(contents: bytes, name: str, *arguments: str) -> str:
    """Give what a tool of NVIDIA's prints of a file.

    Raises:
        PerfgateError: the tool is not there, or does not understand the file.
    """
    import triton

    own = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / name
    with tempfile.TemporaryDirectory(prefix="perfgate-") as folder:
        path = Path(folder) / "kernel.cubin"
        path.write_bytes(contents)
        command = [str(own) if own.exists() else name, *arguments, str(path)]
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
        except subprocess.TimeoutExpired:
            raise PerfgateError(f"{name} took more than 120 s") from None
    if done.returncode:
        raise PerfgateError(f"{name} ended with exit code {done.returncode}", done.stderr.strip()[-500:])
    return done.stdout
