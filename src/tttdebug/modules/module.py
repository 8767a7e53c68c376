# SPDX-License-Identifier: Apache-2.0
"""What every module of a port shares: its spec, its device with that device's ttnn, and its weights placed once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import copy
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from tttdebug.backends import describe_device, namespace_of, open_device
from tttdebug.errors import SpecError, WeightsError
from tttdebug.modules.hardware import ComputeKernel, HardwareConfig
from tttdebug.modules.matmul_programs import Product, choose_matmul
from tttdebug.modules.placement import WeightFormat
from tttdebug.modules.weight_shapes import Shapes, seeded_weights, weight_shapes
from tttdebug.specs import ModuleSpec, as_spec
from tttdebug.specs.cost import DTYPE_BYTES

if TYPE_CHECKING:
    import torch

Spec = TypeVar("Spec", bound=ModuleSpec)
_MEMORY_CONFIGS = {
    "L1, width sharded": "L1_WIDTH_SHARDED_MEMORY_CONFIG",
    "L1, block sharded": "L1_BLOCK_SHARDED_MEMORY_CONFIG",
}


class TTModule(Generic[Spec]):
    """A module that computes what `spec` says by calls of the ttnn that belongs to `device`.

    `spec` is a spec, or any object that satisfies its protocol. `weights` are in the reference's layout under the names
    that the subclass documents; without them they are drawn at random from `seed`. `device` is an open device or the
    name of one to open ("emulated", "ttnn:0"). Calling the module calls `forward`.

    Raises SpecError for a spec that the class does not compute, WeightsError for a weight that is missing or misshapen.
    """

    SPEC: ClassVar[type[ModuleSpec]]
    KERNELS: ClassVar[tuple[str, ...]] = ()
    """The kernel settings of a hardware config by which the class itself computes."""

    def __init__(
        self,
        spec: Spec,
        weights: Mapping[str, torch.Tensor] | None = None,
        device: Any = "emulated",
        hw_config: HardwareConfig | None = None,
        *,
        seed: int = 0,
    ) -> None:
        self.spec: Spec = as_spec(spec, self.SPEC)  # type: ignore[assignment]
        if absent := [feature for feature, asked in self.not_computed(self.spec).items() if asked]:
            raise SpecError(f"{type(self).__name__} does not compute {', '.join(absent)}; the spec asks for it")
        self.device = open_device(device) if isinstance(device, str) else device
        self.ttnn = namespace_of(self.device)
        self.grid = describe_device(self.device).grid
        self.hw_config = hw_config or HardwareConfig.for_device(self.device)
        self.weights = seeded_weights(self.spec, seed) if weights is None else weights
        self.weight_formats: dict[str, WeightFormat] = {}
        self._placed: list[tuple[tuple[str, ...], Any]] = []
        self._places: dict[str, tuple[str, ...]] | None = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.forward(*args, **kwargs)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} is called through prefill_forward or decode_forward")

    @staticmethod
    def not_computed(spec: Any) -> dict[str, bool]:
        """The features that this class leaves to others, each with whether the spec asks for it."""
        return {}

    def with_kernels(self, **kernels: ComputeKernel) -> TTModule[Spec]:
        """The same module with other kernel settings, by their names in a hardware config; weights and cache are
        shared."""
        other = copy(self)
        other.hw_config = self.hw_config.replace(**kernels)
        other.take_kernels()
        return other

    def with_placed(self, values: Mapping[str, torch.Tensor]) -> TTModule[Spec]:
        """The same module with these values on the device, in its own layout, in the `places` of the same names."""
        other = copy(self)
        for place, held in values.items():
            attribute, _, number = place.partition(".")
            now, tensor = getattr(self, attribute), held_at(self, place)
            new = self.ttnn.from_torch(held, dtype=tensor.dtype, layout=tensor.layout, device=self.device)
            setattr(other, attribute, [*now[: int(number)], new, *now[int(number) + 1 :]] if number else new)
        return other

    def take_kernels(self) -> None:
        """Make ready the kernel settings that are not read at each call."""

    def shapes(self) -> Shapes:
        """The weights that this module needs, under its own names for them, with their shapes."""
        return weight_shapes(self.spec)

    def place(self, name: str, weight_format: WeightFormat) -> Any:
        """The weight `name` on the device, in its format. Raises WeightsError when it is missing or misshapen."""
        return self.place_fused({name: weight_format})

    def place_fused(self, formats: Mapping[str, WeightFormat]) -> Any:
        """Several weights side by side as one device tensor, joined along the output dimension, of one dtype."""
        import torch

        parts = [weight_format.layout.to_port(self.weight(name)) for name, weight_format in formats.items()]
        self.weight_formats.update(formats)
        dtype = getattr(self.ttnn, next(iter(formats.values())).dtype)
        placed = parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)
        on_device = self.ttnn.from_torch(placed, dtype=dtype, layout=self.ttnn.TILE_LAYOUT, device=self.device)
        self._placed.append((tuple(formats), on_device))
        return on_device

    def places(self) -> dict[str, tuple[str, ...]]:
        """Which attribute got which weights when they were placed: `w1`, or `wqkv.0` in a list.

        Found when it is first asked for, and kept, so that a tensor that is exchanged later is seen to be another.
        """
        if self._places is None:
            names = {id(tensor): weights for weights, tensor in self._placed}
            held = (
                (f"{attribute}.{i}" if isinstance(value, list) else attribute, item)
                for attribute, value in vars(self).items()
                if attribute != "_placed"
                for i, item in enumerate(value if isinstance(value, list) else [value])
            )
            self._places = {path: names[id(item)] for path, item in held if id(item) in names}
            self._placed.clear()
        return self._places

    def linear(self, x_11SK: Any, weight_KN: Any, kernel: str, bias: Any = None, *, in_l1: bool = False) -> Any:
        """x @ weight + bias with the kernel of that name, in the program that the hardware config chooses by size.

        With `in_l1` the output's blocks lie in the cores' L1 where they fit; it is given back interleaved.
        """
        ttnn, settings = self.ttnn, getattr(self.hw_config, kernel)
        names = {getattr(ttnn, name): name for name in DTYPE_BYTES}
        product = Product(
            rows=x_11SK.shape[-2],
            inner=weight_KN.shape[-2],
            columns=weight_KN.shape[-1],
            weight=names[weight_KN.dtype],
            activation=names[x_11SK.dtype],
            has_bias=bias is not None,
        )
        choice = choose_matmul(product, settings, self.grid, self.hw_config.matmul_programs, in_l1)
        arguments = {"bias": bias, "compute_kernel_config": settings.to_ttnn(ttnn)}
        if choice.program is not None:
            arguments["program_config"] = choice.program.to_ttnn(ttnn)
        if choice.memory == "DRAM, interleaved":
            return ttnn.linear(x_11SK, weight_KN, **arguments)
        arguments["memory_config"] = getattr(ttnn, _MEMORY_CONFIGS[choice.memory])
        blocks = ttnn.linear(x_11SK, weight_KN, **arguments)
        interleaved = ttnn.sharded_to_interleaved(blocks, ttnn.DRAM_MEMORY_CONFIG)
        ttnn.deallocate(blocks)
        return interleaved

    def weight(self, name: str) -> torch.Tensor:
        """The weight `name` as given, in fp32. Raises WeightsError when it is missing or misshapen."""
        if name not in self.weights:
            raise WeightsError(
                f"{type(self).__name__} needs the weight {name!r}; it was given "
                f"{', '.join(sorted(self.weights)) or 'none'}"
            )
        weight, shape = self.weights[name].detach().float(), self.shapes()[name]
        if tuple(weight.shape) != shape:
            raise WeightsError(
                f"{type(self).__name__} needs the weight {name!r} as {list(shape)}, it is {list(weight.shape)}"
            )
        return weight

    def weights_of(self, part: str) -> Mapping[str, torch.Tensor]:
        """The weights of one part, under the names that the part itself gives them."""
        return under(self.weights, part)

    def declared_formats(self, path: str = "") -> Iterator[tuple[str, WeightFormat]]:
        """Every weight's name and how it is kept, those of the modules inside included."""
        for inside, module in self.modules_inside(path):
            for name, weight_format in module.weight_formats.items():
                yield f"{inside}{name}", weight_format

    def modules_inside(self, path: str = "") -> Iterator[tuple[str, TTModule[Any]]]:
        """This module and all inside, each with the path to it, which is empty or ends in a dot."""
        yield path, self
        for attribute, value in vars(self).items():
            if isinstance(value, TTModule):
                yield from value.modules_inside(f"{path}{attribute}.")
            elif isinstance(value, list):
                for i, item in enumerate(value):
                    if isinstance(item, TTModule):
                        yield from item.modules_inside(f"{path}{attribute}.{i}.")


def held_at(module: Any, place: str) -> Any:
    """What a module holds now at one of its `places`: `w1`, or `wqkv.0` in a list."""
    name, _, number = place.partition(".")
    held = getattr(module, name)
    return held[int(number)] if number else held


def under(weights: Mapping[str, torch.Tensor], path: str) -> Mapping[str, torch.Tensor]:
    """The weights whose names start with `path.`, named from there on; nothing is read before it is asked for."""
    return _Part(weights, f"{path}.")


class _Part(Mapping[str, "torch.Tensor"]):
    """The part of a mapping whose names start with a prefix."""

    def __init__(self, whole: Mapping[str, torch.Tensor], prefix: str) -> None:
        self._whole, self._prefix = whole, prefix

    def __getitem__(self, name: str) -> torch.Tensor:
        return self._whole[self._prefix + name]

    def __contains__(self, name: object) -> bool:
        return f"{self._prefix}{name}" in self._whole

    def __iter__(self) -> Iterator[str]:
        return (name[len(self._prefix) :] for name in self._whole if name.startswith(self._prefix))

    def __len__(self) -> int:
        return sum(1 for _ in self)
