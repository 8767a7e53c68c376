# SPDX-License-Identifier: Apache-2.0
"""How an op computes: math fidelity, accumulation and approximation, and what each op takes by default.

A config object given by the user replaces *all* defaults of the op, as on the chip.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from tttdebug.emulator.errors import EmulatorError


class Arch(Enum):
    """The chip generations; they differ in defaults and in the last bit of some results."""

    WORMHOLE_B0 = "wormhole_b0"
    BLACKHOLE = "blackhole"


class MathFidelity(Enum):
    """How many passes the matrix unit makes over the bits of its operands; the value is their number."""

    LoFi = 1
    HiFi2 = 2
    HiFi3 = 3
    HiFi4 = 4
    Invalid = 255

    def __repr__(self) -> str:
        return f"MathFidelity.{self.name}"

    __str__ = __repr__


class ThrottleLevel(Enum):
    """Power throttling of the matrix unit; no effect on values."""

    NO_THROTTLE = 0
    LEVEL_1 = 1
    LEVEL_2 = 2
    LEVEL_3 = 3
    LEVEL_4 = 4
    LEVEL_5 = 5


@dataclass(kw_only=True)
class WormholeComputeKernelConfig:
    """ttnn's compute kernel config, with ttnn's defaults; one without a math fidelity is refused when an op gets it."""

    math_fidelity: MathFidelity = MathFidelity.Invalid
    math_approx_mode: bool = True
    fp32_dest_acc_en: bool = False
    packer_l1_acc: bool = False
    dst_full_sync_en: bool = False
    throttle_level: ThrottleLevel = ThrottleLevel.NO_THROTTLE


def init_device_compute_kernel_config(
    arch: Arch,
    device_kernel_config: WormholeComputeKernelConfig | None = None,
    *,
    math_fidelity: MathFidelity = MathFidelity.LoFi,
    math_approx_mode: bool = True,
    fp32_dest_acc_en: bool = False,
    packer_l1_acc: bool = False,
    dst_full_sync_en: bool = False,
    throttle_level: ThrottleLevel = ThrottleLevel.NO_THROTTLE,
) -> WormholeComputeKernelConfig:
    """A config as given, or built from the keywords with ttnn's defaults of this function (LoFi, approximate)."""
    if not isinstance(arch, Arch):
        raise EmulatorError(f"init_device_compute_kernel_config: arch={arch!r} is not a ttnn Arch, e.g. device.arch()")
    if device_kernel_config is not None:
        return device_kernel_config
    return WormholeComputeKernelConfig(
        math_fidelity=math_fidelity,
        math_approx_mode=math_approx_mode,
        fp32_dest_acc_en=fp32_dest_acc_en,
        packer_l1_acc=packer_l1_acc,
        dst_full_sync_en=dst_full_sync_en,
        throttle_level=throttle_level,
    )


@dataclass(frozen=True)
class Kernel:
    """A resolved compute kernel config: what the engine is to do, and whether the user or the op decided it."""

    fidelity: MathFidelity
    approx: bool = False
    fp32_dest: bool = False
    l1_acc: bool = False
    explicit: bool = field(default=False, compare=False)

    @property
    def phases(self) -> int:
        return self.fidelity.value


def resolve_kernel(op: str, config: object, default: Kernel) -> Kernel:
    """`config` as a `Kernel`, or the op's default when it is None. Raises EmulatorError on an invalid fidelity."""
    if config is None:
        return default
    if not isinstance(config, WormholeComputeKernelConfig):
        raise EmulatorError(f"{op}: compute_kernel_config={config!r} is not a WormholeComputeKernelConfig")
    if not isinstance(config.math_fidelity, MathFidelity) or config.math_fidelity is MathFidelity.Invalid:
        raise EmulatorError(
            f"{op}: compute_kernel_config has math_fidelity={config.math_fidelity!r}; a config object replaces all of "
            "the op's defaults, so set math_fidelity to LoFi, HiFi2, HiFi3 or HiFi4"
        )
    return Kernel(
        config.math_fidelity, config.math_approx_mode, config.fp32_dest_acc_en, config.packer_l1_acc, explicit=True
    )


def full_fidelity(arch: Arch) -> MathFidelity:
    """HiFi4, but HiFi3 on Wormhole wherever Dest is fp32: the host avoids a fault of that chip's adder so."""
    return MathFidelity.HiFi3 if arch is Arch.WORMHOLE_B0 else MathFidelity.HiFi4


# What each op takes when no config is given. Matrix products and softmax depend on their operands and
# are resolved where they are computed.
RMS_NORM = Kernel(MathFidelity.HiFi4, approx=True)
LAYER_NORM = Kernel(MathFidelity.HiFi4, fp32_dest=True)
SCALED_DOT_PRODUCT_ATTENTION = Kernel(MathFidelity.HiFi2, approx=True)
ROTARY_EMBEDDING = Kernel(MathFidelity.HiFi4, approx=True)
UPDATE_CACHE = Kernel(MathFidelity.LoFi, approx=True)
ELTWISE = Kernel(MathFidelity.HiFi4)
ELTWISE_FP32 = Kernel(MathFidelity.HiFi4, fp32_dest=True)


def reduction_default(arch: Arch) -> Kernel:
    return Kernel(full_fidelity(arch), fp32_dest=True)


def softmax_default(arch: Arch, *, fp32_input: bool) -> Kernel:
    return Kernel(full_fidelity(arch), approx=not fp32_input, fp32_dest=True)
