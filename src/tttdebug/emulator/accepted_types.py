# SPDX-License-Identifier: Apache-2.0
"""Which data types an op's kernels take, where that is narrower than floating-point or integer: ttnn checks it too."""

from __future__ import annotations

from collections.abc import Mapping

from tttdebug.emulator.dtypes import DataType
from tttdebug.emulator.errors import EmulatorError
from tttdebug.emulator.tensor import Tensor

_BF16, _FP32, _BFP8, _BFP4 = DataType.BFLOAT16, DataType.FLOAT32, DataType.BFLOAT8_B, DataType.BFLOAT4_B
_INT32, _UINT32, _UINT16 = DataType.INT32, DataType.UINT32, DataType.UINT16

_PLAIN = (_BF16, _FP32)
_NOT_NARROW = (_BF16, _FP32, _BFP8)
_ATTENTION = (_BF16, _BFP8, _BFP4)
_INDEXED = (_BF16, _FP32, _UINT16, _UINT32, _INT32)

# op → argument → what it may be
_ACCEPTED: dict[str, dict[str, tuple[DataType, ...]]] = {
    **{
        f"ttnn.transformer.{name}": dict.fromkeys(("input_tensor_q", "input_tensor_k", "input_tensor_v"), _ATTENTION)
        for name in (
            "scaled_dot_product_attention",
            "scaled_dot_product_attention_decode",
            "paged_scaled_dot_product_attention_decode",
            "chunked_scaled_dot_product_attention",
            "joint_scaled_dot_product_attention",
            "flash_mla_prefill",
            "flash_multi_latent_attention_decode",
        )
    },
    **{
        f"ttnn.{name}": {"input_tensor": _NOT_NARROW}
        for name in (
            "rms_norm",
            "layer_norm",
            "rms_norm_pre_all_gather",
            "layer_norm_pre_all_gather",
            "softmax",
            "softmax_in_place",
            "scale_mask_softmax",
            "scale_mask_softmax_in_place",
            "scale_causal_mask_hw_dims_softmax_in_place",
            "topk",
        )
    },
    "ttnn.sort": {"input_tensor": (_BF16, _FP32, _UINT16)},
    "ttnn.gather": {"input": _INDEXED, "index": (_UINT16, _UINT32, _INT32)},
    "ttnn.cumsum": {"input": (*_PLAIN, _INT32, _UINT32)},
    "ttnn.cumprod": {"input_tensor": (*_PLAIN, _INT32, _UINT32)},
    "ttnn.batch_norm": {"input": _PLAIN},
    "ttnn.bernoulli": {"input": _PLAIN},
    "ttnn.digamma": {"input_tensor": _PLAIN},
    "ttnn.lgamma": {"input_tensor": _PLAIN},
    **{f"ttnn.{name}": {"input_tensor_a": (_INT32,)} for name in ("gcd", "lcm")},
    "ttnn.bitwise_not": {"input_tensor": (_INT32,)},
    **{
        f"ttnn.bitwise_{name}": {"input_tensor_a": (_INT32, _UINT16, _UINT32)}
        for name in ("and", "or", "xor", "left_shift", "right_shift")
    },
}


def check_types(op: str, arguments: Mapping[str, object]) -> None:
    """That the op's kernels take the tensors' data types. Raises EmulatorError with those that they take."""
    for argument, accepted in _ACCEPTED.get(op, {}).items():
        tensor = arguments.get(argument)
        if isinstance(tensor, Tensor) and tensor.dtype not in accepted:
            names = ", ".join(dtype.name for dtype in accepted)
            raise EmulatorError(f"{op}: {argument} is {tensor.dtype}; the chip's kernel takes {names} (typecast)")
