"""The objectives' loss terms by loops over views, patches, prototypes and frequencies; numpy, double precision."""

from __future__ import annotations

import cmath
import math

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def softmax(values: Array) -> Array:
    raised = [math.exp(value - max(values)) for value in values]
    return np.array([one / sum(raised) for one in raised])


def cross_entropy(target: Array, logits: Array) -> float:
    said = softmax(logits)
    return -sum(float(t) * math.log(float(p)) for t, p in zip(target, said, strict=True))


def mean_squared(predicted: Array, target: Array) -> float:
    total = sum((float(a) - float(b)) ** 2 for a, b in zip(predicted.ravel(), target.ravel(), strict=True))
    return total / predicted.size


def between_views(
    student: Array, teacher: Array, centre: Array, student_temperature: float, teacher_temperature: float
) -> float:
    """(V, b, K) and (2, b, K) logits -> DINO's eq. 3: mean over images and pairs of different views."""
    terms = []
    for i in range(2):
        for v in range(len(student)):
            if v == i:
                continue
            for image in range(student.shape[1]):
                target = softmax((teacher[i, image] - centre) / teacher_temperature)
                terms.append(cross_entropy(target, student[v, image] / student_temperature))
    return sum(terms) / len(terms)


def most_similar(tokens: Array, count: int) -> list[list[list[int]]]:
    """(M, h, w, C) -> for each view and patch, row by row, the places of its most similar neighbours."""
    found = []
    for view in tokens:
        h, w, _ = view.shape
        of_view = []
        for y in range(h):
            for x in range(w):
                alike = []
                for dy in (-1, 0, 1):
                    for dx in (-1, 0, 1):
                        if (dy, dx) == (0, 0) or not (0 <= y + dy < h and 0 <= x + dx < w):
                            continue
                        a, b = view[y, x], view[y + dy, x + dx]
                        cosine = float(a @ b) / math.sqrt(float(a @ a) * float(b @ b))
                        alike.append((-cosine, (y + dy) * w + x + dx))
                of_view.append([place for _, place in sorted(alike)[:count]])
        found.append(of_view)
    return found


def attend(query: Array, keys: Array, weights: dict[str, Array], heads: int) -> Array:
    """Multi-head attention of one query (C,) to keys (m, C), with the weights of torch's MultiheadAttention."""
    c = len(query)
    d = c // heads
    own, bias = weights["in_proj_weight"], weights["in_proj_bias"]
    q = own[:c] @ query + bias[:c]
    k = [own[c : 2 * c] @ key + bias[c : 2 * c] for key in keys]
    v = [own[2 * c :] @ key + bias[2 * c :] for key in keys]
    mixed = []
    for head in range(heads):
        part = slice(head * d, (head + 1) * d)
        shares = softmax(np.array([float(q[part] @ key[part]) / math.sqrt(d) for key in k]))
        mixed.append(sum(share * value[part] for share, value in zip(shares, v, strict=True)))
    return weights["out_proj.weight"] @ np.concatenate(mixed) + weights["out_proj.bias"]


def frequencies(image: Array) -> NDArray[np.complex128]:
    """(s, s) -> its discrete Fourier transform, 1 / s in front, the constant at (s // 2, s // 2)."""
    side = len(image)
    found = np.zeros((side, side), complex)
    for u in range(side):
        for v in range(side):
            total = 0j
            for y in range(side):
                for x in range(side):
                    total += image[y, x] * cmath.exp(-2j * math.pi * (u * y + v * x) / side)
            found[(u + side // 2) % side, (v + side // 2) % side] = total / side
    return found


def frequency_loss(image: Array, target: Array, low: list[bool], radius: float) -> float:
    """(B, 3, s, s): mean distance of the frequencies that were masked; `low`: those within the circle were left."""
    side, terms = image.shape[-1], []
    for b, left in enumerate(low):
        for channel in range(3):
            a, t = frequencies(image[b, channel]), frequencies(target[b, channel])
            for u in range(side):
                for v in range(side):
                    inside = math.hypot(u - side // 2, v - side // 2) < radius
                    if inside != left:
                        terms.append(abs(a[u, v] - t[u, v]))
    return sum(terms) / len(terms)
