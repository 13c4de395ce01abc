"""A verification record as text: where it was made, and a line per output."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from trtbuild.views.text import aligned, counted

Record = Mapping[str, Any]

_HEADING = ("output", "", "error", "of", "max rel", "mean", "cosine", "beyond", "worst at")


def render_verification(record: Record) -> str:
    """The record as people read it; what is absent is left out, so that it may come from another version."""
    lines = [" ".join(part for part in (_status(record), _against(record)) if part)]
    facts = record.get("facts")
    if isinstance(facts, list):
        told = [fact for fact in facts if isinstance(fact, (list, tuple)) and len(fact) == 2]
        lines += aligned([(str(name), str(value)) for name, value in told])
    rows = output_rows(_records(record, "outputs"))
    if len(rows) > 1:
        lines += aligned(rows)
    if isinstance(record.get("precision"), Mapping):
        lines += aligned([("precision", precision_text(record["precision"]))])
    if isinstance(record.get("located"), Mapping):
        lines += aligned([("first off", line) for line in located_text(record["located"]).splitlines()[:1]])
        lines += [f"    {line}" for line in located_text(record["located"]).splitlines()[1:]]
    return "\n".join(lines)


def _status(record: Record) -> str:
    status, reason = str(record.get("status", "unknown")), str(record.get("reason") or "")
    return f"{status}: {reason}" if reason else status


def _against(record: Record) -> str:
    parts = []
    if record.get("reference"):
        parts.append(f"against the source model in {record['reference']}")
    if isinstance(record.get("cases"), int):
        parts.append(f"at {counted(record['cases'], 'case')}")
    on = record.get("on")
    if isinstance(on, Mapping) and on.get("device"):
        parts.append(f"on {on['device']}")
    return " ".join(parts)


def output_rows(outputs: Sequence[Record]) -> list[tuple[str, ...]]:
    """A table with a heading: the largest error and how much of its tolerance that is, and what else is known."""
    return [_HEADING, *(_row(found) for found in outputs)]


def _row(found: Record) -> tuple[str, ...]:
    share = found["mismatched"] if isinstance(found.get("mismatched"), (int, float)) else 0.0
    return (
        str(found.get("name", "")),
        "ok" if found.get("passed") else "OFF",
        _number(found.get("max_abs")),
        _of_tolerance(found),
        _number(found.get("max_rel")),
        _number(found.get("mean_abs")),
        f"{found['cosine']:.7f}" if isinstance(found.get("cosine"), float) else "",
        f"{100 * share:.3g} %" if share else "none",
        _at(found.get("at")),
    )


def _of_tolerance(found: Record) -> str:
    counts = [(found.get("nan"), "NaN"), (found.get("inf"), "Inf"), (found.get("reference_nan"), "NaN in the source")]
    told = ", ".join(f"{number} {word}" for number, word in counts if number)
    if told:
        return told
    if found.get("reference_rms") == 0:
        return "source gives zeros only"
    of_tolerance = found.get("of_tolerance")
    if not found.get("rtol") and not found.get("atol"):
        return "must be equal"
    if not isinstance(of_tolerance, (int, float)):
        return ""
    return f"{100 * of_tolerance:.3g} % of tolerance" if of_tolerance < 10 else f"{of_tolerance:,.0f} x tolerance"


def _at(at: Any) -> str:
    return ", ".join(f"{name} {value}" for name, value in at.items()) if isinstance(at, Mapping) else ""


def _number(value: Any) -> str:
    return f"{value:.2e}" if isinstance(value, (int, float)) else "?"


def precision_text(precision: Record) -> str:
    """What the arithmetic is in: `fp16 asked; 52 x float16, 1 x float32`."""
    compute = precision.get("compute")
    counts = ", ".join(f"{count} x {dtype}" for dtype, count in compute.items()) if isinstance(compute, Mapping) else ""
    parts = [f"{precision['asked']} asked" if precision.get("asked") else "", counts]
    return "; ".join(part for part in parts if part)


def located_text(located: Record) -> str:
    """Where an artifact parts from the source model, a fact per line."""
    if not located.get("op"):
        return str(located.get("note") or "nothing was found")
    lines = [f"{located['op']} ({located.get('name', '')})"]
    if located.get("module"):
        lines.append(f"in the module {located['module']}")
    if located.get("source"):
        lines.append(str(located["source"]))
    if located.get("partition"):
        lines.append(f"held by {located['partition']}")
    before, after = located.get("before"), located.get("after")
    if isinstance(after, Mapping):
        from_text = f"{_error(before)} before it, " if isinstance(before, Mapping) else ""
        lines.append(f"error: {from_text}{_error(after)} after it")
    if located.get("note"):
        lines.append(str(located["note"]))
    return "\n".join(lines)


def _error(found: Record) -> str:
    if found.get("nan") or found.get("inf"):
        return _of_tolerance(found)
    return f"{_number(found.get('max_abs'))} ({_of_tolerance(found)})"


def _records(record: Record, name: str) -> list[Record]:
    value = record.get(name)
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []
