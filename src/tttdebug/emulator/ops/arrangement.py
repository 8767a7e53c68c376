# SPDX-License-Identifier: Apache-2.0
"""Parts of tensors and tensors of parts: split, chunk, stack, expand, gather, scatter, triangles, sorting."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from tttdebug.emulator.dtypes import DataType
from tttdebug.emulator.errors import EmulatorError
from tttdebug.emulator.operation import OPS, device_of, operation, require_tile, result
from tttdebug.emulator.ops.data_movement import rearranged, reshape
from tttdebug.emulator.placement import CoreRangeSet
from tttdebug.emulator.tensor import Tensor


def _dim(op: str, tensor: Tensor, dim: int) -> int:
    rank = len(tensor.shape)
    if not -rank <= dim < rank:
        raise EmulatorError(f"{op}: dim={dim} of a tensor with {rank} dimensions, {tensor.shape}")
    return dim % rank


@operation("ttnn.split", accepts="memory_config")
def split(input_tensor: Tensor, split_size: int | Sequence[int], dim: int = 0) -> list[Tensor]:
    """Parts along `dim`: of one size, the last perhaps smaller, or of the sizes given."""
    op = "ttnn.split"
    dim = _dim(op, input_tensor, dim)
    size = input_tensor.shape[dim]
    if isinstance(split_size, int):
        if split_size < 1:
            raise EmulatorError(f"{op}: split_size={split_size}; give 1 or more")
    elif sum(split_size) != size:
        raise EmulatorError(f"{op}: split_size={list(split_size)} does not add up to {size}")
    sizes = split_size if isinstance(split_size, int) else list(split_size)
    return [rearranged(part, input_tensor) for part in input_tensor.data.split(sizes, dim)]


@operation("ttnn.chunk")
def chunk(input_tensor: Tensor, chunks: int, dim: int) -> list[Tensor]:
    """`chunks` parts along `dim`, the last ones perhaps smaller or missing, as torch's chunk."""
    if chunks < 1:
        raise EmulatorError(f"ttnn.chunk: chunks={chunks}; give 1 or more")
    dim = _dim("ttnn.chunk", input_tensor, dim)
    return [rearranged(part, input_tensor) for part in input_tensor.data.chunk(chunks, dim)]


@operation("ttnn.stack")
def stack(input_tensors: Sequence[Tensor], dim: int) -> Tensor:
    """Tensors of one shape along a new dimension."""
    if not input_tensors:
        raise EmulatorError("ttnn.stack: no tensors")
    first = input_tensors[0]
    for tensor in input_tensors:
        if tensor.shape != first.shape or tensor.dtype is not first.dtype or tensor.device() is not first.device():
            raise EmulatorError(f"ttnn.stack: {tensor} and {first} differ in shape, data type or device")
    return rearranged(torch.stack([tensor.data for tensor in input_tensors], dim), first)


@operation("ttnn.expand", accepts="memory_config")
def expand(input_tensor: Tensor, output_shape: Sequence[int]) -> Tensor:
    """Sizes of 1 repeated to those of `output_shape`; −1 keeps a size."""
    return _expanded("ttnn.expand", input_tensor, output_shape)


@operation("ttnn.experimental.broadcast_to", accepts="memory_config output")
def broadcast_to(input: Tensor, output_shape: Sequence[int]) -> Tensor:
    """Sizes of 1 repeated to those of `output_shape`."""
    return _expanded("ttnn.experimental.broadcast_to", input, output_shape)


def _expanded(op: str, tensor: Tensor, shape: Sequence[int]) -> Tensor:
    try:
        values = tensor.data.expand([int(size) for size in shape])
    except RuntimeError:
        raise EmulatorError(f"{op}: {tensor.shape} cannot be expanded to {list(shape)}") from None
    return rearranged(values, tensor)


@operation("ttnn.repeat_interleave", accepts="memory_config")
def repeat_interleave(input_tensor: Tensor, repeats: int, dim: int) -> Tensor:
    """Each element along `dim` repeated, the copies side by side."""
    dim = _dim("ttnn.repeat_interleave", input_tensor, dim)
    return rearranged(input_tensor.data.repeat_interleave(int(repeats), dim), input_tensor)


@operation("ttnn.narrow")
def narrow(input_tensor: Tensor, dim: int, start: int, length: int) -> Tensor:
    """`length` elements along `dim` from `start` on."""
    dim = _dim("ttnn.narrow", input_tensor, dim)
    if start < 0 or length < 0 or start + length > input_tensor.shape[dim]:
        raise EmulatorError(f"ttnn.narrow: {start}+{length} leaves dimension {dim} of {input_tensor.shape}")
    return rearranged(input_tensor.data.narrow(dim, start, length), input_tensor)


@operation("ttnn.roll", accepts="memory_config")
def roll(input_tensor: Tensor, shifts: int | Sequence[int], dim: int | Sequence[int] | None = None) -> Tensor:
    """Elements moved around the end of each dimension; without `dim`, of the flattened tensor."""
    by = shifts if isinstance(shifts, int) else tuple(shifts)
    along = () if dim is None else dim if isinstance(dim, int) else tuple(dim)
    return rearranged(input_tensor.data.roll(by, along), input_tensor)


@operation("ttnn.view")
def view(input_tensor: Tensor, shape: Sequence[int]) -> Tensor:
    """The same elements in another shape."""
    return reshape(input_tensor, shape)


@operation("ttnn.experimental.view", only=dict.fromkeys("NCHW"))
def experimental_view(input_tensor: Tensor, shape: Sequence[int]) -> Tensor:
    """The same elements in another shape."""
    return reshape(input_tensor, shape)


@operation("ttnn.reshape_on_device", accepts="memory_config")
def reshape_on_device(input_tensor: Tensor, W: int, Z: int, Y: int, X: int) -> Tensor:
    """The same elements as four sizes, one of which may be −1."""
    return reshape(input_tensor, [W, Z, Y, X])


def _triangle(name: str, cut: Callable[..., torch.Tensor]) -> None:
    op = f"ttnn.{name}"

    @operation(op, accepts="memory_config")
    def triangle(input_tensor: Tensor, *, diagonal: int = 0) -> Tensor:
        if len(input_tensor.shape) < 2:
            raise EmulatorError(f"{op}: {input_tensor.shape} is no matrix")
        return rearranged(cut(input_tensor.data, diagonal), input_tensor)

    triangle.__name__ = triangle.__qualname__ = name
    triangle.__doc__ = "Zeros above the diagonal." if name == "tril" else "Zeros below the diagonal."


_triangle("tril", torch.tril)
_triangle("triu", torch.triu)


def _places(op: str, index: Tensor, size: int) -> torch.Tensor:
    if index.dtype.is_float:
        raise EmulatorError(f"{op}: index is {index.dtype}; it must hold integers")
    places = index.values.long()
    if places.numel() and not 0 <= int(places.min()) <= int(places.max()) < size:
        raise EmulatorError(f"{op}: index runs from {places.min()} to {places.max()}, the dimension has {size}")
    return places


@operation("ttnn.gather", accepts="memory_config out sub_core_grids", only={"sparse_grad": False})
def gather(input: Tensor, dim: int, index: Tensor) -> Tensor:
    """The elements along `dim` at the places that `index` names, in the shape of `index`."""
    dim = _dim("ttnn.gather", input, dim)
    places = _places("ttnn.gather", index, input.shape[dim])
    if len(index.shape) != len(input.shape):
        raise EmulatorError(f"ttnn.gather: input {input.shape} and index {index.shape} differ in rank")
    return rearranged(input.data.gather(dim, places), input)


@operation("ttnn.scatter_add", accepts="memory_config sub_core_grids")
def scatter_add(input: Tensor, dim: int, index: Tensor, src: Tensor) -> Tensor:
    """`input` with the elements of `src` along `dim` added at the places that `index` names."""
    op = "ttnn.scatter_add"
    if index.shape != src.shape or input.dtype is not src.dtype:
        raise EmulatorError(f"{op}: index {index} must be shaped as src {src}, of the input's type {input.dtype}")
    places = _places(op, index, input.shape[dim])
    total = input.values.float().scatter_add(dim, places, src.values.float())
    return result(device_of(input).engine.repack(total, input.dtype.format), input)


@operation("ttnn.tosa_gather", accepts="memory_config")
def tosa_gather(input: Tensor, index: Tensor) -> Tensor:
    """Rows of [N, K, C] at the places [N, W], as [N, W, C]."""
    places = _places("ttnn.tosa_gather", index, input.shape[1])
    return rearranged(input.data.gather(1, places[..., None].expand(-1, -1, input.shape[2])), input)


@operation("ttnn.index_fill", accepts="memory_config")
def index_fill(input: Tensor, dim: int, index: Tensor, value: float) -> Tensor:
    """`value` written at the places along `dim` that `index` names."""
    places = _places("ttnn.index_fill", index, input.shape[dim])
    return rearranged(input.data.index_fill(dim, places.reshape(-1), value), input)


@operation("ttnn.sort", accepts="memory_config", only={"out": None})
def sort(input_tensor: Tensor, dim: int = -1, descending: bool = False, stable: bool = False) -> list[Tensor]:
    """The elements along `dim` in order, and their places as uint16; equal elements keep their order."""
    require_tile("ttnn.sort", input_tensor=input_tensor)
    dim = _dim("ttnn.sort", input_tensor, dim)
    values, places = input_tensor.values.sort(dim=dim, descending=descending, stable=True)
    return [result(values, input_tensor), result(places.to(torch.int32), input_tensor, DataType.UINT16)]


@operation("ttnn.plus_one")
def plus_one(
    input_tensor: Tensor, sub_core_grids: CoreRangeSet | None = None, skip_negative_entries: bool = False
) -> Tensor:
    """One added in place to every integer, or to those that are not negative."""
    if input_tensor.dtype.is_float:
        raise EmulatorError(f"ttnn.plus_one: input_tensor is {input_tensor.dtype}; it must hold integers")
    values = input_tensor.values
    counted = values + 1 if not skip_negative_entries else torch.where(values < 0, values, values + 1)
    input_tensor.replace(counted.to(values.dtype))
    return input_tensor


@operation("ttnn.experimental.rotate_half", accepts="memory_config")
def rotate_half(input: Tensor) -> Tensor:
    """[−x₂, x₁] with the halves x₁, x₂ of the last dimension."""
    if input.shape[-1] % 2:
        raise EmulatorError(f"ttnn.experimental.rotate_half: {input.shape} does not halve along its last dimension")
    first, second = input.data.chunk(2, -1)
    return rearranged(torch.cat([-second, first], -1), input)


@operation("ttnn.experimental.nlp_kv_cache_load_slice", accepts="memory_config output_tensor")
def nlp_kv_cache_load_slice(input_tensor: Tensor, *, seq_len_start: int, seq_len_end: int) -> Tensor:
    """Positions seq_len_start up to but without seq_len_end of a cache [B, K, T, E]."""
    if not 0 <= seq_len_start < seq_len_end <= input_tensor.shape[-2]:
        raise EmulatorError(
            f"ttnn.experimental.nlp_kv_cache_load_slice: {seq_len_start}:{seq_len_end} of {input_tensor.shape}"
        )
    return rearranged(input_tensor.data[..., seq_len_start:seq_len_end, :], input_tensor)


OPS["ttnn.index_fill_new"] = index_fill
