"""How does a new token attend to a static cache, from its projections on, in one launch?"""

from __future__ import annotations

from perf_kernels.decode_attention.launch import LaunchConfig, bytes_moved, launch_config
from perf_kernels.decode_attention.ops import Workspace, decode_attention, workspace_for
from perf_kernels.decode_attention.reference import decode_attention_reference

__all__ = [
    "LaunchConfig",
    "Workspace",
    "bytes_moved",
    "decode_attention",
    "decode_attention_reference",
    "launch_config",
    "workspace_for",
]
