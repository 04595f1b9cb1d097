"""Slow reference of the least-squares solver: dense matrices, F and G together, written from the objective alone."""

from __future__ import annotations

import numpy as np


def hats(values, nodes):
    """(M, nodes) linear interpolation weights of coordinates in [0, 1], from the definition of a hat function."""
    return np.maximum(0.0, 1.0 - np.abs(values[:, None] * (nodes - 1) - np.arange(nodes)[None, :]))


def bending(ny, nx):
    """(N, N) from explicit loops over second differences."""
    rows = []

    def row(entries, scale=1.0):
        line = np.zeros((ny, nx))
        for (i, j), value in entries.items():
            line[i, j] = scale * value
        rows.append(line.ravel())

    for i in range(ny):
        for j in range(nx):
            if i + 2 < ny:
                row({(i, j): 1, (i + 1, j): -2, (i + 2, j): 1})
            if j + 2 < nx:
                row({(i, j): 1, (i, j + 1): -2, (i, j + 2): 1})
            if i + 1 < ny and j + 1 < nx:
                row({(i, j): 1, (i + 1, j): -1, (i, j + 1): -1, (i + 1, j + 1): 1}, scale=np.sqrt(2))
    differences = np.array(rows)
    return differences.T @ differences


def fit(tokens, coords, nodes, smoothness, ridge, weights):
    """F (ny, nx, C) and G (h, w, C): minimum of the weighted objective under mean(G) = 0, by a KKT system."""
    views, height, width, channels = tokens.shape
    positions = height * width
    flat = coords.reshape(-1, 2)
    rows, columns = hats(flat[:, 0], nodes[0]), hats(flat[:, 1], nodes[1])
    content = (rows[:, :, None] * columns[:, None, :]).reshape(len(flat), -1)
    design = np.concatenate([content, np.tile(np.eye(positions), (views, 1))], axis=1)
    count = content.shape[1]
    penalty = np.zeros((count + positions, count + positions))
    penalty[:count, :count] = smoothness * bending(*nodes)
    penalty[count:, count:] = ridge * np.eye(positions)
    w = weights.reshape(-1, 1)
    normal = design.T @ (w * design) + penalty
    constraint = np.concatenate([np.zeros(count), np.ones(positions)])
    system = np.block([[normal, constraint[:, None]], [constraint[None, :], np.zeros((1, 1))]])
    right = np.concatenate([design.T @ (w * tokens.reshape(-1, channels)), np.zeros((1, channels))])
    solution = np.linalg.solve(system, right)[:-1]
    residual = tokens.reshape(-1, channels) - design @ solution
    return (
        solution[:count].reshape(*nodes, channels),
        solution[count:].reshape(height, width, channels),
        np.linalg.norm(residual, axis=1).reshape(views, height, width),
    )


def solve(tokens, coords, nodes, smoothness, ridge, constant, passes):
    """Iteratively reweighted fits."""
    content, artifact, residual = fit(tokens, coords, nodes, smoothness, ridge, np.ones(tokens.shape[:3]))
    for _ in range(passes - 1):
        weights = 1 / (1 + (residual / (constant * np.median(residual))) ** 2)
        content, artifact, residual = fit(tokens, coords, nodes, smoothness, ridge, weights)
    return content, artifact, residual


def held_out_r2(tokens, coords, nodes, smoothness, ridge, weights, held):
    """R^2 of F + G on the last views, fitted on the others."""
    content, artifact, _ = fit(tokens[:-held], coords[:-held], nodes, smoothness, ridge, weights[:-held])
    flat = coords[-held:].reshape(-1, 2)
    rows, columns = hats(flat[:, 0], nodes[0]), hats(flat[:, 1], nodes[1])
    field = np.einsum("mi,mj,ijc->mc", rows, columns, content).reshape(tokens[-held:].shape)
    w = weights[-held:, ..., None]
    mean = (weights[:-held, ..., None] * tokens[:-held]).sum((0, 1, 2)) / weights[:-held].sum()
    return 1 - (w * (tokens[-held:] - field - artifact) ** 2).sum() / (w * (tokens[-held:] - mean) ** 2).sum()
