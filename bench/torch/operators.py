# SPDX-License-Identifier: Apache-2.0
"""lightnet's recurrences for PyTorch: on the current stream, with gradients.

    LIGHTNET_TORCH=build/cuda/bench/liblightnet_torch.so python3 ...

Sequences are [B, N, H, channels], as flash-linear-attention (fla) has them; float32 or bfloat16, all of one type, on one
GPU, any strides. Decays are natural logarithms, zero or less, down to -inf. Nothing is scaled: where fla takes a scale, 1 /
sqrt(d) if none is given, q is what it is times q. What computes the same, fla's with scale=1.0 and the first of what they
return:

| here | fla |
|---|---|
| additive(q, k, v) | chunk_lightnet(q, k, v) |
| no_decay(q, k, v) | chunk_linear_attn(q, k, v, normalize=False) |
| constant_decay(q, k, v, rates) | chunk_simple_gla(q, k, v, g_gamma=rates) |
| constant_decay, rates log(1 - 2^(-5 - h)) | chunk_retention(q, k, v) |
| scalar_decay(q, k, v, g.unsqueeze(3)) | chunk_simple_gla(q, k, v, g) |
| vector_decay(q, k, v, g) | chunk_gla(q, k, v, g) |
| hgrn2(q, v, g) | chunk_gla(q, 1 - g.exp(), v, g) |
| elementwise(x.unsqueeze(2), g.unsqueeze(2)) | chunk_hgrn(x, g), fused_recurrent_hgrn(x, g), without a scale |

lengths, [S + 1] of int64 on that GPU, from 0 to N, packs S sequences into a batch of one, as fla's cu_seqlens do. All
operators raise ValueError for other types, axes and traversals, and RuntimeError for what the library refuses.

`chunk_lightnet` takes the place of fla's:

    import fla.layers.lightnet, operators
    fla.layers.lightnet.chunk_lightnet = operators.chunk_lightnet
"""

import ctypes
import os
from pathlib import Path

import torch


class _Tensor(ctypes.Structure):
    _fields_ = [("data", ctypes.c_void_p), ("extents", ctypes.c_int64 * 4), ("strides", ctypes.c_int64 * 4)]

    @classmethod
    def of(cls, x):
        if x is None:
            return cls()
        four, lacking = ctypes.c_int64 * 4, 4 - x.dim()
        address = x.data_ptr() or 16  # of no elements it is null, which would say that there is no tensor
        return cls(address, four(*[1] * lacking, *x.shape), four(*[0] * lacking, *x.stride()))


class _Operands(ctypes.Structure):
    _fields_ = [(name, _Tensor) for name in ("q", "k", "v", "x", "log_decay")]

    @classmethod
    def of(cls, names, tensors):
        return cls(**{name: _Tensor.of(x) for name, x in zip(names, tensors)})


class _Call(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_int32),
        ("is_global", ctypes.c_int32),
        ("lengths", ctypes.c_void_p),
        ("sequences", ctypes.c_int64),
        ("inputs", _Operands),
    ]


def _load():
    beside = Path(__file__).resolve().parents[2] / "build" / "cuda" / "bench" / "liblightnet_torch.so"
    # PyDLL keeps Python's lock: an execution serves one call at a time.
    library = ctypes.PyDLL(os.environ.get("LIGHTNET_TORCH", str(beside)))
    library.lightnet_make_execution.restype = ctypes.c_void_p
    library.lightnet_make_execution.argtypes = [ctypes.c_void_p]
    for function, written in ((library.lightnet_scan, []), (library.lightnet_scan_backward, [ctypes.POINTER(_Operands)])):
        function.restype = ctypes.c_char_p
        of_call = [ctypes.c_void_p, ctypes.c_char_p, ctypes.POINTER(_Call), ctypes.POINTER(_Tensor)]
        function.argtypes = of_call + written
    return library


_library = _load()
_executions = {}  # one a stream, with its workspace
_types = {torch.float32: 0, torch.bfloat16: 1}


def _execution(device):
    stream = torch.cuda.current_stream(device).cuda_stream
    if (device, stream) not in _executions:
        made = _library.lightnet_make_execution(stream)
        if made is None:
            raise RuntimeError("lightnet: there is no execution on this device")
        _executions[device, stream] = made
    return _executions[device, stream]


def _run(function, recurrence, traversal, lengths, names, inputs, *others):
    call = _Call(
        _types[inputs[0].dtype],
        int(traversal == "global"),
        None if lengths is None else lengths.data_ptr(),
        0 if lengths is None else lengths.numel() - 1,
        _Operands.of(names, inputs),
    )
    with torch.cuda.device(inputs[0].device):
        error = function(
            _execution(inputs[0].device), recurrence.encode(), ctypes.byref(call), *(ctypes.byref(x) for x in others)
        )
    if error is not None:
        raise RuntimeError(error.decode())


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(ctx, recurrence, traversal, lengths, names, *inputs):
        like = inputs[names.index("x" if "x" in names else "v")]
        o = torch.empty(like.shape, dtype=like.dtype, device=like.device)
        ctx.call = recurrence, traversal, lengths, names
        _run(_library.lightnet_scan, *ctx.call, inputs, _Tensor.of(o))
        ctx.save_for_backward(*inputs)
        return o

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, d_o):
        inputs = ctx.saved_tensors
        needed = ctx.needs_input_grad[4:]
        wanted = [torch.empty_like(x) if need else None for x, need in zip(inputs, needed)]
        gradients = _Operands.of(ctx.call[3], wanted)
        _run(_library.lightnet_scan_backward, *ctx.call, inputs, _Tensor.of(d_o), gradients)
        return None, None, None, None, *wanted


def _scan(recurrence, traversal, lengths, **inputs):
    """The recurrence of that name, along a traversal, of inputs by name, of which the first says type and device."""
    if traversal not in ("causal", "global"):
        raise ValueError(f"{recurrence}: traversal: expected 'causal' or 'global', got {traversal!r}")
    first = next(iter(inputs.values()))
    for name, x in inputs.items():
        rates = recurrence == "constant_decay" and name == "log_decay"
        axes, type_ = ("[H]", torch.float32) if rates else ("[B, N, H, channels]", first.dtype)
        if x.dim() != len(axes.split(",")) or x.dtype != type_ or x.device != first.device or not x.is_cuda:
            raise ValueError(
                f"{recurrence}: {name}: expected {axes} of {type_} on {first.device}, a GPU, "
                f"got {list(x.shape)} of {x.dtype} on {x.device}"
            )
    if first.dtype not in _types:
        raise ValueError(f"{recurrence}: expected float32 or bfloat16, got {first.dtype}")
    if lengths is not None and (lengths.dtype != torch.int64 or lengths.dim() != 1 or lengths.device != first.device):
        raise ValueError(f"{recurrence}: lengths: expected [S + 1] of int64 on {first.device}, got {lengths.dtype}")
    lengths = None if lengths is None else lengths.contiguous()
    return _Scan.apply(recurrence, traversal, lengths, tuple(inputs), *inputs.values())


def additive(q, k, v, traversal="causal", lengths=None):
    """The additive recurrence (arXiv 2405.21022): o_t = sum of softmax over s of k_s, times v_s, read by q_t.

    q, k: [B, N, H, d]; v: [B, N, H, e]. traversal: "causal" (s up to t) or "global" (all s). Returns o [B, N, H, e].
    """
    return _scan("additive", traversal, lengths, q=q, k=k, v=v)


def no_decay(q, k, v, traversal="causal", lengths=None):
    """Linear attention without a normaliser (arXiv 2006.16236): S_t = S_{t-1} + k_t v_t^T, o_t = S_t^T q_t.

    Arguments and o as those of `additive`.
    """
    return _scan("no_decay", traversal, lengths, q=q, k=k, v=v)


def constant_decay(q, k, v, log_decay, lengths=None):
    """One decay a head (RetNet arXiv 2307.08621, Lightning Attention-2 arXiv 2401.04658), causal:
    S_t = exp(log_decay_h) S_{t-1} + k_t v_t^T, o_t = S_t^T q_t.

    q, k: [B, N, H, d]; v: [B, N, H, e]; log_decay: [H] of float32, which has a gradient, too. Returns o [B, N, H, e].
    """
    return _scan("constant_decay", "causal", lengths, q=q, k=k, v=v, log_decay=log_decay)


def scalar_decay(q, k, v, log_decay, lengths=None):
    """One decay a token and head (Mamba-2 arXiv 2405.21060, simple GLA), causal: S_t = exp(log_decay_t) S_{t-1} + k_t v_t^T,
    o_t = S_t^T q_t.

    q, k: [B, N, H, d]; v: [B, N, H, e]; log_decay: [B, N, H, 1]. Returns o [B, N, H, e].
    """
    return _scan("scalar_decay", "causal", lengths, q=q, k=k, v=v, log_decay=log_decay)


def vector_decay(q, k, v, log_decay, lengths=None):
    """One decay a token and channel of the key (GLA arXiv 2312.06635), causal: S_t = diag(exp(log_decay_t)) S_{t-1} +
    k_t v_t^T, o_t = S_t^T q_t.

    q, k, log_decay: [B, N, H, d]; v: [B, N, H, e]. Returns o [B, N, H, e].
    """
    return _scan("vector_decay", "causal", lengths, q=q, k=k, v=v, log_decay=log_decay)


def hgrn2(q, v, log_decay, lengths=None):
    """`vector_decay` with k_t = 1 - exp(log_decay_t) (HGRN2 arXiv 2404.07904), which is not rounded on its way.

    q, log_decay: [B, N, H, d]; v: [B, N, H, e]. Returns o [B, N, H, e].
    """
    return _scan("hgrn2", "causal", lengths, q=q, v=v, log_decay=log_decay)


def elementwise(x, log_decay, lengths=None):
    """A decay a token and channel, without queries and keys (HGRN arXiv 2311.04823), causal:
    o_t = exp(log_decay_t) o_{t-1} + x_t.

    x, log_decay: [B, N, H, d]. Returns o [B, N, H, d].
    """
    return _scan("elementwise", "causal", lengths, x=x, log_decay=log_decay)


def chunk_lightnet(q, k, v, scale=None, initial_state=None, output_final_state=False, state_v_first=False, cu_seqlens=None):
    """fla.ops.lightnet.chunk_lightnet by `additive`, with its arguments; the final state is (None, None). Calls that take
    or give a state are handed on to fla."""
    if initial_state is not None or output_final_state:
        from fla.ops.lightnet import chunk_lightnet as of_fla

        return of_fla(q, k, v, scale, initial_state, output_final_state, state_v_first, cu_seqlens)
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    lengths = None if cu_seqlens is None else cu_seqlens.long()
    return additive(q if scale == 1 else q * scale, k, v, "causal", lengths), (None, None)
