"""How did a case end? Tells out-of-memory, crashes and compile errors from a plain failure."""

from __future__ import annotations

from perfgate.model import Outcome

# Classes are known by name, so that neither torch nor triton has to be imported to recognise their errors.
_BY_CLASS = {
    "OutOfMemoryError": Outcome.OUT_OF_MEMORY,
    "MemoryError": Outcome.OUT_OF_MEMORY,
    "CompilationError": Outcome.COMPILE_ERROR,
    "CompileTimeAssertionFailure": Outcome.COMPILE_ERROR,
    "UnsupportedLanguageConstruct": Outcome.COMPILE_ERROR,
    "PTXASError": Outcome.COMPILE_ERROR,
    "BackendCompilerFailed": Outcome.COMPILE_ERROR,
    "OutOfResources": Outcome.COMPILE_ERROR,
}
#: Of errors of these classes: torch raises RuntimeErrors, and vLLM ValueErrors.
_WITH_TEXT = (RuntimeError, ValueError)
_BY_TEXT = {
    "CUDA out of memory": Outcome.OUT_OF_MEMORY,
    "HIP out of memory": Outcome.OUT_OF_MEMORY,
    "CUDA error: out of memory": Outcome.OUT_OF_MEMORY,
    "CUDA driver error: out of memory": Outcome.OUT_OF_MEMORY,
    "CUBLAS_STATUS_ALLOC_FAILED": Outcome.OUT_OF_MEMORY,
    "DefaultCPUAllocator: can't allocate memory": Outcome.OUT_OF_MEMORY,
    "DefaultCPUAllocator: not enough memory": Outcome.OUT_OF_MEMORY,
    # vLLM: what is left beside weights, or before them. It logs free memory where there is enough of it, too.
    "No available memory for the cache blocks": Outcome.OUT_OF_MEMORY,
    "is larger than the available KV cache memory": Outcome.OUT_OF_MEMORY,
    "GiB) on startup is less than": Outcome.OUT_OF_MEMORY,
    "an illegal memory access was encountered": Outcome.ILLEGAL_ACCESS,
    "illegal memory access": Outcome.ILLEGAL_ACCESS,
    # After these, too, CUDA asks for a new process.
    "misaligned address": Outcome.CRASHED,
    "an illegal instruction was encountered": Outcome.CRASHED,
    "device-side assert triggered": Outcome.CRASHED,
    "unspecified launch failure": Outcome.CRASHED,
}


def classify(error: BaseException) -> Outcome:
    """Give the outcome that an exception stands for; FAILED when it is none of the known kinds.

    One that tells of another process may know its outcome, and says so by an attribute ``outcome``.
    """
    if isinstance(known := getattr(error, "outcome", None), Outcome):
        return known
    for kind in type(error).__mro__:
        if kind.__name__ in _BY_CLASS:
            return _BY_CLASS[kind.__name__]
    if isinstance(error, _WITH_TEXT):
        text = str(error)
        for sign, outcome in _BY_TEXT.items():
            if sign in text:
                return outcome
    return Outcome.FAILED


def words(outcome: Outcome) -> str:
    """Give an outcome as it is read in a sentence."""
    return outcome.value.replace("_", " ")
