"""Run what trtbuild built: every format as a callable with the model's own signature.

    import trtbuild

    net = trtbuild.load("dist/resnet/linux/fp16/model.engine")
    logits = net(images)

The loader stands alone. On the machine that runs the model it needs Python, torch and, for artifacts with TensorRT
parts, a TensorRT runtime; onnxruntime for ONNX. Of trtbuild it needs this package, `errors` and `digest`; a test blocks
every other import.

`load` reads the `manifest.json` beside the file and says what does not fit before native code sees the file: the
digest, the platform, TensorRT's flavour and version, torch's version, the GPU. Each call checks dtypes, devices and
sizes against the recipe's ranges.

| format | runs by |
|---|---|
| engine | TensorRT's Python runtime; TensorRT-RTX and TensorRT alike |
| exported_program | torch; engines in it by Torch-TensorRT where that is installed, else as raw engines |
| torchscript | torch, and Torch-TensorRT where it holds engines |
| aot_inductor | as torchscript; it is native code: only with `trusted=True` |
| onnx | onnxruntime |

Safety: a `.pt2` is checked by `archive_check` before torch opens it, since torch.export.load executes what a hostile
file asks for; `trusted=True` skips that. The check is a filter and no proof: run strangers' files in a sandbox.

Threads: an artifact may be called from several threads; calls of one engine and profile are put in a row by a lock, and
run in the order in which they were made, whatever their streams. With `cuda_graph=True` likewise. Closing, moving
(`.to()`) or deep-copying an artifact while another thread calls it is not safe.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from trtbuild.runtime.artifact import Artifact
    from trtbuild.runtime.description import Description
    from trtbuild.runtime.opening import load, open_artifact
    from trtbuild.runtime.problems import InputError, LoadError

__all__ = ["Artifact", "Description", "InputError", "LoadError", "load", "open_artifact"]

_HOMES = {
    "Artifact": "artifact",
    "Description": "description",
    "load": "opening",
    "open_artifact": "opening",
    "InputError": "problems",
    "LoadError": "problems",
}


def __getattr__(name: str) -> object:
    # torch takes seconds to import: it is left to the first artifact.
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(f"trtbuild.runtime.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'trtbuild.runtime' has no attribute {name!r}")
