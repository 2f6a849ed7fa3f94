"""What of a backward pass could torch's engine alone call, so that it is refused? Heavy: imports torch."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import torch
from torch.autograd import graph
from torch.utils import hooks

from perfgate.errors import PerfgateError

_MODULE_HOOK = "a hook on the backward pass of a module"


def refused(what: str, instead: str = "") -> PerfgateError:
    """Give the error for what is not run; ``instead`` says what else may be written."""
    kernel = "declare the launch of the kernel of the backward pass by itself, without .backward()"
    return PerfgateError(
        f"{what} is not run without a GPU",
        "Only torch's own engine calls it, which has no device here: its kernels would be missing from the launch.",
        f"{instead}, or {kernel}" if instead else kernel,
    )


@contextlib.contextmanager
def without_hooks() -> Iterator[None]:
    """Refuse ``retain_grad`` and hooks on tensors and modules, where they are asked for.

    Those on a leaf that were there before are found where its gradient is accumulated.
    """
    retain_grad, register_hook = torch.Tensor.retain_grad, torch.Tensor.register_hook

    def retain(self: Any) -> None:
        if self.requires_grad and not self.is_leaf:
            raise refused("retain_grad()", "torch.autograd.grad(loss, y) gives the gradient of y")
        retain_grad(self)

    def hook(self: Any, function: Callable[..., Any]) -> Any:
        if self.requires_grad:
            raise refused("a hook on a tensor (register_hook)")
        return register_hook(self, function)

    with (
        mock.patch.object(torch.Tensor, "retain_grad", retain),
        mock.patch.object(torch.Tensor, "register_hook", hook),
        mock.patch.object(graph, "register_multi_grad_hook", _refusing("a hook on tensors (register_multi_grad_hook)")),
        mock.patch.object(hooks.BackwardHook, "setup_input_hook", _refusing(_MODULE_HOOK)),
        mock.patch.object(torch.nn.Module, "_maybe_warn_non_full_backward_hook", _refusing(_MODULE_HOOK)),
    ):
        yield


def _refusing(what: str) -> Callable[..., Any]:
    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise refused(what)

    return refuse
