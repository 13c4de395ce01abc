"""trtbuild: a declarative build system for TensorRT artifacts."""

__version__ = "0.1.0"
