"""What the loader refuses, said in full: whoever calls it from Python sees the message alone."""

from __future__ import annotations

from trtbuild.errors import MachineError, TrtbuildError, UsageError, render


class _InFull(TrtbuildError):
    def __str__(self) -> str:
        return render(self.sentence, self.facts, self.hint).removeprefix("error: ")


class LoadError(_InFull, MachineError):
    """An artifact cannot be opened here: it is damaged, is not what its manifest says, or is for another machine."""


class InputError(_InFull, UsageError, ValueError):
    """An artifact was called with what it does not take."""


class RunError(_InFull, MachineError, RuntimeError):
    """TensorRT failed while it ran an artifact."""
