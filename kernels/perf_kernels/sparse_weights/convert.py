"""How are the weights of a linear layer turned into what 2:4 sparse hardware multiplies? Once, offline, in torch.

``prune_weight`` makes them 2:L sparse, ``slide_weight`` spreads each group over its windows, ``check_two_in_four``
validates, ``compress`` hands over to cuSPARSELt. See :mod:`~perf_kernels.sparse_weights.reference` for the definitions.

Everything is done on planes, one for each column of a group, so that each step is one operation over all groups at
once: pruning finds the two smallest of unique integer keys (magnitude, then column) by minima and maxima; sliding looks
up, by the pattern of a group's non-zeros, which lanes of its windows are filled. Weights are handled as integers of
their width: any data type, no rounding, and a NaN stays what it is.
"""

from __future__ import annotations

import functools

import torch

from perf_kernels.sparse_weights.reference import slid_columns, windows

#: Widths of groups; the table of patterns has 2**L entries.
GROUPS = (4, 6, 8, 10, 12, 14, 16)
_INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32}
#: What a key is held in: the magnitude and four bits for the column.
_KEYS = {1: torch.int16, 2: torch.int32, 4: torch.int64}
_TYPES = frozenset({torch.int8, torch.float8_e4m3fn, torch.float8_e5m2, torch.bfloat16, torch.float16, torch.float32})
#: Groups handled at a time: on a CPU what stays in its caches, on a GPU what keeps temporary memory below 4 GB.
_CPU_GROUPS = 2**16
_GPU_GROUPS = 2**25


def prune_weight(weight: torch.Tensor, group: int) -> torch.Tensor:
    """Zero the 2 smallest magnitudes in each group of ``group`` columns; of equal ones those further left.

    Missing columns of a ragged last group count as zeros, which are further right than any zero that is there.

    Args:
        weight: [N, K] int8, fp8 (e4m3fn, e5m2), bf16, fp16 or fp32, on any device.
        group: L, even, from 4 to 16.

    Returns:
        [N, K], a new tensor.

    Raises:
        TypeError, ValueError: a data type, shape or group that is not supported.
    """
    _check("prune_weight", weight, group)
    bits = _padded_bits(weight, group)
    key_type = _KEYS[weight.element_size()]
    pruned = torch.empty_like(bits)
    for part in _parts(bits, group):
        planes = _planes(bits[part], group)
        keys = _magnitudes(planes, weight.dtype).to(key_type).mul_(16)
        for column in range(group):
            keys[column] += column
        smallest, second = torch.minimum(keys[0], keys[1]), torch.maximum(keys[0], keys[1])
        for key in keys[2:]:
            second = torch.minimum(second, torch.maximum(smallest, key))
            smallest = torch.minimum(smallest, key)
        planes.masked_fill_(keys <= second, 0)
        pruned[part].unflatten(1, (-1, group)).copy_(planes.movedim(0, -1))
    return pruned[:, : weight.shape[1]].contiguous().view(weight.dtype)


def slide_weight(weight: torch.Tensor, group: int) -> torch.Tensor:
    """Spread 2:L sparse weights over windows of 4 so that they are 2:4 sparse.

    With activations slid alike the products stay the same: ``slide(x) . slide(w) == x . w``.

    Args:
        weight: [N, K] int8, fp8 (e4m3fn, e5m2), bf16, fp16 or fp32, on any device; at most ``group - 2`` non-zeros in
            each group.
        group: L, even, from 4 to 16.

    Returns:
        [N, K'], K' = ceil(K / L) (2 L - 4), padded with zeros to a multiple of 32.

    Raises:
        TypeError, ValueError: a data type, shape or group that is not supported.
        ValueError: a group with more non-zeros; nothing is dropped.
    """
    _check("slide_weight", weight, group)
    bits = _padded_bits(weight, group)
    slots, dense = _tables(group, weight.element_size(), str(weight.device))
    used = bits.shape[1] // group * len(slots)
    slid = bits.new_zeros(weight.shape[0], slid_columns(weight.shape[1], group))
    for part in _parts(bits, group):
        planes = _planes(bits[part], group)
        patterns = torch.zeros(planes.shape[1:], dtype=torch.int32, device=bits.device)
        for column, plane in enumerate(_magnitudes(planes, weight.dtype)):
            patterns += (plane != 0).to(torch.int32).mul_(1 << column)
        flat = patterns.view(-1)
        if dense.index_select(0, flat).any():
            _reject_dense(patterns, dense, group, part.start)
        lanes = slid[part, :used].unflatten(1, (-1, len(slots)))
        for number, slot in enumerate(slots):
            column = number // 4 * 2 + number % 4
            lanes[..., number] = planes[column] & slot.index_select(0, flat).view(patterns.shape)
    return slid.view(weight.dtype)


def check_sparse(weight: torch.Tensor, group: int) -> None:
    """Check that ``weight: [N, K]`` holds at most ``group - 2`` non-zeros in each group of ``group`` columns.

    Raises:
        TypeError, ValueError: a data type, shape or group that is not supported.
        ValueError: it does not; the message names the first row that does not.
    """
    _check("check_sparse", weight, group)
    bits = _padded_bits(weight, group)
    for part in _parts(bits, group):
        counts = (_magnitudes(bits[part], weight.dtype) != 0).unflatten(1, (-1, group)).sum(dim=-1)
        if (counts > group - 2).any():
            row, number = (counts > group - 2).nonzero()[0].tolist()
            raise _too_dense("check_sparse", part.start + row, number, int(counts[row, number]), group)


def check_two_in_four(weight: torch.Tensor) -> None:
    """Check that ``weight: [N, K]`` holds at most 2 non-zeros in each 4 columns, from column 0.

    Raises:
        TypeError: a data type that is not supported.
        ValueError: it does not, or K is no multiple of 4.
    """
    _check("check_two_in_four", weight, 4)
    if weight.shape[1] % 4:
        raise ValueError(f"check_two_in_four: weight has {weight.shape[1]} columns; it must have a multiple of 4")
    bits = weight.contiguous().view(_INTEGERS[weight.element_size()])
    for part in _parts(bits, 4):
        nonzero = _magnitudes(bits[part], weight.dtype) != 0
        # Four bytes that are 0 or 1, added up in the highest byte of one product.
        counts = nonzero.view(torch.int32) * 0x01010101 >> 24
        if (counts > 2).any():
            row, window = (counts > 2).nonzero()[0].tolist()
            raise ValueError(
                f"check_two_in_four: row {part.start + row}, columns {4 * window} to {4 * window + 3} hold "
                f"{int(counts[row, window])} non-zeros; 2:4 allows 2"
            )


def convert_weight(weight: torch.Tensor, group: int) -> torch.Tensor:
    """Prune, slide and validate ``weight: [N, K]``; see the three functions. Gives [N, K']."""
    slid = slide_weight(prune_weight(weight, group), group)
    check_two_in_four(slid)
    return slid


def compress(weight: torch.Tensor) -> torch.Tensor:
    """Compress 2:4 sparse weights for ``torch._cslt_sparse_mm``.

    Args:
        weight: [N, K'] int8, fp8 e4m3fn, bf16 or fp16 on an NVIDIA GPU, N and K' multiples of 32.

    Returns:
        What cuSPARSELt makes of it: values, then metadata, in an order of its own.

    Raises:
        ValueError: weights that are not 2:4 sparse (cuSPARSELt would drop some), are not on a GPU, or cannot be
            compressed.
    """
    if weight.device.type != "cuda" or not torch.backends.cusparselt.is_available():
        raise ValueError(
            f"compress: weight is on {weight.device}; it must be on an NVIDIA GPU, with a torch that has cuSPARSELt"
        )
    if weight.shape[0] % 32 or weight.shape[1] % 32:
        raise ValueError(f"compress: weight is {list(weight.shape)}; rows and columns must be multiples of 32")
    check_two_in_four(weight)
    return torch._cslt_compress(weight.contiguous())


def bytes_moved(rows: int, columns: int, group: int, itemsize: int) -> int:
    """Count the bytes that pruning, sliding and validating must move, each reading and writing memory once."""
    return rows * (3 * columns + 2 * slid_columns(columns, group)) * itemsize


def _check(name: str, weight: torch.Tensor, group: int) -> None:
    if weight.dtype not in _TYPES:
        raise TypeError(
            f"{name}: weight is {weight.dtype}; it must be torch.int8, torch.float8_e4m3fn, torch.float8_e5m2, "
            "torch.bfloat16, torch.float16 or torch.float32"
        )
    if weight.ndim != 2:
        raise ValueError(f"{name}: weight has {weight.ndim} dimensions; it must have 2, outputs and inputs")
    if group not in GROUPS:
        raise ValueError(f"{name}: group is {group}; it must be even, from 4 to 16")


def _padded_bits(weight: torch.Tensor, group: int) -> torch.Tensor:
    """View weights as integers of their width, columns padded with zeros to whole groups."""
    bits = weight.contiguous().view(_INTEGERS[weight.element_size()])
    return torch.nn.functional.pad(bits, (0, -weight.shape[1] % group)) if weight.shape[1] % group else bits


def _magnitudes(bits: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Give integers that sort as the magnitudes do, 0 for 0 and -0; those of int8 in an int16, for -128."""
    return bits.to(torch.int16).abs_() if dtype is torch.int8 else bits & torch.iinfo(bits.dtype).max


def _planes(bits: torch.Tensor, group: int) -> torch.Tensor:
    """Give ``[L, rows, groups]``, contiguous, of whole groups."""
    return bits.unflatten(1, (-1, group)).movedim(-1, 0).contiguous()


def _parts(bits: torch.Tensor, group: int) -> list[slice]:
    """Cut rows into parts that are handled at a time."""
    rows, columns = bits.shape
    if bits.numel() == 0:
        return []
    step = max(1, (_CPU_GROUPS if bits.device.type == "cpu" else _GPU_GROUPS) * group // columns)
    return [slice(start, min(start + step, rows)) for start in range(0, rows, step)]


@functools.lru_cache(maxsize=64)
def _tables(group: int, itemsize: int, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Tabulate the greedy placement for every pattern of non-zeros.

    Returns:
        Which lanes are filled, [4 W, 2**L] with all bits set or none, of the weights' integer type; and the patterns
        that are too dense, [2**L] bool.
    """
    patterns = torch.arange(2**group)
    placed = torch.zeros_like(patterns)
    slots = []
    for window in range(windows(group)):
        held = torch.zeros_like(patterns)
        for lane in range(4):
            column = 2 * window + lane
            taken = (patterns & ~placed) >> column & (held < 2)
            placed |= taken << column
            held += taken
            slots.append(-taken)
    nonzeros = sum((patterns >> column & 1 for column in range(group)), start=torch.zeros_like(patterns))
    return torch.stack(slots).to(_INTEGERS[itemsize]).to(device), (nonzeros > group - 2).to(device)


def _reject_dense(patterns: torch.Tensor, dense: torch.Tensor, group: int, first_row: int) -> None:
    """Raise ValueError for the first group that is too dense."""
    row, number = dense[patterns.long()].nonzero()[0].tolist()
    raise _too_dense("slide_weight", first_row + row, number, int(patterns[row, number]).bit_count(), group)


def _too_dense(name: str, row: int, number: int, nonzeros: int, group: int) -> ValueError:
    """Say which group of which row has too many non-zeros."""
    first = number * group
    return ValueError(
        f"{name}: row {row}, group {number} (columns {first} to {first + group - 1}) has {nonzeros} non-zeros; "
        f"2:{group} allows {group - 2}: prune the weights first"
    )
