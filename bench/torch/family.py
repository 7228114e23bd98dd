# SPDX-License-Identifier: Apache-2.0
"""The operators, what fla has for each, and how both are held against double."""

from typing import Callable, NamedTuple

import torch
import torch.nn.functional as F
from fla.ops.gla import chunk_gla
from fla.ops.hgrn import chunk_hgrn, fused_recurrent_hgrn
from fla.ops.lightnet import chunk_lightnet
from fla.ops.linear_attn import chunk_linear_attn
from fla.ops.simple_gla import chunk_simple_gla

import operators
from reference import additive_in_double, decay_in_double, elementwise_in_double, global_in_double


class Member(NamedTuple):
    """A recurrence: operators take what it reads, by name, and return o."""

    reads: str  # of q, k, v and x, [B, N, H, d]
    log_decay: Callable  # what a layer makes of standard normal numbers [B, N, H, d], or None
    ours: Callable
    fla: dict  # operators by name
    in_double: Callable
    global_in_double: Callable = None  # of all tokens, where ours takes that traversal


def _retnet_rates(x):
    """[H] of float, log(1 - 2^(-5 - h))."""
    return torch.log1p(-(2.0 ** (-5 - torch.arange(x.shape[2], device=x.device))))


MEMBERS = {
    "additive": Member(
        "qkv",
        None,
        operators.additive,
        {"chunk_lightnet": lambda q, k, v: chunk_lightnet(q, k, v, scale=1.0)[0]},
        additive_in_double,
        lambda q, k, v: global_in_double(q, torch.softmax(k.double(), 1), v),
    ),
    "no decay": Member(
        "qkv",
        None,
        operators.no_decay,
        {"chunk_linear_attn": lambda q, k, v: chunk_linear_attn(q, k, v, scale=1.0, normalize=False)[0]},
        lambda q, k, v: decay_in_double(q, k, v, torch.zeros_like(k)),
        global_in_double,
    ),
    "constant decay": Member(
        "qkv",
        _retnet_rates,
        operators.constant_decay,
        {"chunk_simple_gla": lambda q, k, v, log_decay: chunk_simple_gla(q, k, v, scale=1.0, g_gamma=log_decay)[0]},
        lambda q, k, v, log_decay: decay_in_double(q, k, v, log_decay.unsqueeze(1)),
    ),
    "scalar decay": Member(
        "qkv",
        lambda x: -F.softplus(x[..., :1]) / 2,
        operators.scalar_decay,
        {"chunk_simple_gla": lambda q, k, v, log_decay: chunk_simple_gla(q, k, v, log_decay.squeeze(3), scale=1.0)[0]},
        decay_in_double,
    ),
    "vector decay": Member(
        "qkv",
        lambda x: F.logsigmoid(x) / 16,
        operators.vector_decay,
        {"chunk_gla": lambda q, k, v, log_decay: chunk_gla(q, k, v, log_decay, scale=1.0)[0]},
        decay_in_double,
    ),
    "HGRN2": Member(
        "qv",
        F.logsigmoid,
        operators.hgrn2,
        {"chunk_gla": lambda q, v, log_decay: chunk_gla(q, 1 - log_decay.exp(), v, log_decay, scale=1.0)[0]},
        lambda q, v, log_decay: decay_in_double(q, -torch.expm1(log_decay.double()), v, log_decay),
    ),
    "HGRN": Member(
        "x",
        F.logsigmoid,
        operators.elementwise,
        {
            f.__name__: lambda x, log_decay, f=f: f(x.flatten(2), log_decay.flatten(2))[0].view(x.shape)
            for f in (chunk_hgrn, fused_recurrent_hgrn)
        },
        elementwise_in_double,
    ),
}


def inputs_of(member, shape, type_):
    """Standard normal numbers, and decays made of such, that have gradients, by name; shape: B, N, H, d."""
    made = {name: torch.randn(shape, device="cuda", dtype=type_) for name in member.reads}
    if member.log_decay:
        made["log_decay"] = member.log_decay(torch.randn(shape, device="cuda", dtype=type_))
    return {name: x.requires_grad_() for name, x in made.items()}


def with_gradients(operator, inputs, d_o):
    """o and the gradients of the inputs that have one, from that by o: d and the input's name."""
    o = operator(**inputs)
    gradients = torch.autograd.grad(o, list(inputs.values()), d_o.to(o.dtype), allow_unused=True)
    made = {f"d{name}": gradient for name, gradient in zip(inputs, gradients) if gradient is not None}
    return {"o": o.detach(), **made}


def with_gradients_if_any(operator, inputs, d_o):
    """The same, or o alone where fla refuses the gradients, as the Triton of this machine would get them wrong."""
    try:
        return with_gradients(operator, inputs, d_o)
    except RuntimeError as error:
        if "produces incorrect results" not in str(error):
            raise
        with torch.no_grad():
            return {"o": operator(**inputs)}


def exact(in_double, inputs, d_o):
    """`with_gradients` of the same numbers in double."""
    wide = {name: x.detach().double().requires_grad_() for name, x in inputs.items()}
    return with_gradients(in_double, wide, d_o)


def distance(x, y, right):
    """The norm of the difference of x and y over that of what is right."""
    return float((x.double() - y.double()).norm() / right.norm())
