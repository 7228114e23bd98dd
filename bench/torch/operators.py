# SPDX-License-Identifier: Apache-2.0
"""lightnet's additive recurrence for PyTorch: on the current stream, with gradients.

    LIGHTNET_TORCH=build/cuda/bench/liblightnet_torch.so python3 ...

`additive` is the operator. `chunk_lightnet` takes the place of the one of flash-linear-attention (fla):

    import fla.layers.lightnet, operators
    fla.layers.lightnet.chunk_lightnet = operators.chunk_lightnet
"""

import ctypes
import os
from pathlib import Path

import torch


class _Tokens(ctypes.Structure):
    _fields_ = [("data", ctypes.c_void_p), ("extents", ctypes.c_int64 * 4), ("strides", ctypes.c_int64 * 4)]

    @classmethod
    def of(cls, x):
        if x is None:
            return cls()
        four = ctypes.c_int64 * 4
        address = x.data_ptr() or 16  # of no elements it is null, which would say that there is no tensor
        return cls(address, four(*x.shape), four(*x.stride()))


class _Call(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_int32),
        ("is_global", ctypes.c_int32),
        ("lengths", ctypes.c_void_p),
        ("sequences", ctypes.c_int64),
        ("q", _Tokens),
        ("k", _Tokens),
        ("v", _Tokens),
    ]


def _load():
    beside = Path(__file__).resolve().parents[2] / "build" / "cuda" / "bench" / "liblightnet_torch.so"
    # PyDLL keeps Python's lock: an execution serves one call at a time.
    library = ctypes.PyDLL(os.environ.get("LIGHTNET_TORCH", str(beside)))
    library.lightnet_make_execution.restype = ctypes.c_void_p
    library.lightnet_make_execution.argtypes = [ctypes.c_void_p]
    tokens = ctypes.POINTER(_Tokens)
    for name, arrays in (("lightnet_additive", 1), ("lightnet_additive_backward", 4)):
        function = getattr(library, name)
        function.restype = ctypes.c_char_p
        function.argtypes = [ctypes.c_void_p, ctypes.POINTER(_Call)] + [tokens] * arrays
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


def _run(function, traversal, lengths, q, k, v, *arrays):
    call = _Call(
        _types[q.dtype],
        int(traversal == "global"),
        None if lengths is None else lengths.data_ptr(),
        0 if lengths is None else lengths.numel() - 1,
        _Tokens.of(q),
        _Tokens.of(k),
        _Tokens.of(v),
    )
    with torch.cuda.device(q.device):
        error = function(_execution(q.device), ctypes.byref(call), *(ctypes.byref(_Tokens.of(x)) for x in arrays))
    if error is not None:
        raise RuntimeError(error.decode())


class _Additive(torch.autograd.Function):
    @staticmethod
    def forward(ctx, q, k, v, traversal, lengths):
        o = torch.empty(*q.shape[:3], v.shape[3], dtype=q.dtype, device=q.device)
        _run(_library.lightnet_additive, traversal, lengths, q, k, v, o)
        ctx.save_for_backward(q, k, v)
        ctx.traversal, ctx.lengths = traversal, lengths
        return o

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, d_o):
        inputs = ctx.saved_tensors
        wanted = [torch.empty_like(x) if need else None for x, need in zip(inputs, ctx.needs_input_grad)]
        _run(_library.lightnet_additive_backward, ctx.traversal, ctx.lengths, *inputs, d_o, *wanted)
        return *wanted, None, None


def additive(q, k, v, traversal="causal", lengths=None):
    """The additive recurrence (arXiv 2405.21022): o_t = sum of softmax over s of k_s, times v_s, read by q_t.

    q, k: [B, N, H, d]; v: [B, N, H, e]; float32 or bfloat16, on one GPU, any strides. traversal: "causal" (s up to t) or
    "global" (all s). lengths: [S + 1] int64 on that GPU, from 0 to N, packs S sequences into a batch of one. Returns o
    [B, N, H, e]. Raises ValueError for other types and traversals, RuntimeError for what the library refuses.
    """
    if traversal not in ("causal", "global"):
        raise ValueError(f"additive: traversal: expected 'causal' or 'global', got {traversal!r}")
    for name, x in (("q", q), ("k", k), ("v", v)):
        if x.dim() != 4 or x.dtype != q.dtype or x.dtype not in _types or x.device != q.device or not x.is_cuda:
            raise ValueError(
                f"additive: {name}: expected [B, N, H, channels], float32 or bfloat16 as q, on its GPU, "
                f"got {list(x.shape)} of {x.dtype} on {x.device}"
            )
    if lengths is not None and (lengths.dtype != torch.int64 or lengths.dim() != 1 or lengths.device != q.device):
        raise ValueError(f"additive: lengths: expected [S + 1] of int64 on {q.device}, got {lengths.dtype}")
    return _Additive.apply(q, k, v, traversal, None if lengths is None else lengths.contiguous())


def chunk_lightnet(q, k, v, scale=None, initial_state=None, output_final_state=False, state_v_first=False, cu_seqlens=None):
    """fla.ops.lightnet.chunk_lightnet by `additive`, with its arguments; the final state is (None, None). Calls that take
    or give a state are handed on to fla."""
    if initial_state is not None or output_final_state:
        from fla.ops.lightnet import chunk_lightnet as of_fla

        return of_fla(q, k, v, scale, initial_state, output_final_state, state_v_first, cu_seqlens)
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    lengths = None if cu_seqlens is None else cu_seqlens.long()
    return additive(q if scale == 1 else q * scale, k, v, "causal", lengths), (None, None)
