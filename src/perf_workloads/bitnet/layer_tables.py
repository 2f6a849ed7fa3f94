"""What does a reader see of the linear layers: advice, sizes, kinds and single layers?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from perf_workloads.bitnet import words
from perf_workloads.bitnet.table import Table

#: Rows of the tables that show the first layers of an order.
TOP = 20


def advice(report: Mapping[str, Any]) -> Table:
    """Rank the kinds of layers."""
    groups = report["advice"]["groups"]
    roofline_s = sum(group["roofline_s"] for group in groups)
    warm_s = sum(group["warm_s"] for group in groups)
    rows = [
        (
            str(rank),
            group["name"],
            str(group["layers"]),
            "ternary" if group["ternary"] else "not ternary",
            words.shape(group["input_shape"]),
            words.shape(group["output_shape"]),
            words.ms(group["roofline_s"]),
            words.percent(group["roofline_s"] / roofline_s),
            group["bound"],
            words.ms(group["warm_s"]),
            words.percent(group["roofline_share"]),
        )
        for rank, group in enumerate(groups, 1)
    ]
    return Table(
        "Offload advice: kinds of layers",
        f"Ranked by roofline, the least time of one token on this machine: {words.ms(roofline_s)} ms in all. "
        f"{_beyond(roofline_s, warm_s)} First calls, measured times and frequencies play no part in the order.",
        (
            "rank",
            "layers",
            "number",
            "weights",
            "input",
            "output",
            "roofline ms",
            "share",
            "bound",
            "warm ms",
            "of roofline",
        ),
        rows,
    )


def _beyond(roofline_s: float, warm_s: float) -> str:
    """Say what warm calls take beyond the roofline."""
    if warm_s < roofline_s:
        return f"Warm calls take {words.ms(warm_s)} ms: the ceilings were measured while the machine was busier."
    share = words.percent(1 - roofline_s / warm_s)
    return f"Warm calls take {words.ms(warm_s)} ms; {share} of that better software can save without another device."


def candidates(report: Mapping[str, Any]) -> Table:
    """Rank single layers."""
    rows = [
        (
            str(rank),
            layer["name"],
            words.shape(layer["input_shape"]),
            words.shape(layer["output_shape"]),
            words.millions(layer["parameters"]),
            f"{words.ms(layer['roofline_s'])}",
            layer["bound"],
            words.ms(layer["warm_s"]),
        )
        for rank, layer in enumerate(report["advice"]["layers"][:TOP], 1)
    ]
    return Table(
        f"Offload advice: first {TOP} layers",
        "Twins stand in the order of the model: nothing measured tells them apart.",
        ("rank", "layer", "input", "output", "parameters M", "roofline ms", "bound", "warm ms"),
        rows,
    )


def sizes(report: Mapping[str, Any]) -> Table:
    """Tell what the weights take."""
    sizes = report["sizes"]
    rows = [
        ("all linear layers, fp32", words.mb(sizes["fp32_bytes"])),
        ("ternary layers, fp32", words.mb(sizes["ternary_fp32_bytes"])),
        ("ternary layers, 2 bits", words.mb(sizes["packed_bytes"])),
        ("ternary layers, 1.58 bits", words.mb(sizes["ternary_bytes"])),
        ("head as it is", words.mb(sizes["head_bytes"])),
    ]
    return Table(
        "Size of the linear weights",
        f"The ternary layers become {sizes['compression']:.1f} times smaller than in fp32, all linear layers "
        f"{sizes['compression_with_head']:.1f} times: the head is not ternary.",
        ("weights", "MB"),
        rows,
    )


def groups(report: Mapping[str, Any]) -> Table:
    """Add up the layers of each kind."""
    rows = [
        (
            group["name"],
            str(group["layers"]),
            words.ms(group["total_s"]),
            words.ms(group["normalised_s"]),
            words.percent(group["share"]),
            words.ms(group["cold_s"]),
            words.ms(group["warm_s"]),
            words.millions(group["parameters"]),
            group["product"],
        )
        for group in report["groups"]
    ]
    columns = ("module", "layers", "total ms", "normalised ms", "share", "first calls ms", "warm ms a token")
    text = "The product is what one more call was seen to run, which nobody timed."
    return Table("Linear layers by module", text, (*columns, "parameters M", "product"), rows)


def layers(layers: Sequence[Mapping[str, Any]], heading: str, text: str, *, long: bool = False) -> Table:
    """List layers."""
    rows = [
        (
            layer["name"],
            str(layer["calls"]),
            words.ms(layer["total_s"]),
            words.ms(layer["normalised_s"]),
            words.percent(layer["share"]),
            words.ms(layer["cold_s"]),
            words.ms(layer["warm_s"]),
            words.ms(layer["roofline_s"]),
            words.shape(layer["input_shape"]),
            words.shape(layer["output_shape"]),
            words.millions(layer["parameters"]),
        )
        for layer in layers
    ]
    columns = ("layer", "calls", "total ms", "normalised ms", "share", "first calls ms", "warm ms", "roofline ms")
    return Table(heading, text, (*columns, "input", "output", "parameters M"), rows, long)
