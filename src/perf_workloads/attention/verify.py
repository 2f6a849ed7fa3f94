"""Which attention did a call take in fact, whatever was asked for? Read from the operators that ran. Imports torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from perf_workloads.attention.config import DecoderConfig
from perf_workloads.implementation import WrongImplementation
from perf_workloads.operators import operators_of
from perfgate.measure import notes

#: Operator of torch -> the backend that it belongs to. The math backend is made of others, a softmax among them.
_FUSED = {
    "aten::_scaled_dot_product_flash_attention": "flash",
    "aten::_scaled_dot_product_flash_attention_for_cpu": "flash",
    "aten::_scaled_dot_product_efficient_attention": "efficient",
    "aten::_scaled_dot_product_cudnn_attention": "cudnn",
}
_MATH = ("aten::_safe_softmax", "aten::_softmax")


def sdpa_backends(call: Callable[[], object]) -> set[str]:
    """Run a call and give the backends that scaled_dot_product_attention took in it.

    A model that has a softmax of its own (not a log-softmax) looks as if it used the math backend, too.
    """
    names = operators_of(call).names
    seen = {backend for name, backend in _FUSED.items() if name in names}
    return seen | ({"math"} if any(name in names for name in _MATH) else set())


def assert_sdpa_backend(call: Callable[[], object], backend: str) -> None:
    """Check that a call takes one backend and no other.

    Raises:
        WrongImplementation: it took another one.
    """
    seen = sdpa_backends(call)
    if seen != {backend}:
        raise WrongImplementation(
            f"asked for the {backend} backend of scaled_dot_product_attention, and "
            f"{' and '.join(sorted(seen)) or 'none'} ran"
        )


def assert_implementation(call: Callable[[], object], config: DecoderConfig) -> None:
    """Check that a call of a decoder is computed by what its configuration names.

    Args:
        call: in the arithmetic of training, see ``training.logits``: flash attention has no fp32 kernel on a GPU.
        config: of the decoder.

    Raises:
        WrongImplementation: it is computed by something else.
    """
    if config.mixer == "softmax":
        assert_sdpa_backend(call, config.implementation)
        return
    noted: dict[str, set[str]] = {}
    with notes.collect(noted):
        call()
    ran = noted.get({"linear": "linear_attention", "gated_deltanet": "gated_delta_rule"}[config.mixer], set())
    if ran != {config.implementation}:
        raise WrongImplementation(f"asked for {config.implementation}, and {' and '.join(sorted(ran)) or 'none'} ran")
    if config.mixer == "gated_deltanet":
        _assert_convolution(call, noted.get("causal_conv1d", set()), config)


def _assert_convolution(call: Callable[[], object], noted: set[str], config: DecoderConfig) -> None:
    """Check who computes the short convolutions of a gated delta net. fla's kernels are for ``assert_kernels``."""
    wanted = "fla" if config.implementation.startswith("fla_") else "torch"
    ran = set(noted)
    if wanted == "torch" and "aten::convolution" not in operators_of(call).names:
        ran.discard("torch")
    if ran != {wanted}:
        raise WrongImplementation(
            f"asked for the short convolution of {wanted}, and that of {' and '.join(sorted(ran)) or 'none'} ran"
        )


def assert_kernels(kernels: Mapping[str, int], implementation: str) -> None:
    """Check by the names of the kernels that ran on a GPU that they are those of an implementation.

    Args:
        kernels: how often each ran, by name.
        implementation: of a decoder.

    Raises:
        WrongImplementation: none of its kernels ran, or one of another implementation did; or fla's gated delta net
            ran without fla's convolution.
    """
    ran = {name for name, signs in _SIGNS.items() if any(sign in kernel for kernel in kernels for sign in signs)}
    if implementation in _DELTA_NETS and not any(_CONVOLUTION in kernel for kernel in kernels):
        raise WrongImplementation(f"asked for {implementation}, and no kernel of fla's short convolution ran")
    wanted = set() if implementation.startswith("naive_") or implementation == "math" else {implementation}
    if ran != wanted:
        raise WrongImplementation(
            f"asked for {implementation}, and the kernels that ran are those of {' and '.join(sorted(ran)) or 'none'}"
        )


#: Gated delta nets of fla, whose short convolutions are fla's, too, and what the names of those kernels contain.
_DELTA_NETS = ("fla_chunk", "fla_kda")
_CONVOLUTION = "causal_conv1d"
#: Implementation -> what the name of one of its kernels contains, and no other's.
_SIGNS = {
    "flash": ("flash_fwd", "flash::"),
    "efficient": ("fmha_cutlass", "AttentionKernel"),
    "cudnn": ("cudnn_generated_fort_native_sdpa",),
    "fla_fused_chunk": ("fused_chunk_fwd_kernel",),
    "fla_chunk": ("kkt",),
    "fla_kda": ("kda",),
}
