"""Does the static gate compile every kernel that says which launches there are?"""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
KERNELS = ROOT / "kernels"
GATE = ROOT / "perf_tests" / "static" / "test_kernels.py"


def listed(source: str) -> list[str]:
    """Give the places of ``@pytest.mark.static(place)`` on the test functions of a module."""
    return [
        ast.literal_eval(decorator.args[0])
        for function in ast.parse(source).body
        if isinstance(function, ast.FunctionDef) and function.name.startswith("test_")
        for decorator in function.decorator_list
        if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "pytest.mark.static"
    ]


def test_every_kernel_is_listed_once() -> None:
    declared = [
        ".".join(path.relative_to(KERNELS).with_suffix("").parts)
        for path in KERNELS.glob("perf_kernels/**/specialisations.py")
    ]
    assert len(declared) > 1
    places = listed(GATE.read_text(encoding="utf-8"))
    assert sorted(place for place in places if ":" not in place) == sorted(declared)
    # Launches under another name belong to one of these kernels.
    assert {place.partition(":")[0] for place in places} == set(declared)


def test_only_what_pytest_collects_is_listed() -> None:
    source = """
@pytest.mark.static("a.specialisations")
def test_a(compiled): ...

# @pytest.mark.static("b.specialisations")
@pytest.mark.static("c.specialisations")
def helper(compiled): ...
"""
    assert listed(source) == ["a.specialisations"]
