"""What an artifact is, as its manifest says: inputs, outputs, structure, target, engines, toolchain.

Of a manifest only what is read here is asked of it, so that a loader stays of use for manifests with more in them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from keyword import iskeyword
from typing import Any, TypeAlias

from trtbuild.runtime.problems import LoadError

SCHEMAS = (2,)

FORMATS = ("engine", "exported_program", "torchscript", "aot_inductor", "onnx")

# int: the place of a tensor in the flat order; else {"tuple" | "list": [tree]}, {"dict": {key: tree}} or
# {"value": constant}.
Tree: TypeAlias = "int | Mapping[str, Any]"
Range: TypeAlias = "tuple[int, int, int]"


_RUNTIMES = ("tensorrt-rtx", "tensorrt", "torch")
_DEVICES = ("cuda", "cpu")


@dataclass(frozen=True, slots=True)
class TensorFacts:
    """A flat input or output: dtype by torch's name, sizes as numbers, dims or expressions over dims.

    `format` is how the tensor lay in memory as the model was traced, by the name of torch's memory format.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]
    ranges: Mapping[str, Range] = field(default_factory=dict)
    format: str = "contiguous"


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of the model's forward()."""

    name: str
    keyword: bool
    tree: Tree


@dataclass(frozen=True, slots=True)
class Target:
    """What an artifact was built for. `runtime` is tensorrt-rtx, tensorrt or torch; `device` cuda or cpu."""

    name: str
    platform: str
    runtime: str
    device: str
    compute_capability: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class WholeEngine:
    """The one engine that is the whole program: the program's inputs that it takes, its output for each flat output."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Description:
    """All that the loader knows of an artifact. `digest` is sha256 in hex, None where nobody recorded one."""

    format: str
    target: Target
    inputs: tuple[TensorFacts, ...]
    outputs: tuple[TensorFacts, ...]
    parameters: tuple[Parameter, ...]
    result: Tree
    toolchain: Mapping[str, str]
    precision: str = ""
    digest: str | None = None
    whole: WholeEngine | None = None
    # Files that the artifact reads beside itself: large weights of ONNX. sha256 in hex by name.
    beside: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_manifest(cls, manifest: Mapping[str, Any], file_name: str) -> Description:
        """The description of one of a manifest's files. LoadError where the manifest does not tell."""
        if manifest.get("schema") not in SCHEMAS:
            raise LoadError(
                "The manifest is of a schema that this loader does not read",
                [("schema", str(manifest.get("schema"))), ("read here", ", ".join(map(str, SCHEMAS)))],
                "Build the artifact again with this version of trtbuild, or load it with the one that built it.",
            )
        try:
            file = _file(manifest, file_name)
            return cls._read(manifest, file)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise LoadError(
                "The manifest is damaged",
                [("file", file_name), ("at", f"{type(error).__name__}: {error}")],
                "`trtbuild run` writes it again.",
            ) from error

    @classmethod
    def _read(cls, manifest: Mapping[str, Any], file: Mapping[str, Any]) -> Description:
        target, whole = manifest["target"], manifest.get("whole_engine")
        inputs = tuple(_tensor(found, f"input {place}") for place, found in enumerate(manifest["inputs"]))
        outputs = tuple(_tensor(found, f"output {place}") for place, found in enumerate(manifest["outputs"]))
        signature = manifest.get("signature") or {}
        parameters = tuple(
            Parameter(str(found["name"]), bool(found.get("keyword", False)), checked(found["tree"], len(inputs)))
            for found in signature.get("inputs", _flat_parameters(inputs))
        )
        names = [parameter.name for parameter in parameters]
        if len(set(names)) != len(names) or not all(name.isidentifier() and not iskeyword(name) for name in names):
            raise ValueError(f"no parameters: {names}")
        result = signature.get("outputs", 0 if len(outputs) == 1 else {"tuple": list(range(len(outputs)))})
        digest = file.get("digest")
        for fact, known in (("runtime", _RUNTIMES), ("device", _DEVICES)):
            if target.get(fact) is not None and target[fact] not in known:
                raise ValueError(f"no {fact} that this version knows: {target[fact]!r}")
        return cls(
            format=file["format"],
            target=Target(
                name=str(target.get("name", "")),
                platform=target["platform"] or "",
                runtime=target.get("runtime") or "torch",
                device=target.get("device") or "cuda",
                compute_capability=tuple(map(str, target.get("compute_capability") or ())),
            ),
            inputs=inputs,
            outputs=outputs,
            parameters=parameters,
            result=checked(result, len(outputs)),
            toolchain={str(name): str(version) for name, version in manifest["toolchain"].items()},
            precision=str(manifest.get("precision", "")),
            digest=None if digest is None else str(digest).removeprefix("sha256:"),
            whole=None if whole is None else WholeEngine(tuple(whole["inputs"]), tuple(whole["outputs"])),
            beside={
                str(other["path"]): str(other["digest"]).removeprefix("sha256:")
                for other in manifest["files"]
                if other["format"] == file["format"] == "onnx" and other["path"] != file["path"]
            },
        )

    @property
    def given(self) -> list[int]:
        """The flat outputs that a run gives, by place; the others are constants that the structure holds."""
        return sorted(set(_places(self.result)))

    @property
    def has_engines(self) -> bool:
        """Whether TensorRT is needed to run it."""
        return self.format != "onnx" and self.target.runtime in ("tensorrt", "tensorrt-rtx")


def _file(manifest: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    files: Sequence[Mapping[str, Any]] = manifest["files"]
    for file in files:
        if file["path"] == name:
            if file["format"] not in FORMATS:
                raise LoadError(
                    "The artifact is of a format that this loader does not open",
                    [("format", str(file["format"])), ("opened here", ", ".join(FORMATS))],
                )
            return file
    raise LoadError(
        "The manifest does not tell of this file",
        [("file", name), ("told of", ", ".join(str(file["path"]) for file in files) or "none")],
        "Files of one manifest keep their names: load it by the name that trtbuild gave it.",
    )


def _tensor(found: Mapping[str, Any], name: str) -> TensorFacts:
    return TensorFacts(
        name=str(found.get("name", name)),
        dtype=str(found["dtype"]),
        shape=tuple(size if isinstance(size, int) else str(size) for size in found["shape"]),
        ranges={
            dim: (int(sizes["min"]), int(sizes["opt"]), int(sizes["max"]))
            for dim, sizes in (found.get("ranges") or {}).items()
        },
        format=str(found.get("format") or "contiguous"),
    )


def _flat_parameters(inputs: Sequence[TensorFacts]) -> list[dict[str, Any]]:
    return [{"name": found.name, "keyword": False, "tree": place} for place, found in enumerate(inputs)]


def _places(tree: Tree) -> Iterator[int]:
    if isinstance(tree, int):
        yield tree
        return
    kind, items = next(iter(tree.items()))
    if kind != "value":
        for item in items.values() if kind == "dict" else items:
            yield from _places(item)


def checked(tree: Any, count: int) -> Tree:
    """The tree, if it is one over so many tensors; ValueError where it is not."""
    if isinstance(tree, int) and not isinstance(tree, bool):
        if not 0 <= tree < count:
            raise ValueError(f"tensor {tree} of {count}")
        return tree
    if not isinstance(tree, Mapping) or len(tree) != 1:
        raise ValueError(f"no structure: {tree!r}")
    (kind, items) = next(iter(tree.items()))
    if kind == "value":
        return tree
    if kind not in ("tuple", "list", "dict"):
        raise ValueError(f"no structure: {kind}")
    for item in items.values() if kind == "dict" else items:
        checked(item, count)
    return tree
