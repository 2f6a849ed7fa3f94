"""Is a launch compiled anew whenever something that its code depends on changes, and only then?

In one process: modules are written, changed and imported again; what was compiled lies in Triton's cache on the disk.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

pytest.importorskip("torch")
pytest.importorskip("triton")

FILES = {
    "kernel.py": """
import triton
import triton.language as tl
from cached import helpers
from cached.named import add, power
@triton.jit
def scale(x_ptr, y_ptr, TILE: tl.constexpr):
    offsets = tl.arange(0, TILE)
    x = helpers.twice(add(tl.load(x_ptr + offsets))) * 3.0 + helpers.SHIFT
    tl.store(y_ptr + offsets, x - power(2))
""",
    "helpers.py": """
import triton
import triton.language as tl
from cached.deeper import times
SHIFT = tl.constexpr(0.5)
@triton.jit
def twice(x):
    return times(x)
""",
    "named.py": """
import triton
import triton.language as tl
AMOUNT = tl.constexpr(1.0)
EXPONENT = 3
@triton.constexpr_function
def power(n):
    return n**EXPONENT + 1
@triton.jit
def add(x):
    return x + AMOUNT
""",
    "deeper.py": """
import triton
@triton.jit
def times(x):
    return x * 2.0
""",
    "specialisations.py": """
import torch
from cached.kernel import scale
def launch():
    x = torch.empty(4096, device="cuda")
    scale[(1,)](x, torch.empty_like(x), 1024, num_warps=4)
LAUNCHES = {"a": launch}
""",
}
#: By what is changed: the file, what it holds, and what it holds then.
CHANGES = {
    "nothing": ("kernel.py", "3.0", "3.0"),
    "the kernel": ("kernel.py", "3.0", "5.0"),
    "a helper of another module": ("helpers.py", "return times(x)", "return times(x) + x"),
    "what such a helper calls": ("deeper.py", "2.0", "7.0"),
    "a helper that is imported by its name": ("named.py", "x + AMOUNT", "x - AMOUNT"),
    "a constant of another module": ("named.py", "constexpr(1.0)", "constexpr(4.0)"),
    "a constant in another module": ("helpers.py", "constexpr(0.5)", "constexpr(0.25)"),
    "a number that a function for constants reads": ("named.py", "EXPONENT = 3", "EXPONENT = 5"),
    "a function for constants": ("named.py", "EXPONENT + 1", "EXPONENT + 2"),
    "an option": ("specialisations.py", "num_warps=4", "num_warps=8"),
    "a constant argument": ("specialisations.py", "1024", "2048"),
    "the type of an argument": ("specialisations.py", "(4096, device", "(4096, dtype=torch.float16, device"),
    "a hint": ("specialisations.py", "scale[(1,)](x,", "scale[(1,)](x[1:],"),
    "the target": ("", "", ""),
    "the compiler": ("", "", ""),
}
SCRIPT = """
import importlib, json, linecache, pathlib, sys
from unittest import mock
from triton import knobs
from triton.runtime import cache
from perfgate.static import compiling, reading
from perfgate.static.answers import Question
from perfgate.static.targets import TARGETS

sys.dont_write_bytecode = True
files, changes = json.loads(sys.stdin.read())
folder = pathlib.Path.cwd() / "cached"
sys.path.insert(0, str(folder.parent))
folder.mkdir()
hits = []
knobs.compilation.listener = lambda *, cache_hit, **_: hits.append(cache_hit)
compiling.warm_up()

def compiled(target="sm90"):
    for name in [name for name in sys.modules if name.split(".")[0] == "cached"]:
        del sys.modules[name]
    linecache.clearcache()
    importlib.invalidate_caches()
    hits.clear()
    made = compiling._compile(Question("cached.specialisations", "a", target), TARGETS[target])
    assert isinstance(made, compiling._Compiled), made
    return hits[-1], made.kernels[0]

def digests(kernels):
    # All of one target together: reading takes a second whatever their number.
    codes = reading.codes_of(kernels)
    return [codes[kernel.hash].digest for kernel in kernels]

def write(changed=""):
    for name, text in files.items():
        before, after = changes[changed][1:] if changed and changes[changed][0] == name else ("", "")
        assert before in text
        (folder / name).write_text(text.replace(before, after) if before else text)

(folder / "__init__.py").touch()
write()
found = {"": compiled()}
for changed in changes:
    write(changed)
    if changed == "the compiler":
        with mock.patch.object(cache, "triton_key", lambda: "another"):
            found[changed] = compiled()
    else:
        found[changed] = compiled("sm80" if changed == "the target" else "sm90")
alone = digests([found["the target"][1]])
together = digests([kernel for changed, (_, kernel) in found.items() if changed != "the target"])
told = {changed: (hit, (alone if changed == "the target" else together).pop(0)) for changed, (hit, _) in found.items()}
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[bool, str]]:
    """Compile after each change; whether it came from the cache, and the digest of the instructions."""
    folder = tmp_path_factory.mktemp("cache")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TRITON")}
    environment |= {"TRITON_CACHE_DIR": str(folder / "cache"), "CUDA_VISIBLE_DEVICES": ""}
    environment["PYTHONPATH"] = os.pathsep.join(entry for entry in sys.path if entry)
    done = subprocess.run(
        [sys.executable, "-P", "-W", "ignore", "-c", SCRIPT],
        input=json.dumps([FILES, CHANGES]), cwd=folder, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told: dict[str, tuple[bool, str]] = json.loads(done.stdout)
    return told


def test_the_first_compilation_fills_the_cache(found: dict[str, tuple[bool, str]]) -> None:
    assert found[""][0] is False
    assert found["nothing"] == [True, found[""][1]]


@pytest.mark.parametrize("changed", [name for name in CHANGES if name not in ("nothing", "the compiler")])
def test_a_change_is_compiled(found: dict[str, tuple[bool, str]], changed: str) -> None:
    hit, digest = found[changed]
    assert not hit
    assert digest != found[""][1]


def test_another_compiler_compiles_anew(found: dict[str, tuple[bool, str]]) -> None:
    assert found["the compiler"] == [False, found[""][1]]
