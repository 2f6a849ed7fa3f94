"""Is the recorded software the one that a measurement depends on, found without importing it?"""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
import sys

import pytest

from perfgate.hardware.software import Software, environment, installed
from perfgate.hardware.sources import Sources

VERSION_FILE = """\
from typing import Optional

__all__ = ['__version__', 'debug', 'cuda', 'git_version', 'hip', 'rocm', 'xpu']
__version__ = '2.11.0+cu130'
debug = False
cuda: Optional[str] = '13.0'
git_version = 'cf30153c4c131c8164ee7798e5022d810682e2cb'
hip: Optional[str] = None
"""


def machine(versions: dict[str, str], version_file: str | None = None) -> Sources:
    return Sources(version=versions.get, package_text=lambda package, path: version_file, python="3.12.3")


def test_versions_come_from_metadata_and_the_toolkit_from_torchs_version_file() -> None:
    sources = machine({"torch": "2.11.0", "triton": "3.6.0"}, VERSION_FILE)
    assert installed(sources) == Software("3.12.3", torch="2.11.0", triton="3.6.0", cuda="13.0")


@pytest.mark.parametrize(
    ("found", "recorded"),
    [
        ("2.13.0+cpu", "2.13.0"),
        ("2.11.0+cu130", "2.11.0"),
        ("2.9.0+rocm6.4", "2.9.0"),
        ("2.6.0a0+ecf3bae40a.nv25.01", "2.6.0a0+ecf3bae40a.nv25.01"),
        ("2.13.0+gitabcdef", "2.13.0+gitabcdef"),
    ],
)
def test_the_toolkit_is_not_part_of_torchs_version(found: str, recorded: str) -> None:
    assert installed(machine({"torch": found})).torch == recorded


@pytest.mark.parametrize(
    "text", ["hip: Optional[str] = '6.3.42131-fa1'", "hip: str | None = '6.3.42131-fa1'", 'hip = "6.3.42131-fa1"']
)
def test_the_version_file_is_read_in_every_form(text: str) -> None:
    assert installed(machine({"torch": "2.9.0"}, f"cuda: Optional[str] = None\n{text}\n")).hip == "6.3.42131-fa1"


@pytest.mark.parametrize("package", ["triton", "triton-rocm", "pytorch-triton-rocm", "pytorch-triton"])
def test_triton_is_found_under_each_of_its_names(package: str) -> None:
    assert installed(machine({package: "3.6.0"})).triton == "3.6.0"


FULL = Software("3.12.3", torch="2.11.0", triton="3.6.0", cuda="13.0", hip="6.3.42131")


def test_each_kind_of_device_records_what_it_depends_on_in_a_fixed_order() -> None:
    assert list(environment("cuda", FULL, {"cuda": "12.8", "driver": "580.1"}).items()) == [
        ("driver", "580.1"), ("cuda", "13.0"), ("torch", "2.11.0"), ("triton", "3.6.0"), ("python", "3.12.3"),
    ]  # fmt: skip
    assert list(environment("rocm", FULL, {"rocm": "6.3.1-48", "driver": "6.10.5"}).items()) == [
        ("driver", "6.10.5"), ("rocm", "6.3.42131"), ("torch", "2.11.0"), ("triton", "3.6.0"), ("python", "3.12.3"),
    ]  # fmt: skip
    assert list(environment("cpu", FULL, {}).items()) == [("torch", "2.11.0"), ("python", "3.12.3")]


def test_what_is_missing_is_left_out() -> None:
    bare = Software("3.12.3")
    assert environment("cpu", bare, {}) == {"python": "3.12.3"}
    assert environment("cuda", bare, {"driver": "580.1", "cuda": "12.8"}) == {
        "driver": "580.1",
        "cuda": "12.8",
        "python": "3.12.3",
    }
    assert environment("rocm", bare, {"rocm": "6.3.1-48"}) == {"rocm": "6.3.1-48", "python": "3.12.3"}


def test_a_version_is_made_printable() -> None:
    assert environment("cuda", Software("3.12.3"), {"driver": "580\x1b[31m\n"})["driver"] == "580\\x1b[31m"


def test_this_machine() -> None:
    software = installed(Sources())
    assert software.python == platform.python_version()
    assert software.torch == importlib.metadata.version("torch").split("+")[0]


def test_detecting_a_machine_without_a_gpu_imports_nothing_heavy() -> None:
    code = (
        "import sys; from perfgate.hardware import detect_from; from perfgate.hardware.sources import Sources\n"
        "hardware = detect_from(Sources(exists=lambda path: False))\n"
        "heavy = {'torch', 'triton', 'numpy', 'scipy', 'pynvml', 'amdsmi', 'pytest'} & set(sys.modules)\n"
        "print(hardware.accelerator, sorted(heavy))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("None []\n", "")
