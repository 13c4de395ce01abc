"""The code that talks to TensorRT, checked against the types of a TensorRT whose libraries cannot be had."""
