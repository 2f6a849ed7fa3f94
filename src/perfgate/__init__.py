"""A pytest plugin that fails a build when GPU or CPU machine-learning code gets slower or bigger."""

__version__ = "0.1.0"
