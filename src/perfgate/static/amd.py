"""What does compiled code for an AMD GPU say? Reads the assembly that Triton keeps."""

from __future__ import annotations

import re
from collections import Counter

from perfgate.errors import PerfgateError
from perfgate.static.figures import Code, by_width, digest_of

_MNEMONIC = re.compile(r"^\t([a-z][a-z0-9_]+)(?:\s|$)(.*)$")
_METADATA = re.compile(r"^\s+(?:- )?\.(\w+):\s+(\d+)\s*$", re.MULTILINE)
_SIZE = re.compile(r"^; codeLenInByte = (\d+)", re.MULTILINE)
_MEMORY = re.compile(r"(global|buffer|flat|scratch)_(load|store)_(.+)")
#: Bytes by what a mnemonic ends in: dwordx4 of GCN and CDNA, b128 of RDNA.
_WIDTHS = (
    (re.compile(r"(?:dwordx4|b128)$"), 16),
    (re.compile(r"(?:dwordx3|b96)$"), 12),
    (re.compile(r"(?:dwordx2|b64)$"), 8),
    (re.compile(r"(?:dword|b32)$"), 4),
    (re.compile(r"(?:short|b16|u16|i16)"), 2),
    (re.compile(r"(?:byte|b8|u8|i8)"), 1),
)
_TENSOR_CORE = ("v_mfma_", "v_smfmac_", "v_wmma_", "v_swmmac_")


def parse(assembly: str) -> Code:
    """Read the assembly of one kernel (``asm["amdgcn"]``).

    Raises:
        PerfgateError: it does not end in the metadata of a kernel.
    """
    body = re.split(r"^\.Lfunc_end\d+:", assembly, maxsplit=1, flags=re.MULTILINE)[0]
    noted = {name: int(value) for name, value in _METADATA.findall(assembly)}
    size = _SIZE.search(assembly)
    if "vgpr_count" not in noted or size is None:
        raise PerfgateError("the assembly lacks the kernel's metadata (.vgpr_count)")
    loads: Counter[int] = Counter()
    stores: Counter[int] = Counter()
    tensor_core = traffic = barriers = number = 0
    told = []
    for line in body.splitlines():
        match = _MNEMONIC.match(line)
        # Data and directives begin with a dot; what pads an instruction cache line is s_code_end or s_nop.
        if match is None or match[1] == "s_code_end":
            continue
        number += 1
        mnemonic, rest = match.groups()
        told.append(f"{mnemonic} {rest.partition(';')[0].strip()}")
        memory = _MEMORY.match(mnemonic)
        if memory is not None:
            room, way, kind = memory.groups()
            if room == "scratch" or "Folded" in rest:
                traffic += 1
            else:
                (loads if way == "load" else stores)[_width(kind)] += 1
        elif mnemonic.startswith(_TENSOR_CORE):
            tensor_core += 1
        elif mnemonic in ("s_barrier", "s_barrier_wait"):
            barriers += 1
    return Code(
        registers=_allocated(noted),
        spills=noted.get("vgpr_spill_count", 0) + noted.get("sgpr_spill_count", 0),
        stack=noted.get("private_segment_fixed_size", 0),
        instructions=number,
        loads=by_width(loads),
        stores=by_width(stores),
        tensor_core=tensor_core,
        local_memory=traffic,
        barriers=barriers,
        code_size=int(size[1]),
        scalars=noted.get("sgpr_count", 0),
        digest=digest_of(told),
    )


def _allocated(noted: dict[str, int]) -> int:
    """Give the registers of a thread; ``.vgpr_count`` counts accumulation registers in where they share a file."""
    return max(noted["vgpr_count"], noted.get("agpr_count", 0))


def _width(kind: str) -> int:
    return next((width for pattern, width in _WIDTHS if pattern.search(kind)), 4)
