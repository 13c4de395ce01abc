"""A manifest as text: whole, partial and strange ones."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from trtbuild.views.inspect import render_manifest

MANIFEST: dict[str, Any] = {
    "schema": 1,
    "trtbuild": "0.1.0",
    "recipe": "resnet",
    "target": {
        "name": "linux",
        "platform": "linux-x86_64",
        "runtime": "tensorrt-rtx",
        "compute_capability": ["8.9", "12.0"],
    },
    "precision": "fp16",
    "files": [{"format": "engine", "path": "model.engine", "digest": f"sha256:{'a1' * 32}", "bytes": 51_234_567}],
    "inputs": [
        {
            "name": "x",
            "dtype": "float16",
            "shape": ["batch", 3, 224, 224],
            "ranges": {"batch": {"min": 1, "opt": 8, "max": 32}},
            "format": "channels_last",
        }
    ],
    "outputs": [
        {"name": "logits", "dtype": "float16", "shape": ["batch", 1000]},
        {"name": "loss", "dtype": "float32", "shape": []},
    ],
    "engines": [
        {
            "name": "_run_on_acc_0",
            "layer_types": {
                "CONVOLUTION float16": 53,
                "ACTIVATION float16": 49,
                "SHUFFLE float16": 2,
                "CAST float32": 1,
            },
        },
        {
            "name": "second",
            "bytes": 1500,
            "digest": "sha256:" + "b2" * 32,
            "layers": [{"name": "a", "type": "CAST", "dtypes": ["int32"]}],
        },
    ],
    "partitions": {
        "tensorrt": [
            {"engine": "_run_on_acc_0", "ops": {"torch.ops.aten.relu.default": 49, "torch.ops.aten.add.Tensor": 16}}
        ],
        "pytorch": [
            {
                "op": "torch.ops.aten.special_bessel_j0.default",
                "count": 1,
                "reason": "Torch-TensorRT has no converter for it",
            }
        ],
    },
    "toolchain": {"torch": "2.14.1", "tensorrt-rtx": "1.6.1.120"},
    "stages": [
        {"id": "resnet/trace/fp16", "kind": "trace", "key": "c3" * 32, "seconds": 4.06},
        {"id": "resnet/compile/linux/fp16", "kind": "compile", "key": "d4" * 32, "seconds": 61.0},
    ],
    "sources": {"models/resnet.py": f"sha256:{'e5' * 32}", "models/__init__.py": None},
    "verification": {
        "status": "passed",
        "gpu": "NVIDIA L4",
        "outputs": [{"name": "logits", "max_error": 0.00123456, "cosine": 1.0}],
    },
    "something new": [1, 2, 3],
}


def test_manifest() -> None:
    assert render_manifest(MANIFEST) == (
        "resnet / linux / fp16\n"
        "  runs with           tensorrt-rtx on linux-x86_64\n"
        "  compute capability  8.9, 12.0\n"
        "  built by            trtbuild 0.1.0 in 1 min 05 s\n"
        "\n"
        "files\n"
        "  model.engine  51.2 MB  a1a1a1a1a1a1\n"
        "\n"
        "inputs\n"
        "  x  float16  batch x 3 x 224 x 224  batch 1 to 32 (best at 8)  channels_last\n"
        "\n"
        "outputs\n"
        "  logits  float16  batch x 1000\n"
        "  loss    float32  scalar\n"
        "\n"
        "engines\n"
        "  _run_on_acc_0                        105 layers: 53 x CONVOLUTION float16, 49 x ACTIVATION float16,"
        " 2 x SHUFFLE float16, 1 other type\n"
        "  second         1.5 KB  b2b2b2b2b2b2  1 layer: 1 x CAST int32\n"
        "\n"
        "partitions\n"
        "  TensorRT  _run_on_acc_0                             65 ops\n"
        "  PyTorch   torch.ops.aten.special_bessel_j0.default  1 x     Torch-TensorRT has no converter for it\n"
        "\n"
        "verification\n"
        "  passed\n"
        "  gpu      NVIDIA L4\n"
        "  outputs  name logits, max_error 0.00123, cosine 1\n"
        "\n"
        "toolchain\n"
        "  tensorrt-rtx  1.6.1.120\n"
        "  torch         2.14.1\n"
        "\n"
        "stages\n"
        "  trace    resnet/trace/fp16          key c3c3c3c3c3c3  4.1 s\n"
        "  compile  resnet/compile/linux/fp16  key d4d4d4d4d4d4  1 min 01 s\n"
        "\n"
        "sources\n"
        "  models/__init__.py  not there\n"
        "  models/resnet.py    e5e5e5e5e5e5"
    )


VERIFIED: dict[str, Any] = {
    **MANIFEST,
    "schema": 2,
    "target": {**MANIFEST["target"], "device": "cuda"},
    "outputs": [
        {"name": "logits", "dtype": "float16", "shape": ["batch", 1000]},
        {"name": "scores.loss", "dtype": "float32", "shape": []},
    ],
    "signature": {
        "inputs": [
            {"name": "x", "keyword": False, "tree": 0},
            {"name": "mask", "keyword": True, "tree": {"list": [1, 2]}},
        ],
        "outputs": {"tuple": [0, {"dict": {"loss": 1, "hidden": {"value": None}}}]},
    },
    "files": [
        {
            "format": "engine",
            "path": "model.engine",
            "digest": f"sha256:{'a1' * 32}",
            "bytes": 51_234_567,
            "verification": {
                "status": "passed",
                "key": "c3" * 32,
                "date": "2026-11-21",
                "on": {
                    "device": "NVIDIA L4",
                    "compute_capability": "8.9",
                    "driver": "580.1",
                    "versions": {"python": "cpython 3.12", "tensorrt-rtx": "1.6.1.120", "torch": "2.14.1"},
                },
                "reference": "float32",
                "cases": 7,
                "outputs": [
                    {
                        "name": "logits",
                        "max_abs": 0.00123456,
                        "max_rel": 0.5,
                        "mean_abs": 1e-05,
                        "cosine": 0.99999,
                        "mismatched": 0.0,
                        "rtol": 0.01,
                        "atol": 0.02,
                        "of_tolerance": 0.81,
                        "passed": True,
                        "at": {"batch": 32, "seed": 7},
                    }
                ],
                "precision": {"asked": "fp16", "inputs": {"float16": 1}, "compute": {"float16": 53, "float32": 1}},
            },
        },
        {
            "format": "torchscript",
            "path": "model.ts",
            "digest": f"sha256:{'b2' * 32}",
            "bytes": 51_000_000,
            "verification": {
                "status": "failed",
                "date": "2026-11-21",
                "on": {"device": "NVIDIA L4"},
                "reference": "float32",
                "cases": 1,
                "outputs": [{"name": "logits", "max_abs": None, "nan": 1000, "mismatched": 1.0, "passed": False}],
            },
        },
        {
            "format": "exported_program",
            "path": "model.pt2",
            "digest": f"sha256:{'c3' * 32}",
            "bytes": 1500,
            "verification": {"status": "pending", "reason": "this machine has no GPU"},
        },
    ],
}
del VERIFIED["verification"]


def section(text: str, title: str) -> str:
    """The lines below a title, as far as the next blank one."""
    return text.partition(f"\n\n{title}\n")[2].partition("\n\n")[0]


def test_verification_of_each_file() -> None:
    text = render_manifest(VERIFIED)
    assert section(text, "files") == (
        "  model.engine  51.2 MB  a1a1a1a1a1a1  passed\n"
        "  model.ts      51.0 MB  b2b2b2b2b2b2  failed\n"
        "  model.pt2     1.5 KB   c3c3c3c3c3c3  pending"
    )
    lines = section(text, "verification").splitlines()
    assert lines[:2] == ["  model.engine", "    passed against the source model in float32 at 7 cases on NVIDIA L4"]
    heading, figures = lines[2].split(), lines[3].split()
    assert heading[0] == "output" and figures[:4] == ["logits", "ok", "1.23e-03", "81"]
    assert lines[3].endswith("batch 32, seed 7")
    assert lines[4:6] == [
        "      precision  fp16 asked; 53 x float16, 1 x float32",
        "    with driver 580.1, tensorrt-rtx 1.6.1.120, torch 2.14.1, on 2026-11-21",
    ]
    assert lines[6:8] == ["  model.ts", "    failed against the source model in float32 at 1 case on NVIDIA L4"]
    assert lines[9].split()[:5] == ["logits", "OFF", "?", "1000", "NaN"]
    assert lines[10:] == ["    2026-11-21", "  model.pt2", "    pending: this machine has no GPU"]


def test_the_call_and_the_device() -> None:
    text = render_manifest(VERIFIED)
    assert "  runs with           tensorrt-rtx on linux-x86_64, cuda\n" in text
    assert section(text, "called as") == "  model(x, mask=) -> (logits, {loss: scores.loss, hidden: None})"


def test_what_the_engines_themselves_say() -> None:
    layers = [{"name": "a", "type": "CONVOLUTION"}]
    live = {"on": {"device": "NVIDIA L4"}, "engines": [{"name": "model", "tells": "names", "layers": layers}]}
    text = render_manifest({**VERIFIED, "live": live})
    assert text.startswith(render_manifest(VERIFIED)) and text.endswith("layers\n  CONVOLUTION  a")


def test_an_empty_manifest() -> None:
    assert render_manifest({}) == "an artifact"


_ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=True) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@st.composite
def damaged(draw: st.DrawFn, value: Any = MANIFEST) -> Any:
    """The manifest with parts of it replaced by anything or left out."""
    if draw(st.integers(0, 5)) == 0:
        return draw(_ANY)
    if isinstance(value, dict):
        return {name: draw(damaged(item)) for name, item in value.items() if draw(st.integers(0, 5))}
    if isinstance(value, list):
        return [draw(damaged(item)) for item in value]
    return value


@given(damaged() | damaged(VERIFIED))
@settings(deadline=None)
def test_no_manifest_is_too_strange(manifest: Any) -> None:
    if isinstance(manifest, dict):
        assert render_manifest(manifest)
