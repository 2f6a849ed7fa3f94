"""Are baseline keys readable, safe as folder names, and different for what must not be compared?"""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfgate.hardware.key import GIB, LONGEST, REFERENCES, cpu_key, gpu_key, memory_class_gb, printable, slug

MIB = 1024**2

# What nvidia-smi shows: name, memory.total in MiB, power limit in W.
CARDS = [
    ("NVIDIA H200", 143771, 700, "nvidia-h200"),
    ("NVIDIA H200", 143771, 500, "nvidia-h200-500w"),
    ("NVIDIA H200 NVL", 143771, 600, "nvidia-h200-nvl"),
    ("NVIDIA H100 80GB HBM3", 81559, 700, "nvidia-h100-80gb-hbm3"),
    ("NVIDIA H100 PCIe", 81559, 350, "nvidia-h100-pcie"),
    ("NVIDIA H100 PCIe", 81559, 310, "nvidia-h100-pcie-310w"),
    ("NVIDIA H100 NVL", 95830, 400, "nvidia-h100-nvl"),
    ("NVIDIA B200", 183359, 1000, "nvidia-b200"),
    ("NVIDIA A100-SXM4-40GB", 40960, 400, "nvidia-a100-sxm4-40gb"),
    ("NVIDIA A100-SXM4-80GB", 81920, 400, "nvidia-a100-sxm4-80gb"),
    ("NVIDIA A100 80GB PCIe", 81920, 300, "nvidia-a100-80gb-pcie"),
    ("NVIDIA A40", 46068, 300, "nvidia-a40"),
    ("NVIDIA L4", 23034, 72, "nvidia-l4"),
    ("NVIDIA L40S", 46068, 350, "nvidia-l40s"),
    ("Tesla T4", 15360, 70, "nvidia-tesla-t4"),
    ("Tesla T4", 15109, 70, "nvidia-tesla-t4"),
    ("NVIDIA GeForce RTX 4090", 24564, 450, "nvidia-geforce-rtx-4090"),
    ("NVIDIA GeForce RTX 3080", 10240, 320, "nvidia-geforce-rtx-3080-10gb-320w"),
    ("NVIDIA GeForce RTX 3080", 12288, 350, "nvidia-geforce-rtx-3080-12gb-350w"),
    ("NVIDIA GeForce RTX 3080 Laptop GPU", 16384, None, "nvidia-geforce-rtx-3080-laptop-gpu-16gb"),
    ("NVIDIA RTX 5880 Ada Generation", 46068, 285, "nvidia-rtx-5880-ada-generation-48gb-285w"),
    ("NVIDIA L20X", 143771, 700, "nvidia-l20x-141gb-700w"),
]

HOSTILE = [
    "../../etc/passwd",
    "..",
    ".",
    "",
    "   ",
    "/",
    "\\\\server\\share",
    "con",
    "COM1",
    "NVIDIA\x00H200",
    "NVIDIA\nH200",
    "NVIDIA\tH200",
    "NVIDIA H200\u202e",
    "NVIDIA H\u0662\u0660\u0660",
    "\u212aH200",
    "\ud800",
    "NVIDIA H200" * 100,
    "a:b*c?d<e>f|g\"h'i`j$k",
]


@pytest.mark.parametrize(("name", "memory_mib", "power_w", "key"), CARDS)
def test_the_key_of_a_real_card(name: str, memory_mib: int, power_w: int | None, key: str) -> None:
    assert gpu_key("nvidia", name, memory_mib * MIB, power_w) == key


@pytest.mark.parametrize(("memory_mib", "power_mw"), [(143771, 700_000), (143771, 699_600), (143156, 700_400)])
def test_the_same_card_keeps_its_key_whoever_measures_it(memory_mib: int, power_mw: int) -> None:
    assert gpu_key("nvidia", "NVIDIA H200", memory_mib * MIB, power_mw / 1000) == "nvidia-h200"


@pytest.mark.parametrize("unknown", [None, 0, -1.0, float("nan"), float("inf")])
def test_an_unknown_figure_leaves_its_suffix_out(unknown: float | None) -> None:
    assert gpu_key("nvidia", "NVIDIA GeForce RTX 3080", unknown, 320) == "nvidia-geforce-rtx-3080-320w"
    assert gpu_key("nvidia", "NVIDIA GeForce RTX 3080", 10 * GIB, unknown) == "nvidia-geforce-rtx-3080-10gb"
    assert gpu_key("nvidia", "NVIDIA H200", unknown, unknown) == "nvidia-h200"


@pytest.mark.parametrize(
    ("profile", "key"),
    [
        ("1g.18gb", "nvidia-h200-mig-1g-18gb"),
        ("3g.71gb", "nvidia-h200-mig-3g-71gb"),
        ("1c.3g.71gb", "nvidia-h200-mig-1c-3g-71gb"),
        ("1g.18gb+me", "nvidia-h200-mig-1g-18gb-plus-me"),
        ("1g.18gb-me", "nvidia-h200-mig-1g-18gb-me"),
    ],
)
def test_a_mig_instance_has_a_key_of_its_own(profile: str, key: str) -> None:
    assert gpu_key("nvidia", "NVIDIA H200", 143771 * MIB, 700, profile) == key


@pytest.mark.parametrize(
    ("name", "gib", "power_w", "key"),
    [
        ("AMD Instinct MI300X", 191.98, 750, "amd-instinct-mi300x"),
        ("AMD Instinct MI300X", 24.0, 750, "amd-instinct-mi300x-24gb"),
        ("AMD Instinct MI300X VF", 191.69, None, "amd-instinct-mi300x-vf-192gb"),
        ("AMD Instinct MI325X", 255.98, 1000, "amd-instinct-mi325x"),
        ("AMD Radeon RX 7900 XTX", 23.98, 303, "amd-radeon-rx-7900-xtx-24gb-303w"),
        ("AMD Radeon(TM) 890M Graphics", 4, None, "amd-radeon-890m-graphics-4gb"),
        ("Radeon RX 7900 XTX", 23.98, 303, "amd-radeon-rx-7900-xtx-24gb-303w"),
    ],
)
def test_the_key_of_an_amd_card(name: str, gib: float, power_w: float | None, key: str) -> None:
    assert gpu_key("amd", name, gib * GIB, power_w) == key


@pytest.mark.parametrize(
    ("name", "threads", "key"),
    [
        ("Intel(R) Xeon(R) Processor @ 2.50GHz", 2, "cpu-intel-xeon-processor-2-50ghz-2t"),
        ("Intel(R) Core(TM) i7-10700K CPU @ 3.80GHz", 16, "cpu-intel-core-i7-10700k-cpu-3-80ghz-16t"),
        ("AMD Ryzen 7 9700X 8-Core Processor             ", 16, "cpu-amd-ryzen-7-9700x-8-core-processor-16t"),
        ("AMD EPYC 7B13", 8, "cpu-amd-epyc-7b13-8t"),
        ("aarch64 0x41 0xd40", 4, "cpu-aarch64-0x41-0xd40-4t"),
        ("INTEL(R) XEON(R) PLATINUM 8480+", 112, "cpu-intel-xeon-platinum-8480--f3d6d57b25-112t"),
    ],
)
def test_the_key_of_a_cpu(name: str, threads: int, key: str) -> None:
    assert cpu_key(name, threads) == key


def test_a_lost_character_changes_the_key() -> None:
    assert cpu_key("Intel Xeon Platinum 8480+", 8) != cpu_key("Intel Xeon Platinum 8480", 8)


@pytest.mark.parametrize("one", HOSTILE)
def test_a_hostile_name_is_escaped(one: str) -> None:
    check_safe(slug(one))
    assert [other for other in HOSTILE if slug(other) == slug(one) and other != one] == []


@pytest.mark.parametrize("name", ["NVIDIA H200", "nvidia  h200 ", "NVIDIA(R) H200(tm)", "NVIDIA-H200", "_NVIDIA@H200."])
def test_what_the_docstring_says_is_folded_is_folded(name: str) -> None:
    assert slug(name) == "nvidia-h200"


def test_a_hashed_slug_shows_what_is_readable() -> None:
    assert re.fullmatch(r"etc-passwd--[0-9a-f]{10}", slug("../../etc/passwd"))
    assert re.fullmatch(r"con--[0-9a-f]{10}", slug("CON"))
    assert re.fullmatch(r"unnamed--[0-9a-f]{10}", slug("/"))


@given(st.text(max_size=200))
def test_a_slug_is_a_safe_file_name(name: str) -> None:
    check_safe(slug(name))


@given(st.text(st.sampled_from("aA1 ._-@/(r)™+\x00é"), max_size=12), st.text(st.sampled_from("aA1 ._-@/(r)™+\x00é")))
def test_slugs_are_equal_only_for_names_that_mean_the_same(one: str, other: str) -> None:
    assert (slug(one) != slug(other)) or one == other or plain(one) == plain(other)


@given(st.text(max_size=80), st.text(max_size=80))
def test_different_names_have_different_slugs(one: str, other: str) -> None:
    assert (slug(one) != slug(other)) or one == other or plain(one) == plain(other)


@given(st.text(st.sampled_from("ab12 -"), min_size=1, max_size=20))
def test_a_plain_name_cannot_imitate_a_hashed_one(name: str) -> None:
    assert "--" not in slug(name) or not plain(name)


WORDS = st.lists(st.sampled_from(["RTX", "3080", "10GB", "320W", "Ti"]), min_size=1, max_size=4).map(" ".join)
MEMORY = st.sampled_from([8, 10, 12, 24]).map(lambda gib: gib * GIB)
POWER = st.sampled_from([320, 350, 700])


@given(st.tuples(WORDS, MEMORY, POWER), st.tuples(WORDS, MEMORY, POWER))
def test_cards_that_differ_in_a_known_figure_differ_in_their_key(
    one: tuple[str, int, int], other: tuple[str, int, int]
) -> None:
    assert (gpu_key("nvidia", *one) == gpu_key("nvidia", *other)) == (one == other)


@given(st.floats(min_value=0.1, max_value=2000))
def test_the_memory_class_is_not_less_than_what_is_reported(gib: float) -> None:
    assert gib <= memory_class_gb(gib * GIB) <= max(1.5 * gib, gib + 32)


@given(st.floats(min_value=0.1, max_value=2000), st.floats(min_value=0.1, max_value=2000))
def test_the_memory_class_grows_with_the_memory(one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert memory_class_gb(low * GIB) <= memory_class_gb(high * GIB)


@pytest.mark.parametrize(("key", "reference"), REFERENCES.items())
def test_every_reference_is_reachable(key: str, reference: tuple[int, int]) -> None:
    vendor, _, model = key.partition("-")
    # Drivers report a few percent less than the card is sold with.
    assert gpu_key(vendor, model, reference[0] * 0.995 * GIB, reference[1]) == key


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("NVIDIA H200", "NVIDIA H200"),
        (" NVIDIA\nH200\x1b[31m\x00 ", "NVIDIA\\nH200\\x1b[31m\\x00"),
        ("H200\u202e", "H200\\u202e"),
        ("\ud800", "\\ud800"),
        ("x" * 200, "x" * 117 + "..."),
    ],
)
def test_untrusted_text_is_made_printable(text: str, shown: str) -> None:
    assert printable(text) == shown


def check_safe(name: str) -> None:
    assert re.fullmatch(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?", name, re.ASCII)
    assert len(name) <= LONGEST
    assert not re.fullmatch(r"con|prn|aux|nul|com[0-9]|lpt[0-9]", name)


def plain(name: str) -> str:
    """Fold what the module's docstring says is folded, and nothing else."""
    for mark in ("(r)", "(tm)", "(c)", "®", "™", "©"):
        name = re.sub(re.escape(mark), " ", name, flags=re.IGNORECASE | re.ASCII)
    name = "".join(c.lower() if c.isascii() else c for c in name)
    for separator in "._-@":
        name = name.replace(separator, " ")
    return " ".join(word for word in name.split(" ") if word)
