"""Which Triton kernels does this repository gate? One folder each: kernel, reference, inputs and correctness tests."""
