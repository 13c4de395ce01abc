"""Latency, throughput and memory of an artifact beside other ways to run its source model, in one run."""
