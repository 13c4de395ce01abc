"""What engines say of themselves, as text; the JSON is what inspectors gave for engines that were really asked."""

from __future__ import annotations

import json
from typing import Any

from trtbuild.stages.inspect_engine import layers_of
from trtbuild.views.inspect_engine import render_engines

# TensorRT-RTX 1.4.0.76 on an H200, a part of ResNet-18's layers.
NAMES = """{"Layers": ["__mye10762_0_myl0_0"
,"__myl_CorrMulAddRelu_myl0_2"
,"[MAX]-[aten_ops.max_pool2d.default]-[maxpool/max_pool2d_default]_myl0_3"
,"__myl_CorrMulAddRelu_myl0_4"
,"[CONVOLUTION]-[aten_ops.convolution.default]-[layer4.1.conv2/convolution_19]_myl0_34"
],
"Bindings": ["x"
,"output0"
]}
"""

# The form of standard TensorRT's documentation for engines built with detailed verbosity.
DETAILS = json.dumps(
    {
        "Layers": [
            {
                "Name": "conv + relu",
                "LayerType": "CaskConvolution",
                "Inputs": [
                    {"Name": "x", "Dimensions": [8, 3, 224, 224], "Format/Datatype": "Channel major FP16 format"}
                ],
                "Outputs": [{"Name": "y", "Dimensions": [8, 64, 112, 112], "Format/Datatype": "FP16 NHWC"}],
                "TacticName": "sm89_xmma_fprop_f16",
                "TacticValue": "0x1",
                "StreamId": 0,
                "Metadata": "",
            }
        ],
        "Bindings": ["x", "y"],
    }
)


def test_names_are_all_that_some_engines_tell() -> None:
    layers = layers_of(NAMES)
    assert [layer.get("type") for layer in layers] == [None, "CorrMulAddRelu", "MAX", "CorrMulAddRelu", "CONVOLUTION"]
    assert layers[0] == {"name": "__mye10762_0_myl0_0"}


def test_layers_in_detail() -> None:
    assert layers_of(DETAILS) == [
        {
            "name": "conv + relu",
            "type": "CaskConvolution",
            "tactic": "sm89_xmma_fprop_f16",
            "stream": 0,
            "inputs": [{"name": "x", "shape": [8, 3, 224, 224], "format": "Channel major FP16 format"}],
            "outputs": [{"name": "y", "shape": [8, 64, 112, 112], "format": "FP16 NHWC"}],
        }
    ]


def test_what_is_no_such_json_tells_of_no_layers() -> None:
    for text in ("", "no JSON", "[]", '{"Layers": []}', '{"Layers": [1]}'):
        assert layers_of(text) == []


def engine(text: str, **more: Any) -> dict[str, Any]:
    return {
        "name": "_run_on_acc_0",
        "tells": "names",
        "layers": layers_of(text),
        "tensors": [
            {"name": "x", "input": True, "dtype": "float16", "shape": [-1, 3], "format": "Row major", "on_host": False},
            {
                "name": "y",
                "input": False,
                "dtype": "float16",
                "shape": [-1, 2],
                "format": "Row major",
                "on_host": False,
            },
        ],
        "profiles": [{"x": [[1, 3], [8, 3], [32, 3]]}],
        "aux_streams": 1,
        "memory_bytes": 98_107_392,
        "profile_memory_bytes": [98_107_392],
        "weights_bytes": 23_370_240,
        "streamable_weights_bytes": 0,
        "refittable": False,
        **more,
    }


def test_an_engine_that_tells_names() -> None:
    on = {"device": "NVIDIA H200", "compute_capability": "9.0", "versions": {}}
    assert render_engines({"on": on, "engines": [engine(NAMES)]}) == (
        "engine _run_on_acc_0\n"
        "  seen on            NVIDIA H200, compute capability 9.0\n"
        "  layers             5 layers: 2 x CorrMulAddRelu, 1 x without a type, 1 x MAX, 1 x CONVOLUTION\n"
        "  tells              names of layers only; it was not built to tell of types and tactics\n"
        "  weights            23.4 MB\n"
        "  while it runs      98.1 MB\n"
        "  auxiliary streams  1\n"
        "\n"
        "tensors\n"
        "  takes  x  float16  ? x 3  Row major\n"
        "  gives  y  float16  ? x 2  Row major\n"
        "\n"
        "profiles\n"
        "  0  x  1 x 3 to 32 x 3  best at 8 x 3\n"
        "\n"
        "layers\n"
        "                  __mye10762_0_myl0_0\n"
        "  CorrMulAddRelu  __myl_CorrMulAddRelu_myl0_2\n"
        "  MAX             [MAX]-[aten_ops.max_pool2d.default]-[maxpool/max_pool2d_default]_myl0_3\n"
        "  CorrMulAddRelu  __myl_CorrMulAddRelu_myl0_4\n"
        "  CONVOLUTION     [CONVOLUTION]-[aten_ops.convolution.default]-[layer4.1.conv2/convolution_19]_myl0_34"
    )


def test_an_engine_that_tells_more() -> None:
    record = {"engines": [engine(DETAILS, tells="layers", profile_memory_bytes=[10**8, 5 * 10**7], refittable=True)]}
    text = render_engines(record)
    assert (
        "tells" not in text
        and "  in each profile    100.0 MB, 50.0 MB\n" in text
        and "  can be refitted    yes\n" in text
    )
    assert text.endswith(
        "  CaskConvolution  conv + relu  8 x 3 x 224 x 224 Channel major FP16 -> 8 x 64 x 112 x 112 FP16 NHWC"
        "  tactic sm89_xmma_fprop_f16"
    )


def test_several_engines() -> None:
    text = render_engines({"engines": [engine(NAMES), engine(NAMES, name="_run_on_acc_2", profiles=[])]})
    assert text.count("engine _run_on_acc_") == 2 and text.count("profiles") == 1
