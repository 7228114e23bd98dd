# SPDX-License-Identifier: Apache-2.0
"""What the operators are held against."""

import torch


def additive_in_double(q, k, v):
    """The causal additive recurrence of short sequences, in float64: q, k [B, N, H, d], v [B, N, H, e]; keys of any size that
    does not overflow."""
    weights = torch.exp(k.double())
    sums = torch.cumsum(weights.unsqueeze(4) * v.double().unsqueeze(3), 1)
    return torch.einsum("bthd,bthde->bthe", q.double() / torch.cumsum(weights, 1), sums)
