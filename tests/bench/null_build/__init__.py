"""What a run with little or nothing to do costs, beside other build systems: `python -m tests.bench.null_build`."""
