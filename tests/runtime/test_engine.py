"""Raw engines by a stand-in for TensorRT: profiles, shapes, addresses, streams, allocators, errors."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.runtime import fake_tensorrt as fake
from tests.runtime.fake_tensorrt import Network, Stream, Tensor, default_stream
from tests.runtime.samples import artifact, tensor
from trtbuild.runtime import InputError, LoadError, load, machine
from trtbuild.runtime.engine import Engine
from trtbuild.runtime.problems import RunError

__all__ = ["default_stream"]

CPU = torch.device("cpu")


def varying(name: str, *ranges: tuple[int, int, int], dtype: str = "FLOAT") -> Tensor:
    """A tensor of [batch, 3] with a range per profile."""
    return Tensor(name, (-1, 3), dtype, [tuple((size, 3) for size in sizes) for sizes in ranges])


def twice(*ranges: tuple[int, int, int]) -> Network:
    """y = 2 x, and the sum over the rows."""
    return Network(
        [varying("x", *ranges)],
        [Tensor("y", (-1, 3)), Tensor("total", (3,))],
        lambda x: (2 * x, x.sum(0)),
        lambda x: (x, (3,)),
        profiles=len(ranges),
    )


def opened(network: Network, **more: Any) -> Engine:
    trt: Any = sys.modules["tensorrt_rtx"]
    engine = trt.Runtime().deserialize_cuda_engine(fake.engine_bytes(network))
    inputs, outputs = [t.name for t in network.inputs], [t.name for t in network.outputs]
    return Engine(trt, engine, CPU, inputs, outputs, **more)


def test_a_call_gives_the_outputs_for_any_batch(default_stream: Stream) -> None:
    engine = opened(twice((1, 4, 8)))
    for batch in (4, 1, 8, 4):
        x = torch.randn(batch, 3)
        y, total = engine(x)
        assert torch.equal(y, 2 * x) and torch.equal(total, x.sum(0))
    assert len(fake.ENGINES[0].contexts) == 1


def test_only_what_changed_is_set(default_stream: Stream) -> None:
    engine = opened(twice((1, 4, 8)))
    x, other = torch.randn(4, 3), torch.randn(2, 3)
    kept = [engine(x)]
    context = fake.ENGINES[0].contexts[0]
    before = dict(context.calls)
    kept.append(engine(x))
    # The two outputs are new memory; the input lies where it lay and has the shape that it had.
    assert context.calls == {"shape": before["shape"], "address": before["address"] + 2}
    kept.append(engine(other))
    assert context.calls["shape"] == before["shape"] + 2
    kept.append(engine(x))
    assert context.calls["shape"] == before["shape"] + 3


def test_inputs_are_read_where_they_lie(default_stream: Stream) -> None:
    engine = opened(twice((1, 4, 8)))
    x = torch.randn(4, 3)
    engine(x)
    context = fake.ENGINES[0].contexts[0]
    assert context.addresses["x"] == x.data_ptr()
    turned = torch.randn(3, 4).t()
    assert torch.equal(engine(turned)[0], 2 * turned)
    assert context.addresses["x"] != turned.data_ptr()
    x.zero_()
    assert torch.equal(engine(x)[0], torch.zeros(4, 3))


def test_results_stay_as_they_are_at_the_next_call(default_stream: Stream) -> None:
    engine = opened(twice((1, 4, 8)))
    first = engine(torch.ones(4, 3))[0]
    engine(torch.zeros(4, 3))
    assert torch.equal(first, torch.full((4, 3), 2.0))


def test_the_narrowest_profile_that_takes_the_shapes_is_used(default_stream: Stream) -> None:
    engine = opened(twice((1, 8, 32), (1, 1, 1), (64, 64, 128)))
    contexts = fake.ENGINES[0].contexts
    for batch, profile in ((1, 1), (2, 0), (64, 2), (32, 0), (1, 1)):
        engine(torch.randn(batch, 3))
        used = next(context for context in contexts if context.active_optimization_profile == profile)
        assert used.shapes["x"] == (batch, 3)
    assert len(contexts) == 3
    with pytest.raises(InputError, match="No optimisation profile") as caught:
        engine(torch.randn(40, 3))
    for text in ("x: 40 x 3", "x: 1 x 3 to 32 x 3", "x: 64 x 3 to 128 x 3", "profile 2"):
        assert text in str(caught.value)


def test_on_a_stream_of_the_callers_the_engine_runs_there(default_stream: Stream) -> None:
    engine = opened(twice((1, 4, 8)))
    own, other = Stream(), Stream()
    for stream in (own, own, other):
        with torch.cuda.stream(stream):
            engine(torch.randn(4, 3))
    assert fake.ENGINES[0].contexts[0].streams == [own.cuda_stream, own.cuda_stream, other.cuda_stream]
    # Another stream waits for the run before, with which it shares the context's memory.
    assert own.waited == [] and other.waited == [own.cuda_stream]


def test_on_the_default_stream_it_runs_between_two_events(default_stream: Stream) -> None:
    engine = opened(twice((1, 4, 8)))
    engine(torch.randn(4, 3))
    context = fake.ENGINES[0].contexts[0]
    side = context.streams[0]
    assert side != 0 and default_stream.waited == [side]
    own = Stream()
    with torch.cuda.stream(own):
        engine(torch.randn(4, 3))
    assert own.waited == [side]
    engine(torch.randn(4, 3))
    assert context.streams == [side, own.cuda_stream, side] and default_stream.waited == [side, side]


def test_dtypes_that_the_engine_lacks_are_converted(default_stream: Stream) -> None:
    engine = opened(twice((1, 4, 8)), result_dtypes=[torch.float64, torch.float32])
    x = torch.randn(4, 3, dtype=torch.float64)
    y, total = engine(x)
    assert y.dtype == torch.float64 and total.dtype == torch.float32
    torch.testing.assert_close(y, 2 * x, rtol=1e-6, atol=1e-6)


def test_outputs_whose_size_only_the_data_decides(default_stream: Stream) -> None:
    network = Network(
        [varying("x", (1, 4, 8))],
        [Tensor("found", (-1, 2), "INT64"), Tensor("y", (-1, 3))],
        lambda x: (x.nonzero(), x + 1),
        lambda x: ((-1, 2), x),
    )
    engine = opened(network)
    for x in (torch.eye(4, 3), torch.zeros(2, 3), torch.ones(8, 3), torch.eye(4, 3)):
        found, y = engine(x)
        assert torch.equal(found, x.nonzero()) and torch.equal(y, x + 1)


def test_an_input_on_the_host_is_a_shape(default_stream: Stream) -> None:
    network = Network(
        [varying("x", (1, 4, 8)), Tensor("size", (1,), "INT64", host=True)],
        [Tensor("y", (-1, 3))],
        lambda x, size: (x[: int(size)],),
        lambda x, size: ((int(size), 3),),
    )
    engine = opened(network)
    x = torch.randn(4, 3)
    for size in (1, 3, 1):
        assert torch.equal(engine(x, torch.tensor([size]))[0], x[:size])


def test_empty_outputs(default_stream: Stream) -> None:
    network = Network(
        [varying("x", (1, 4, 8))], [Tensor("y", (0, 3))], lambda x: (torch.empty(0, 3),), lambda x: ((0, 3),)
    )
    assert opened(network)(torch.randn(4, 3))[0].shape == (0, 3)


def test_many_shapes_do_not_pile_up(default_stream: Stream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trtbuild.runtime.engine._KEPT", 4)
    engine = opened(twice((1, 4, 100)))
    for batch in range(1, 30):
        x = torch.randn(batch, 3)
        assert torch.equal(engine(x)[0], 2 * x)
    assert len(engine._calls) == 4


def test_calls_from_threads_do_not_mix(default_stream: Stream) -> None:
    engine = opened(twice((1, 4, 8)))
    wrong = []

    def call(batch: int) -> None:
        for _ in range(50):
            x = torch.randn(batch, 3)
            if not torch.equal(engine(x)[0], 2 * x):
                wrong.append(batch)

    threads = [threading.Thread(target=call, args=(batch,)) for batch in (1, 2, 3, 4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.fixture
def file(tmp_path: Path, default_stream: Stream, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An engine as a file, of a model with one input more than the engine and an output twice."""
    path = tmp_path / "model.engine"
    path.write_bytes(fake.engine_bytes(twice((1, 4, 8))))
    monkeypatch.setattr(machine, "cuda_device", lambda asked: CPU)
    monkeypatch.setattr(machine, "find_spec", lambda name: object())
    return artifact(
        path,
        "engine",
        [tensor("unused", ["batch"]), tensor("x", ["batch", 3])],
        3,
        target={
            "name": "linux",
            "platform": machine.this_platform(),
            "runtime": "tensorrt-rtx",
            "device": "cuda",
            "compute_capability": ["8.9"],
        },
        toolchain={"tensorrt-rtx": fake.VERSION, "torch": "2.14.1"},
        whole_engine={"engine": "e", "inputs": ["x"], "outputs": ["total", "y", "total"]},
        signature={
            "inputs": [
                {"name": "x", "keyword": False, "tree": 1},
                {"name": "unused", "keyword": True, "tree": 0},
            ],
            "outputs": {"dict": {"sum": 0, "rest": {"tuple": [1, 2]}}},
        },
    )


def test_an_engine_file_is_called_as_its_model(file: Path) -> None:
    loaded = load(file)
    for batch in (2, 2, 8):
        x = torch.randn(batch, 3)
        found = loaded(x, unused=torch.zeros(batch))
        assert torch.equal(found["sum"], x.sum(0)) and torch.equal(found["rest"][0], 2 * x)
        assert torch.equal(found["rest"][1], x.sum(0))
    assert list(loaded.engines) == ["model"]
    with pytest.raises(InputError, match="differ in the dim `batch`"):
        loaded(torch.randn(2, 3), unused=torch.zeros(3))
    with pytest.raises(InputError, match="beyond the range"):
        loaded(torch.randn(9, 3), unused=torch.zeros(9))


def test_what_tensorrt_says_is_in_the_error(file: Path) -> None:
    loaded = load(file)
    x = torch.randn(2, 3)
    loaded(x, unused=torch.zeros(2))
    fake.ENGINES[-1].contexts[0].fails = True
    with pytest.raises(RunError, match="TensorRT failed to run the engine") as caught:
        loaded(x, unused=torch.zeros(2))
    assert "Address is not set" in str(caught.value)
    fake.NETWORKS.clear()
    with pytest.raises(LoadError, match="TensorRT cannot read") as refused:
        load(file)
    assert "Serialization assertion failed" in str(refused.value)


def test_an_engine_with_other_tensors_than_its_manifest(file: Path, default_stream: Stream) -> None:
    trt: Any = sys.modules["tensorrt_rtx"]
    engine = trt.Runtime().deserialize_cuda_engine(file.read_bytes())
    with pytest.raises(LoadError, match="does not have the tensors"):
        Engine(trt, engine, CPU, ["x"], ["z"])
    with pytest.raises(LoadError, match="takes inputs that the manifest does not name"):
        Engine(trt, engine, CPU, [], ["y"])
    # An output that nobody asked for is written somewhere.
    x = torch.randn(4, 3)
    assert torch.equal(Engine(trt, engine, CPU, ["x"], ["y"])(x)[0], 2 * x)
