"""Which algorithm of cuSPARSELt multiplies each layer's weights fastest? ``perfgate tune sparse_matmul`` finds out."""
