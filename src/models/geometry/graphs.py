"""Shortest paths on neighbour graphs whose edges have Riemannian lengths."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from src.models.geometry.metric import CentroidMetric

# Pieces that an edge is measured in, and edges measured together.
PIECES, CHUNK = 8, 256


@dataclass(frozen=True)
class Edges:
    """Undirected edges of N nodes: ends (E,), (E,) and lengths (E,), all positive."""

    tails: np.ndarray
    heads: np.ndarray
    lengths: np.ndarray


def graph_distances(metric: CentroidMetric, nodes: Tensor, neighbours: int = 10) -> np.ndarray:
    """Shortest-path distances between nodes (N, D) on their ``neighbours``-nearest-neighbour graph, (N, N) fp64.

    Neighbours are near in the Euclidean sense; an edge is as long as the straight line is under the metric. A minimum
    spanning tree is part of the graph, so that every node can be reached.

    References:
        Tenenbaum, de Silva & Langford 2000, A Global Geometric Framework for Nonlinear Dimensionality Reduction.
        Arvanitidis, Hansen & Hauberg 2018, Latent Space Oddity, arXiv:1710.11379.
    """
    from scipy.sparse.csgraph import dijkstra  # type: ignore[import-untyped]

    edges = node_edges(metric, nodes, neighbours)
    return np.asarray(dijkstra(_sparse(len(nodes), edges), directed=False))


def graph_path(
    metric: CentroidMetric, nodes: Tensor, a: Tensor, b: Tensor, points: int, neighbours: int = 10
) -> Tensor:
    """From every a to its b over a graph of nodes, resampled to equal Riemannian lengths: (points, B, D).

    A pair is joined to its nearest nodes and to each other; no path leads over the ends of another pair.

    Args:
        nodes: (N, D), such as centroids or encodings.
        a, b: (B, D).
        points: of each path, with both ends, which are kept exactly.
        neighbours: of each node and each end.
    """
    steps = _walk(metric, nodes, a, b, neighbours)
    corners = torch.cat([nodes, a, b])[torch.from_numpy(steps).to(nodes.device)]
    return resample(metric, corners, points)


def resample(metric: CentroidMetric, curve: Tensor, points: int) -> Tensor:
    """Points at equal Riemannian distances along polygons (M, B, D) from end to end, (points, B, D)."""
    pieces = _subdivided(curve)
    lengths = metric.squared_distance(pieces[:-1], pieces[1:]).sqrt()
    travelled = torch.cat([torch.zeros_like(lengths[:1]), lengths.cumsum(0)])
    share = torch.linspace(0, 1, points, dtype=lengths.dtype, device=lengths.device)
    wanted = (share[:, None] * travelled[-1]).T.contiguous()
    # The piece that each wanted length falls into, and how far along.
    before = torch.searchsorted(travelled.T.contiguous(), wanted, right=True).T - 1
    before = before.clamp(0, len(lengths) - 1)
    length = lengths.gather(0, before)
    t = (wanted.T - travelled.gather(0, before)) / length.clamp_min(torch.finfo(length.dtype).tiny)
    index = before[..., None].expand(*before.shape, curve.shape[-1])
    found = torch.lerp(
        pieces.gather(0, index), pieces.gather(0, index + 1), t.clamp(0, 1)[..., None]
    )
    return torch.cat([curve[:1], found[1:-1], curve[-1:]])


def node_edges(metric: CentroidMetric, nodes: Tensor, neighbours: int) -> Edges:
    """The neighbour graph of nodes (N, D)."""
    from scipy.sparse.csgraph import minimum_spanning_tree
    from scipy.spatial.distance import cdist  # type: ignore[import-untyped]

    values = nodes.detach().cpu().double().numpy()
    distances = cdist(values, values)
    # Zeros are no edges to scipy, and duplicates are to be joined too.
    distances = np.maximum(distances, 1e-9 * max(distances.max(), 1e-30))
    np.fill_diagonal(distances, np.inf)
    near = np.argsort(distances, axis=1, kind="stable")[:, : min(neighbours, len(nodes) - 1)]
    linked = np.zeros(distances.shape, dtype=bool)
    np.put_along_axis(linked, near, True, axis=1)
    np.fill_diagonal(distances, 0)
    linked |= minimum_spanning_tree(distances).toarray() > 0
    tails, heads = np.nonzero(np.triu(linked | linked.T))
    return Edges(tails, heads, _lengths(metric, nodes[tails], nodes[heads]))


def _walk(
    metric: CentroidMetric, nodes: Tensor, a: Tensor, b: Tensor, neighbours: int
) -> np.ndarray:
    """Which of nodes, a and b each shortest path visits, (M, B); shorter ones stay at their beginning."""
    from scipy.sparse.csgraph import dijkstra

    count, pairs = len(nodes), len(a)
    starts, ends = count + np.arange(pairs), count + pairs + np.arange(pairs)
    inner = node_edges(metric, nodes, neighbours)
    out, into, direct = _links(metric, nodes, a, b, neighbours)
    # Directed at the ends, so that no path of one pair passes through another's.
    edges = Edges(
        np.concatenate(
            [inner.tails, inner.heads, np.repeat(starts, out[0].shape[1]), into[0].ravel(), starts]
        ),
        np.concatenate(
            [inner.heads, inner.tails, out[0].ravel(), np.repeat(ends, into[0].shape[1]), ends]
        ),
        np.concatenate([inner.lengths, inner.lengths, out[1].ravel(), into[1].ravel(), direct]),
    )
    graph = _sparse(count + 2 * pairs, edges)
    _, predecessors = dijkstra(graph, indices=starts, return_predecessors=True)
    steps = [ends]
    while (steps[-1] != starts).any():
        previous = predecessors[np.arange(pairs), steps[-1]]
        steps.append(np.where(steps[-1] == starts, starts, previous))
    return np.stack(steps[::-1])


def _links(
    metric: CentroidMetric, nodes: Tensor, a: Tensor, b: Tensor, neighbours: int
) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray], np.ndarray]:
    """The nodes nearest to every a and to every b (B, n) with the lengths (B, n), and from every a to its b (B,)."""
    found = []
    for end in (a, b):
        near = torch.cdist(end, nodes).topk(min(neighbours, len(nodes)), largest=False).indices
        spread = end[:, None].expand(*near.shape, end.shape[1])
        lengths = _lengths(metric, spread.flatten(0, 1), nodes[near].flatten(0, 1))
        found.append((near.cpu().numpy(), lengths.reshape(near.shape)))
    return found[0], found[1], _lengths(metric, a, b)


@torch.no_grad()
def _lengths(metric: CentroidMetric, a: Tensor, b: Tensor) -> np.ndarray:
    """Riemannian lengths of straight lines (E, D) → (E, D), (E,) fp64, never 0."""
    parts = [
        metric.squared_distance(pieces[:-1], pieces[1:]).sqrt().sum(0)
        for ends in zip(a.split(CHUNK), b.split(CHUNK), strict=True)
        for pieces in [_subdivided(torch.stack(ends))]
    ]
    lengths = torch.cat(parts).cpu().double().numpy()
    return np.maximum(lengths, 1e-9 * max(lengths.max(initial=0), 1e-30))


def _subdivided(curve: Tensor) -> Tensor:
    """Every edge of a polygon (M, B, D) in ``PIECES`` pieces, ((M − 1)·PIECES + 1, B, D)."""
    t = torch.arange(PIECES, dtype=curve.dtype, device=curve.device).view(-1, 1, 1) / PIECES
    inner = torch.lerp(curve[:-1, None], curve[1:, None], t)
    return torch.cat([inner.flatten(0, 1), curve[-1:]])


def _sparse(size: int, edges: Edges) -> Any:
    from scipy.sparse import csr_matrix  # type: ignore[import-untyped]

    return csr_matrix((edges.lengths, (edges.tails, edges.heads)), shape=(size, size))
