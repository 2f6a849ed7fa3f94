"""How is Triton's interpreter (``TRITON_INTERPRET=1``) made to round as a GPU does?

Found in Triton 3.6.0 and 3.9.0: a conversion to FP8 takes 1.9375 to 1 instead of 2, ties away from zero and subnormals
towards zero; one from bf16 to fp32 gets subnormals wrong, and one from fp32 to bf16 cuts off; ``tl.dot`` multiplies the
bits of a bf16 as integers. Found in 3.6.0: ``fma`` rounds twice; a loop cannot count to a number that NumPy 2.4 holds
as an array of one element. Found in 3.9.0: a conversion from FP8 takes NaN to 480.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import triton.language as tl


def round_as_a_gpu() -> None:
    """Replace what the interpreter of this process rounds differently; call it once, before a kernel runs."""
    from triton.runtime import interpreter

    original, dot = interpreter._convert_float, interpreter.InterpreterBuilder.create_dot

    def convert_float(values: np.ndarray, source: Any, target: Any, rounding_mode: Any) -> np.ndarray:
        if source == tl.bfloat16 and target == tl.float32:
            return values.view(np.uint16).astype(np.uint32) << 16
        if source == tl.float32 and target == tl.float8e4nv:
            floats = torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))
            return floats.to(torch.float8_e4m3fn).view(torch.uint8).numpy().reshape(values.shape)
        if source == tl.float8e4nv and target == tl.float32:
            codes = torch.from_numpy(np.ascontiguousarray(values).view(np.uint8)).view(torch.float8_e4m3fn)
            return codes.float().numpy().view(np.uint32).reshape(values.shape)
        if source == tl.float32 and target == tl.bfloat16:
            floats = torch.from_numpy(np.ascontiguousarray(values).view(np.float32))
            return floats.bfloat16().view(torch.int16).numpy().view(np.uint16).reshape(values.shape)
        return original(values, source, target, rounding_mode)

    def create_dot(builder: Any, a: Any, b: Any, accumulator: Any, *options: Any) -> Any:
        return dot(builder, _widened(a), _widened(b), accumulator, *options)

    def _widened(factor: Any) -> Any:
        if factor.dtype.scalar != tl.bfloat16:
            return factor
        bits = np.ascontiguousarray(factor.data).view(np.uint16).astype(np.uint32) << 16
        return interpreter.TensorHandle(bits.view(np.float32), tl.float32)

    def create_fma(_builder: Any, x: Any, y: Any, z: Any) -> Any:
        # The product of two fp32 is exact in fp64. The sum is rounded there and again to fp32, which changes a result
        # only within 2**-29 of its last place of a tie.
        exact = x.data.astype(np.float64) * y.data.astype(np.float64) + z.data.astype(np.float64)
        return interpreter.TensorHandle(exact.astype(z.data.dtype), z.dtype.scalar)

    patch_tensors = interpreter._patch_lang_tensor

    def patch_lang_tensor(tensor: Any, scope: Any) -> None:
        patch_tensors(tensor, scope)
        scope.set_attr(tensor, "__index__", lambda self: int(self.handle.data.item()))

    interpreter._patch_lang_tensor = patch_lang_tensor
    interpreter._convert_float = convert_float
    interpreter.InterpreterBuilder.create_dot = create_dot
    if not hasattr(interpreter._interpreter, "fma_fp32"):
        interpreter.InterpreterBuilder.create_fma = create_fma
