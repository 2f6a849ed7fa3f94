"""Which Triton kernels does this repository gate? One folder each: kernel, reference, inputs and correctness tests.

What kernels of rows share lies beside the folders. One more that quantises rows brings how it loads and what it stores,
a reference and a twin, and takes the rest:

- ``rows`` (from values to codes and a scale, inlined into kernels), ``row_launch`` (how rows are cut into tiles) and
  ``arguments`` (what is refused);
- ``row_inputs`` and ``row_tuning``;
- tests to inherit, ``quantizer_tests`` and ``index_width_tests``, and ``row_tests`` for its own.
"""
