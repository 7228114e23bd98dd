# SPDX-License-Identifier: Apache-2.0
"""What the operators are held against: recurrences of short sequences, in float64, causal but for the last.
q, k are [B, N, H, d], v [B, N, H, e], x [B, N, H, d]."""

import torch


def additive_in_double(q, k, v):
    """The additive recurrence; keys of any size that does not overflow."""
    weights = torch.exp(k.double())
    sums = torch.cumsum(weights.unsqueeze(4) * v.double().unsqueeze(3), 1)
    return torch.einsum("bthd,bthde->bthe", q.double() / torch.cumsum(weights, 1), sums)


def elementwise_in_double(x, log_decay):
    """h_t = exp(log_decay_t) h_{t-1} + x_t, token by token; log_decay is as x, or broadcasts to it."""
    decays = torch.exp(log_decay.double()).expand(x.shape)
    states = []
    for decay, added in zip(decays.unbind(1), x.double().unbind(1)):
        states.append(decay * states[-1] + added if states else added)
    return torch.stack(states, 1)


def decay_in_double(q, k, v, log_decay):
    """S_t = diag(exp(log_decay_t)) S_{t-1} + k_t v_t^T, o_t = S_t^T q_t; log_decay is as k, or broadcasts to it."""
    products = k.double().unsqueeze(4) * v.double().unsqueeze(3)
    states = elementwise_in_double(products, log_decay.expand(k.shape).unsqueeze(4))
    return torch.einsum("bthd,bthde->bthe", q.double(), states)


def global_in_double(q, k, v):
    """o_t = S^T q_t with S the sum of k_s v_s^T over all tokens."""
    return torch.einsum("bthd,bhde->bthe", q.double(), torch.einsum("bthd,bthe->bhde", k.double(), v.double()))
