"""The plan as a directed acyclic graph: order, cycles, layers. The one module that imports networkx.

networkx has no type stubs, so what it gives is Any; it leaves this module as ids only, but for the graph itself.
"""

from __future__ import annotations

from collections.abc import Iterable

import networkx

from trtbuild.errors import UsageError, did_you_mean
from trtbuild.plans import Step


def graph_from_steps(steps: Iterable[Step]) -> networkx.DiGraph:
    """The graph of steps: nodes are ids with the `step`, edges lead from a need to its user and name the `slot`.

    UsageError where a need is missing, where two steps share an id, or where steps need each other in a circle.
    """
    graph = networkx.DiGraph()
    # By id, so that order and the cycle that is found first do not depend on the order of the steps.
    by_id = sorted(steps, key=lambda step: step.id)
    for step in by_id:
        if step.id in graph:
            raise UsageError(f"Two stages are called `{step.id}`")
        graph.add_node(step.id, step=step)
    for step in by_id:
        for slot, need in sorted(step.needs.items()):
            if need not in graph:
                raise _missing(step, slot, need, graph)
            slots = [graph.edges[need, step.id]["slot"], slot] if graph.has_edge(need, step.id) else [slot]
            graph.add_edge(need, step.id, slot=", ".join(slots))
    if not networkx.is_directed_acyclic_graph(graph):
        raise _cycle([edge[0] for edge in networkx.find_cycle(graph)])
    return graph


def ordered(steps: Iterable[Step]) -> tuple[Step, ...]:
    """The steps, each after what it needs; of those that could come next, the one with the first id does."""
    graph = graph_from_steps(steps)
    return tuple(graph.nodes[id]["step"] for id in networkx.lexicographical_topological_sort(graph))


def generations(edges: Iterable[tuple[str, str]], nodes: Iterable[str]) -> list[list[str]]:
    """Layers of a drawing: each node one layer after the last of those that lead to it; sorted within a layer."""
    graph = networkx.DiGraph()
    graph.add_nodes_from(nodes)
    graph.add_edges_from(edges)
    return [sorted(layer) for layer in networkx.topological_generations(graph)]


def _missing(step: Step, slot: str, need: str, ids: Iterable[str]) -> UsageError:
    facts = [("slot", slot), ("missing", need)]
    return UsageError(f"`{step.id}` needs a stage that does not exist", facts, did_you_mean(need, ids))


def _cycle(ids: list[str]) -> UsageError:
    first = ids.index(min(ids))
    path = [*ids[first:], *ids[:first], ids[first]]
    return UsageError("Stages need each other in a circle", [("cycle", "\n-> ".join(path))])
