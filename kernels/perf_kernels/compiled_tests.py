"""With which backend of ``torch.compile`` do tests compile a model that a kernel is part of?"""

from __future__ import annotations

from perf_kernels.target import DEVICE_TYPE

#: What users' models are compiled with on a GPU. In the interpreter the half of it before code is generated, since the
#: C++ of some twenty small models takes a minute to compile; one kernel's goes the whole way there as well.
BACKEND = "inductor" if DEVICE_TYPE == "cuda" else "aot_eager"
