"""Are the figures of compiled code read as they stand in the tools' output?"""

from __future__ import annotations

import hashlib
import struct
import subprocess
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from perfgate.errors import PerfgateError
from perfgate.static import amd, nvidia
from perfgate.static.figures import Code, Figures, Form, by_class, by_width, from_json, mean_width, to_json
from perfgate.static.metrics import metrics_of
from perfgate.static.reading import default_options
from perfgate.static.targets import TARGETS

USAGE = """
Resource usage:
 Common:
  GLOBAL:0
 Function k:
  REG:40 STACK:16 SHARED:1024 LOCAL:8 CONSTANT[0]:584 TEXTURE:0 SURFACE:0 SAMPLER:0
"""
SASS = """
        /*0000*/                   LDC R1, c[0x0][0x28] ;
        /*0010*/              @!P0 LDG.E.128.CONSTANT R4, desc[UR4][R2.64] ;
        /*0020*/                   LDG.E.U16 R5, desc[UR4][R2.64] ;
        /*0030*/                   LDGSTS.E.BYPASS.128 [R9], desc[UR4][R2.64] ;
        /*0040*/                   LDG.E R5, desc[UR4][R2.64] ;
        /*0050*/               @P1 STG.E.64 desc[UR4][R2.64], R4 ;
        /*0060*/                   STG.E.U8 desc[UR4][R2.64], R4 ;
        /*0070*/                   STL.128 [R1], R4 ;
        /*0080*/                   LDL R4, [R1] ;
        /*0090*/                   BAR.SYNC.DEFER_BLOCKING 0x0 ;
        /*00a0*/                   HMMA.16816.F32 R4, R8, R10, R4 ;
        /*00b0*/                   HGMMA.64x64x16.F32 R24, gdesc[UR4], RZ ;
        /*00c0*/                   UTCHMMA gdesc[UR4], gdesc[UR6], tmem[UR8] ;
        /*00d0*/                   UTMALDG.2D [UR8], [UR6] ;
        /*00e0*/                   EXIT ;
.L_x_1:
        /*00f0*/                   BRA `(.L_x_1);
        /*0100*/                   NOP;
"""
ASSEMBLY = """
\t.amdgcn_target "amdgcn-amd-amdhsa--gfx942"
k:                       ; @k
\ts_load_dwordx4 s[12:15], s[0:1], 0x28
\tbuffer_load_dwordx4 v[18:21], v1, s[12:15], 0 offen
\tglobal_load_ushort v2, v[0:1], off
\tglobal_load_sbyte_d16 v2, v[0:1], off
\tglobal_load_dword v2, v[0:1], off
\tbuffer_store_dwordx2 v[2:3], v1, s[12:15], 0 offen
\tbuffer_store_dword v9, off, s[0:3], 0 offset:4 ; 4-byte Folded Spill
\tscratch_load_dwordx2 v[2:3], off, s0
\tv_mfma_f32_32x32x8_f16 a[0:15], v[0:1], v[2:3], a[0:15]
\ts_barrier
\ts_endpgm
.Lfunc_end0:
\ts_code_end
; codeLenInByte = 2528
  - .agpr_count:     16
    .private_segment_fixed_size: 24
    .sgpr_count:     22
    .sgpr_spill_count: 1
    .vgpr_count:     74
    .vgpr_spill_count: 2
"""


def counted(usage: str = USAGE, sass: str = SASS) -> Code:
    """Read what the tools printed of a kernel."""
    return nvidia.parse(usage, (opcode for _, opcode in nvidia.opcodes(sass)))


def test_nvidia() -> None:
    code = counted()
    assert (code.registers, code.stack, code.spills, code.local_memory) == (40, 24, 4, 2)
    assert code.loads == {16: 3, 8: 0, 4: 1, 2: 1, 1: 0}
    assert code.stores == {16: 0, 8: 1, 4: 0, 2: 0, 1: 1}
    # Two of 16 bytes of 3 x 16 + 4 + 2: the thread does not wait for them.
    assert code.asynchronous_bytes == 32
    assert (code.tensor_core, code.barriers) == (3, 1)
    # Padding does not count.
    assert (code.instructions, code.code_size) == (16, 256)


@pytest.mark.parametrize(
    ("opcode", "loads", "stores"),
    [
        ("UTMALDG.2D.MULTICAST", 1, 0),
        ("UBLKCP.S.G", 1, 0),
        ("UBLKCP.G.S", 0, 1),
        ("UBLKRED.G.S.ADD", 0, 1),
        ("UTMASTG.2D", 0, 1),
        ("UTMAREDG.2D.ADD", 0, 1),
        ("UBLKCP.S.S", 0, 0),
        ("UBLKPF.L2", 0, 0),
        ("UTMAPF.L2.2D", 0, 0),
    ],
)
def test_bulk_copies_count_by_their_direction(opcode: str, loads: int, stores: int) -> None:
    code = nvidia.parse(USAGE, [opcode])
    assert (code.loads[16], code.stores[16], code.asynchronous_bytes) == (loads, stores, 16 * loads)


def test_amd() -> None:
    code = amd.parse(ASSEMBLY)
    assert (code.registers, code.scalars, code.stack, code.spills, code.local_memory) == (74, 22, 24, 3, 2)
    assert code.loads == {16: 1, 8: 0, 4: 1, 2: 1, 1: 1}
    assert code.stores == {16: 0, 8: 1, 4: 0, 2: 0, 1: 0}
    assert (code.tensor_core, code.barriers, code.instructions, code.code_size) == (1, 1, 11, 2528)


@pytest.mark.parametrize(
    ("kind", "width"),
    [
        ("dwordx4", 16), ("b128", 16), ("dwordx3", 12), ("dwordx2", 8), ("b64", 8), ("dword", 4), ("b32", 4),
        ("lds_dwordx4", 16), ("ushort", 2), ("short_d16_hi", 2), ("u16", 2), ("d16_b16", 2), ("ubyte", 1), ("i8", 1),
    ],
)  # fmt: skip
def test_widths_of_amd_accesses(kind: str, width: int) -> None:
    assembly = ASSEMBLY.replace("buffer_load_dwordx4", f"global_load_{kind}")
    loads = amd.parse(assembly).loads
    before = {16: 0, 8: 0, 4: 1, 2: 1, 1: 1}
    assert loads == {**before, width: before.get(width, 0) + 1}


@pytest.mark.parametrize(
    ("opcode", "width"),
    [
        ("LDG.E", 4), ("LDG.E.U8", 1), ("LDG.E.S8.CONSTANT", 1), ("LDG.E.EF.U16", 2), ("LDG.E.64", 8),
        ("LDG.E.LTC128B.64", 8), ("LDG.E.LTC128B", 4), ("LDGSTS.E.BYPASS.LTC128B.128", 16),
        ("LDG.E.128.STRONG.GPU", 16), ("LDG.E.ENL2.256", 32), ("LD.E.U8", 1), ("UTMALDG.2D", 16),
    ],
)  # fmt: skip
def test_widths_of_nvidia_accesses(opcode: str, width: int) -> None:
    assert nvidia.parse(USAGE, [opcode]).loads == by_width({width: 1})
    if opcode.startswith("LDG.E"):
        assert nvidia.parse(USAGE, [opcode.replace("LDG", "STG")]).stores == by_width({width: 1})


def test_bytes_are_those_of_the_widths() -> None:
    """Of accesses that are counted in one class, too: of 1 and 2 bytes, and of 12 and 8 or 16 and 32."""
    code = Code(40, 0, 0, 300, {32: 1, 12: 2, 4: 1, 2: 3, 1: 5}, {1: 7}, 0, 0, 0, 4800)
    metrics = {each.name: each.value for each in metrics_of([Figures("k", "sm100", 4, 0, 0.5, (), code)], {}, {})}
    assert (metrics["load_bytes"], metrics["store_bytes"], metrics["store_width"]) == (71, 7, 1)
    counts = ["loads_narrower", "loads_at_most_4", "loads_at_most_8", "loads", "stores_narrower"]
    assert [metrics[name] for name in counts] == [8, 9, 9, 12, 7]
    assert by_class(code.loads) == {16: 1, 8: 2, 4: 1, 2: 8}


def test_the_digest_is_of_the_instructions_alone() -> None:
    moved = ASSEMBLY.replace("Folded Spill", "Folded Spill again")
    assert amd.parse(moved).digest == amd.parse(ASSEMBLY).digest
    assert amd.parse(ASSEMBLY.replace("v[18:21]", "v[22:25]")).digest != amd.parse(ASSEMBLY).digest


def cubin(*sections: tuple[str, bytes]) -> bytes:
    """Make an ELF file of sections, as a cubin is one."""
    names = b"\0" + b"".join(name.encode() + b"\0" for name, _ in sections) + b".shstrtab\0"
    contents, headers = b"", bytes(64)
    for name, held in (*sections, (".shstrtab", names)):
        at = names.index(b"\0" + name.encode() + b"\0") + 1
        headers += struct.pack("<IIQQQQIIQQ", at, 1, 0, 0, 64 + len(contents), len(held), 0, 0, 0, 0)
        contents += held
    count = len(sections) + 2
    table = 64 + len(contents)
    start = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF", 2, 190, 1, 0, 0, table, 0, 64, 0, 0, 64, count, count - 1)
    return start + contents + headers


def test_kernels_are_disassembled_together_and_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("triton")
    first, second = bytes(range(32)), bytes(range(100, 148))
    started: list[tuple[str, ...]] = []

    def run(command: list[str], **_: Any) -> SimpleNamespace:
        started.append((Path(command[0]).name, *command[1:-1]))
        contents = Path(command[-1]).read_bytes()
        if "cuobjdump" in command[0]:
            return SimpleNamespace(returncode=0, stdout=USAGE.replace("REG:40", f"REG:{len(contents)}"))
        assert contents == first + first + second
        printed = ("EXIT", "NOP", "EXIT", "EXIT", "STG.E.64 [R2.64], R4", "HMMA.16816.F32 R4", "EXIT")
        return SimpleNamespace(
            returncode=0, stdout="".join(f"        /*{16 * at:04x}*/    {text} ;\n" for at, text in enumerate(printed))
        )

    monkeypatch.setattr(nvidia.subprocess, "run", run)
    one, two = cubin((".nv.info", b"..."), (".text.k", first)), cubin((".text.k", first), (".text.helper", second))
    small, large = nvidia.read([one, two], 90)
    assert [command for command in started if command[0] == "nvdisasm"] == [
        ("nvdisasm", "--no-dataflow", "--binary", "SM90a")
    ]
    assert (small.registers, small.instructions, small.stores[8], small.tensor_core) == (len(one), 1, 0, 0)
    assert (large.registers, large.instructions, large.stores[8], large.tensor_core) == (len(two), 5, 1, 1)
    # The digest is of the bytes of the instructions: neither names nor line numbers are in it.
    assert small.digest == hashlib.sha256(first).hexdigest()[:12]
    assert large.digest == hashlib.sha256(first + second).hexdigest()[:12]


@pytest.mark.parametrize("broken", [b"", b"\x7fELF", cubin((".nv.info", b"..."))])
def test_a_cubin_without_instructions(broken: bytes) -> None:
    with pytest.raises(PerfgateError) as caught:
        nvidia.read([broken], 80)
    assert str(caught.value) == ("the cubin holds no instructions\nIt is no ELF file with a section .text.<function>.")


def test_tools_that_cannot_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("triton")

    def fail(command: list[str], **_: Any) -> SimpleNamespace:
        return SimpleNamespace(returncode=255, stdout="", stderr="nvdisasm fatal: no\n")

    monkeypatch.setattr(nvidia.subprocess, "run", fail)
    with pytest.raises(PerfgateError) as caught:
        nvidia.sass(b"")
    assert str(caught.value) == "nvdisasm ended with exit code 255\nnvdisasm fatal: no"

    def hang(command: list[str], **_: Any) -> SimpleNamespace:
        raise subprocess.TimeoutExpired(command, 120)

    monkeypatch.setattr(nvidia.subprocess, "run", hang)
    with pytest.raises(PerfgateError) as caught:
        nvidia.sass(b"")
    assert str(caught.value) == "nvdisasm took more than 120 s"

    def missing(command: list[str], **_: Any) -> SimpleNamespace:
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr(nvidia.subprocess, "run", missing)
    with pytest.raises(PerfgateError) as caught:
        nvidia.sass(b"")
    assert str(caught.value) == (
        "nvdisasm cannot be started: No such file or directory\n"
        "It comes inside triton and with the CUDA toolkit; without it compiled code cannot be read.\n"
        "hint: install a triton wheel of the registry, or put the CUDA toolkit's bin folder on PATH"
    )


def test_output_that_cannot_be_read() -> None:
    with pytest.raises(PerfgateError) as caught:
        counted("cuobjdump fatal: unknown file")
    assert str(caught.value) == "cuobjdump: no resource usage in what it printed\ncuobjdump fatal: unknown file"
    with pytest.raises(PerfgateError) as caught:
        amd.parse("\ts_endpgm\n")
    assert str(caught.value) == "the assembly lacks the kernel's metadata (.vgpr_count)"


def test_mean_width() -> None:
    assert mean_width({}) == 0
    assert mean_width({16: 5, 4: 0}) == 16
    # One narrow load of a scale hardly counts.
    assert mean_width({16: 5, 4: 1}) == pytest.approx(15.43, abs=0.01)
    assert mean_width({4: 20}) == 4


def test_figures_survive_json() -> None:
    code = counted()
    figures = Figures("k", "sm90", 4, 1024, 0.5, ("%1 = arith.muli",), code, Form("m.k", {"x": "*fp32:16"}, {"n": "1"}))
    import json

    assert from_json(json.loads(json.dumps(to_json(figures)))) == figures
    assert isinstance(figures.code, Code)


def test_options_that_a_launch_does_not_give() -> None:
    pytest.importorskip("triton")
    options = default_options(TARGETS["sm90"])
    assert (options["num_warps"], options["num_stages"]) == ("4", "3")
    assert default_options(replace(TARGETS["sm90"], backend="another")) == {}
