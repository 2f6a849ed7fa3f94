"""Why do tests launch kernels as no declared launch does? Markers; each names what may be another, and nothing else.

A ``specialisations`` module declares the launches that users make, at the sizes of models. Tests take small ones, and
every combination of what a launcher accepts.
"""

from __future__ import annotations

import pytest

_undeclared = pytest.mark.undeclared_launches

#: Nothing is named: on a GPU alone.
around_int32 = _undeclared("shapes around those at which offsets of 32 bits wrap")

# Rows: row_quantization, silu_mul_quantization, slide_quantization, and the tokens of ternary_matmul.
few_short_rows = _undeclared(
    "few and short rows, cut up in any way: the interpreter is slow",
    *("TILE", "TILES", "WHOLE", "UNITS", "num_warps", "rows", "width", "up_offset", "*_row_stride", "q_blocks"),
)
any_type_of_rows = _undeclared(
    "every type that is taken; the commonest are declared", "x_ptr", "q_ptr", "CODE", "LARGEST", "VECTOR"
)
any_layout_of_rows = _undeclared("rows lie in memory in any way", "x_ptr", "x_*_stride")
any_address_of_codes = _undeclared("codes and scales begin anywhere", "q_ptr", "scale_ptr")
any_group = _undeclared("every size of a group, cut up in any way", "GROUP", "GROUPS", "PARTS", "ACROSS", "VECTOR")

narrow_heads = _undeclared(
    "a few narrow heads: the interpreter is slow", "HEADS", "GROUP", "PADDED", "WIDTH", "BLOCK", "SPLITS", "length"
)
attention_in_fp32 = _undeclared("fp32 shows errors that the rounding of 16 bits hides", "*_ptr")

narrow_layer = _undeclared(
    "few and short rows of weights, cut up in any way: the interpreter is slow",
    *(
        "TILE",
        "TILES",
        "TAIL",
        "RAGGED",
        "FOURS",
        "ROWS",
        "GROUP",
        "outputs",
        "width",
        "stride",
        "num_stages",
        "tokens",
    ),
)
any_parts_of_a_layer = _undeclared(
    "every combination of types, norm, gates, residual and codes; the commonest are declared",
    *("*_ptr", "GATED", "CODES", "FORMAT"),
)

few_products = _undeclared(
    "few rows and columns, cut up in any way: the interpreter is slow",
    *("BLOCK_*", "GROUP", "num_warps", "rows", "columns", "column_blocks", "*_row_stride"),
)
any_type_of_products = _undeclared("every type that is taken; the commonest are declared", "*_ptr", "HAS_BIAS")
any_layout_of_products = _undeclared("accumulators lie in memory in any way", "acc_ptr", "y_ptr", "acc_*_stride")

without_ptx = _undeclared("the interpreter runs no PTX; each pass and model is declared once", "PTX", "SMOOTH")
few_days = _undeclared("few days, cut up in any way: the interpreter is slow", "DAYS", "AHEAD", "BLOCK", "num_warps")
any_layout_of_series = _undeclared("what is not contiguous is copied, what is may begin anywhere", "*_ptr")
some_gradients = _undeclared(
    "any choice of gradients, storages and forcings", "initial_ptr", "*_gradient_ptr", "t_ptr", "pet_ptr"
)

few_tokens = _undeclared(
    "few tokens and narrow heads, cut up in any way: the interpreter is slow",
    *("BLOCK_*", "CHUNK", "K", "V", "RAGGED", "SLOTS", "heads", "tokens", "segment*", "num_stages", "width"),
    "*_stride",
)
any_type_of_tokens = _undeclared("every type that is taken; the commonest are declared", "?_ptr")
any_layout_of_tokens = _undeclared("tokens and heads lie in memory in any way", "?_ptr", "*_stride")
any_state = _undeclared(
    "states are carried in and out in every way", "HAS_STATE", "STORE_FINAL", "final_*", "states_ptr"
)

small_ternary_layer = _undeclared(
    "small layers, cut up in any way: the interpreter is slow, and has no instruction for products of four bytes",
    *("DOT", "TILE", "TILES", "OUTPUTS", "SLICES", "TOKENS", "num_stages", "num_warps", "outputs", "width", "blocks"),
    "x_row_stride",
)
any_type_of_a_ternary_layer = _undeclared(
    "every type that is taken; the commonest are declared", "x_ptr", "y_ptr", "bias_ptr"
)
