"""The environment of every stage. It shapes outputs, so this file is part of the code in every key."""

from __future__ import annotations

import os

from trtbuild.host import cpu_capability
from trtbuild.worker.server import GPUS

# What a stage may see of the environment: places and proxies, nothing that changes an output. The rest is dropped,
# since nothing outside the key may.
_PASSED = (
    *("PATH", "HOME", "USER", "LOGNAME", "PYTHONPATH", "VIRTUAL_ENV", "LD_LIBRARY_PATH", "LD_PRELOAD", "CUDA_HOME"),
    *("HF_HOME", "HF_HUB_OFFLINE", "TORCH_HOME", "XDG_CACHE_HOME"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE"),
    *("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"),
)


def worker_environment() -> dict[str, str]:
    """The environment of every stage: the passed names, and what makes outputs reproducible."""
    fixed = {
        "PYTHONHASHSEED": "0",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUNBUFFERED": "1",
        "LANG": "C.UTF-8",
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        # The servers see no GPU: see `server`.
        "CUDA_VISIBLE_DEVICES": "",
    }
    if cpu_capability() == "avx2":
        fixed |= {"ATEN_CPU_CAPABILITY": "avx2", "MKL_CBWR": "AVX2"}
    if (gpus := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        fixed[GPUS] = gpus
    return {name: os.environ[name] for name in _PASSED if name in os.environ} | fixed
