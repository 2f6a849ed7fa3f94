"""How do vLLM's linear layers keep their weights as a scheme does, and multiply by them?

Weights are read as floats (or drawn, with ``load_format="dummy"``) and converted once they are loaded, or read as
codes from a checkpoint that ``perfgate-slidesparse convert`` wrote: the same layers, by their names. Embeddings and the
head stay as they are. Both forms of a sparse INT8 scheme have the same codes: a checkpoint is served in the one that
``scheme`` names.

Imports vLLM, torch and triton: only :func:`perf_workloads.slidesparse.serving.plugin.register` imports it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

import torch
from vllm.config import get_current_vllm_config
from vllm.model_executor.layers.linear import LinearBase, LinearMethodBase, UnquantizedLinearMethod
from vllm.model_executor.layers.quantization.base_config import QuantizationConfig
from vllm.model_executor.utils import set_weight_attrs
from vllm.platforms import current_platform

from perf_workloads.slidesparse import products, schemes
from perf_workloads.slidesparse.headers import NAMED, converts
from perf_workloads.slidesparse.linear import TYPES, epilogue, linear, pack_weight, quantize_weight, slid_width
from perf_workloads.slidesparse.schemes import Epilogue, Scheme
from perf_workloads.slidesparse.serving import coverage
from perf_workloads.slidesparse.serving.models import METHOD
from perf_workloads.slidesparse.serving.product import vllm_product

_LOG = logging.getLogger(__name__)

Tensor = Any

if current_platform.is_cuda():
    products.use_engine_product(vllm_product())


class SlideSparseConfig(QuantizationConfig):  # type: ignore[misc]  # vLLM is not followed
    """What ``config.json`` says of the method.

    Args:
        scheme: how weights are kept.
        stored: whether the checkpoint holds codes.
        prune: whether float weights are pruned when they are converted; if not, denser ones are an error.
    """

    def __init__(self, scheme: Scheme, stored: bool, prune: bool) -> None:
        super().__init__()
        self.scheme, self.stored, self.prune = scheme, stored, prune
        self.left: set[str] = set()

    @classmethod
    def get_name(cls) -> str:
        """Give the name by which vLLM knows the method."""
        return METHOD

    def get_supported_act_dtypes(self) -> list[Any]:
        """Give the types that activations may have."""
        return [torch.bfloat16, torch.float16, torch.float32]

    @classmethod
    def get_min_capability(cls) -> int:
        """Give the least compute capability, times ten: INT8 sparse units came with 8.0."""
        return 80

    @staticmethod
    def get_config_filenames() -> list[str]:
        """Give no further files: all is in ``config.json``."""
        return []

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> SlideSparseConfig:
        """Read ``quantization_config``.

        Raises:
            ValueError: no scheme, one that is not known, or something else that is not.
        """
        known = {"quant_method", "scheme", "stored", "prune"}
        if "scheme" not in config or set(config) - known:
            raise ValueError(
                f"quantization_config of {METHOD} has {', '.join(sorted(config)) or 'nothing'}; "
                f"it takes scheme, and maybe stored and prune"
            )
        return cls(schemes.find(config["scheme"]), bool(config.get("stored", False)), bool(config.get("prune", True)))

    def get_quant_method(self, layer: Any, prefix: str) -> LinearMethodBase | None:
        """Give the method of a layer; None for what is no linear layer. Linear layers that are left are logged."""
        if not isinstance(layer, LinearBase):
            return None
        if converts(prefix):
            return SlideSparseLinearMethod(self, prefix)
        if (kind := coverage.kind(prefix)) not in self.left:
            self.left.add(kind)
            _LOG.warning("%s is served as floats: %s converts layers named %s", kind, METHOD, NAMED)
        return UnquantizedLinearMethod()


class SlideSparseLinearMethod(LinearMethodBase):  # type: ignore[misc]
    """One linear layer: creates its weights, converts them once they are loaded, and multiplies.

    Args:
        config: of the model.
        prefix: the layer's name.
    """

    #: The method whose layers these are.
    quantization = METHOD
    #: What the product of sparse INT8 weights writes; None for others.
    epilogue: Epilogue | None = None

    def __init__(self, config: SlideSparseConfig, prefix: str) -> None:
        self.scheme, self.prune, self.prefix = config.scheme, config.prune, prefix
        self.drawn = get_current_vllm_config().load_config.load_format == "dummy"
        # There are no codes to read where weights are drawn.
        self.stored = config.stored and not self.drawn
        self.loaded: dict[str, int] = {}
        self.columns = 0

    def create_weights(
        self,
        layer: Any,
        input_size_per_partition: int,
        output_partition_sizes: list[int],
        input_size: int,
        output_size: int,
        params_dtype: Any,
        **attributes: Any,
    ) -> None:
        """Create what the checkpoint's tensors are read into."""
        if self.stored and input_size_per_partition != input_size:
            raise ValueError(
                f"{self.prefix}: stored codes cannot be cut along their inputs; serve the model on one device, or "
                "convert its float weights when they are loaded"
            )
        self.epilogue = epilogue(self.scheme, params_dtype)
        outputs = sum(output_partition_sizes)
        columns = slid_width(input_size_per_partition, self.scheme) if self.stored else input_size_per_partition
        self.columns = columns if self.stored else input_size
        dtype = TYPES[self.scheme.codes] if self.stored else params_dtype
        loader = attributes.pop("weight_loader")
        weight = torch.empty(outputs, columns, dtype=dtype)
        self._create(layer, "weight", weight, loader, {"input_dim": 1, **attributes})
        if self.stored:
            self._create(layer, "weight_scale", torch.empty(outputs, dtype=torch.float32), loader, attributes)
        # vLLM creates the bias, as whatever memory held, after this, and reads it by this.
        layer.weight_loader = self._counting(layer, layer.weight_loader)
        self.loaded["bias"] = 0

    def process_weights_after_loading(self, layer: Any) -> None:
        """Convert the weights, and give them the form in which this device multiplies them.

        Raises:
            ValueError: the checkpoint lacks a part, is too dense, holds codes that are not 2:4 sparse, or an
                infinity or a NaN.
        """
        self._check_complete(layer)
        try:
            if self.stored:
                codes, scale = layer.weight.data, layer.weight_scale.data
            else:
                codes, scale = quantize_weight(layer.weight.data, self.scheme, prune=self.prune)
            packed = pack_weight(codes, self.scheme)
        except ValueError as error:
            raise ValueError(f"{self.prefix}: {error}") from None
        broken = ~scale.isfinite()
        name = "weight_scale" if self.stored else "weight"
        if self.stored and self.scheme.codes == "fp8" and not broken.any():
            # e4m3fn has no infinity, and two codes of NaN; rounding makes none of them.
            broken = ((codes.view(torch.uint8) & 0x7F) == 0x7F).any(dim=1)
            name = "weight"
        if broken.any():
            raise ValueError(f"{self.prefix}.{name}: row {int(broken.nonzero()[0])} holds an infinity or a NaN")
        layer.weight = torch.nn.Parameter(packed, requires_grad=False)
        layer.weight_scale = torch.nn.Parameter(scale, requires_grad=False)

    def apply(self, layer: Any, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """Multiply ``x: [..., K]`` by the weights."""
        return linear(x, layer.weight, layer.weight_scale, bias, self.scheme)

    def _create(
        self, layer: Any, name: str, data: Tensor, loader: Callable[..., None], attributes: Mapping[str, Any]
    ) -> None:
        parameter = torch.nn.Parameter(data, requires_grad=False)
        set_weight_attrs(parameter, {"output_dim": 0, **attributes, "weight_loader": self._checked(name, loader)})
        layer.register_parameter(name, parameter)
        self.loaded[name] = 0

    def _checked(self, name: str, loader: Callable[..., None]) -> Callable[..., None]:
        """Wrap what reads a part of a tensor, so that one that does not fit is named, and missing ones are noticed."""

        def load(parameter: Any, part: Tensor, *arguments: Any, **named: Any) -> None:
            wanted = (self.columns,) if name == "weight" else ()
            right_type = part.dtype == parameter.dtype if self.stored else part.is_floating_point()
            if part.shape[1:] != wanted or not right_type:
                raise ValueError(
                    f"{self.prefix}.{name}: the checkpoint holds {list(part.shape)} {part.dtype}; {self.scheme.name} "
                    f"takes rows of {list(wanted)} {parameter.dtype if self.stored else 'of a float type'}"
                )
            loader(parameter, part, *arguments, **named)
            self.loaded[name] += len(part)

        return load

    def _counting(self, layer: Any, loader: Callable[..., None]) -> Callable[..., None]:
        """Wrap what reads a part of the bias, so that missing ones are noticed."""

        def load(parameter: Any, part: Tensor, *arguments: Any, **named: Any) -> None:
            loader(parameter, part, *arguments, **named)
            if parameter is getattr(layer, "bias", None):
                self.loaded["bias"] += len(part)

        return load

    def _check_complete(self, layer: Any) -> None:
        if self.drawn:
            return
        for name, rows in self.loaded.items():
            parameter = getattr(layer, name, None)
            wanted = 0 if parameter is None else len(parameter)
            if rows < wanted:
                raise ValueError(
                    f"{self.prefix}.{name}: the checkpoint holds {rows} of {wanted} rows; it does not belong to this "
                    "model, or is not complete"
                )
