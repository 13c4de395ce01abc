"""What trtbuild builds for the CPU, loaded in fresh processes by users' one line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.project import Project

RECIPE = """\
[model]
entry = "models/nets.py:Sum"
{model}
[dims.batch]
min = 1
opt = 4
max = 8

[inputs.a]
shape = ["batch", 8]

[inputs.pair]
tuple = [{{ shape = ["batch", 8] }}, {{ list = [{{ shape = ["batch", 8] }}] }}]

[inputs.named]
dict = {{ z = {{ shape = ["batch", 8] }} }}

[inputs.gain]
shape = ["batch", 8]
keyword = true
{compile}
[targets.cpu]
platform = "linux-x86_64"
runtime = "torch"
device = "cpu"
precision = ["fp32"]
formats = ["exported_program", "torchscript", "aot_inductor", "onnx"]
"""

LOAD = """
import sys
import torch, trtbuild
from tests.models.nets import Sum
torch.manual_seed(0)
model = Sum().eval()
loaded = trtbuild.load(sys.argv[1], trusted=sys.argv[2] == "trusted")
for batch in (1, 4, 7):
    t = [torch.randn(batch, 8) for _ in range(5)]
    args, kwargs = (t[0], (t[1], [t[2]]), {"z": t[3]}), {"gain": t[4]}
    with torch.no_grad():
        expected, found = model(*args, **kwargs), loaded(*args, **kwargs)
    assert list(found) == list(expected)
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-4, atol=1e-5)
print("same")
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    project = Project(tmp_path_factory.mktemp("built") / "net", RECIPE)
    done = project.run()
    assert done.code == 0, done.err
    return project.root / "dist/net/cpu/fp32"


@pytest.mark.parametrize("name", ["model.pt2", "model.ts", "model.aoti.pt2", "model.onnx"])
def test_every_format_for_the_cpu_loads_in_a_fresh_process(built: Path, name: str) -> None:
    if name == "model.onnx":
        pytest.importorskip("onnxruntime")
    trusted = "trusted" if name == "model.aoti.pt2" else "not trusted"
    done = subprocess.run(
        [sys.executable, "-c", LOAD, str(built / name), trusted],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "same\n", done.stderr
