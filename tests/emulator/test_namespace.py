# SPDX-License-Identifier: Apache-2.0
"""The namespace is ttnn's: the same names and arguments, and an error that helps for everything else."""

import pytest
import torch

from tttdebug.emulator import EmulatorError, UnknownNameError, open_device, ttnn
from tttdebug.emulator.real_names import real_modules, real_names


def named(path):
    owner = ttnn
    for part in path.split("."):
        owner = getattr(owner, part)
    return owner


@pytest.fixture
def x(device):
    return ttnn.from_torch(torch.randn(32, 64), dtype=ttnn.bfloat16, layout=ttnn.TILE_LAYOUT, device=device)


def test_nothing_is_offered_that_the_real_package_lacks():
    offered = {name for name in vars(ttnn) if not name.startswith("_")} - {"annotations"}
    assert offered <= real_names().keys() | real_modules()
    for module in real_modules():
        own = {name for name in vars(named(module)) if not name.startswith("_")}
        assert {f"{module}.{name}" for name in own} <= real_names().keys()


@pytest.mark.parametrize(
    ("name", "hint"), [("linaer", "linear"), ("transformer.scaled_dot_product", "scaled_dot_product")]
)
def test_an_unknown_name_says_so_and_suggests_the_nearest(name, hint):
    with pytest.raises(UnknownNameError, match=rf"{name.split('.')[-1]} is not emulated.*{hint}") as caught:
        named(name)
    assert isinstance(caught.value, AttributeError)
    assert not hasattr(ttnn, "linaer")


@pytest.mark.parametrize(
    ("name", "use"),
    [
        ("moreh_linear", lambda f: f(1, 2)),
        ("conv2d", lambda f: f(input_tensor=1)),
        ("transformer.ring_mla", lambda f: f()),
        ("experimental.moe_compute", lambda f: f()),
        ("Conv2dConfig", lambda c: c()),
        ("Conv2dSliceConfig", lambda c: c.SliceType),
        ("CONFIG", lambda c: c.enable_logging),
    ],
)
def test_a_name_that_only_the_real_package_has_raises_when_it_is_used(name, use):
    value = named(name)
    assert named(name) is value
    with pytest.raises(EmulatorError, match=rf"ttnn\.{name} is not emulated"):
        use(value)


def test_what_is_missing_names_the_nearest_that_is_there():
    with pytest.raises(EmulatorError, match=r"nearest that are: .*linear"):
        ttnn.moreh_linear()


def test_a_class_that_is_missing_can_stand_in_annotations():
    assert isinstance(ttnn.Conv2dConfig, type)
    assert ttnn.Conv2dConfig | None


def test_an_unknown_argument_is_named_with_those_that_exist(x):
    with pytest.raises(EmulatorError, match=r"ttnn\.silu: there is no argument 'mode'; it takes input_tensor"):
        ttnn.silu(x, mode="fast")


def test_a_value_that_is_not_emulated_is_refused(x):
    with pytest.raises(EmulatorError, match=r"ttnn\.concat: groups=2 is not emulated, only 1"):
        ttnn.concat([x, x], 0, groups=2)
    with pytest.raises(EmulatorError, match="dim=0 is not emulated, only the last"):
        ttnn.softmax(x, 0)


def test_placement_is_taken_and_kept(x):
    y = ttnn.add(x, x, memory_config=ttnn.L1_MEMORY_CONFIG, sub_core_grids=None)
    assert y.memory_config() == ttnn.L1_MEMORY_CONFIG
    assert ttnn.relu(y).memory_config() == ttnn.L1_MEMORY_CONFIG
    with pytest.raises(EmulatorError, match="memory_config='L1' is not a MemoryConfig"):
        ttnn.relu(y, memory_config="L1")


def test_a_given_output_tensor_is_written_and_returned(x):
    target = ttnn.zeros((32, 64), ttnn.bfloat16, ttnn.TILE_LAYOUT, x.device())
    assert ttnn.add(x, x, output_tensor=target) is target
    assert torch.equal(ttnn.to_torch(target), ttnn.to_torch(ttnn.add(x, x)))
    narrow = ttnn.zeros((32, 32), ttnn.bfloat16, ttnn.TILE_LAYOUT, x.device())
    with pytest.raises(EmulatorError, match="cannot take"):
        ttnn.add(x, x, output_tensor=narrow)


def test_a_missing_or_misplaced_argument_is_an_error_of_the_op(x):
    with pytest.raises(EmulatorError, match=r"ttnn\.linear: missing a required argument: 'input_tensor_b'"):
        ttnn.linear(x)
    with pytest.raises(EmulatorError, match=r"ttnn\.add: input_tensor_a|ttnn\.add: operands"):
        ttnn.add(1.0, 2.0)
    with pytest.raises(EmulatorError, match=r"ttnn\.rms_norm: input_tensor is a Tensor|is a Tensor; give a ttnn"):
        ttnn.rms_norm(torch.zeros(32, 32))
    with pytest.raises(EmulatorError, match="is not a ttnn data type"):
        ttnn.typecast(x, "bfloat8_b")


@pytest.mark.parametrize(
    "use",
    [
        lambda x: ttnn.silu(x),
        lambda x: ttnn.to_torch(x),
        lambda x: x + 1.0,
        lambda x: x[:1],
        lambda x: ttnn.concat([x, x], 0),
        lambda x: ttnn.linear(x, x, transpose_b=True),
        lambda x: x.cpu(),
    ],
)
def test_a_tensor_is_of_no_use_after_deallocate(x, use):
    ttnn.deallocate(x)
    assert not x.is_allocated()
    assert x.shape == [32, 64]
    with pytest.raises(EmulatorError, match="after deallocate"):
        use(x)


def test_an_op_wants_its_tensors_on_one_open_device(x):
    with pytest.raises(EmulatorError, match="is on the host; move it with to_device"):
        ttnn.silu(x.cpu())
    elsewhere = ttnn.to_device(x.cpu(), open_device("fast"))
    with pytest.raises(EmulatorError, match="different devices"):
        ttnn.add(x, elsewhere)
    ttnn.close_device(x.device())
    with pytest.raises(EmulatorError, match="was closed"):
        ttnn.silu(x)
    with pytest.raises(EmulatorError, match="was closed"):
        ttnn.to_torch(x)


def test_a_config_without_a_fidelity_is_refused(x):
    with pytest.raises(EmulatorError, match=r"ttnn\.matmul: compute_kernel_config has math_fidelity=.*Invalid"):
        ttnn.matmul(x, x, transpose_b=True, compute_kernel_config=ttnn.WormholeComputeKernelConfig())


def test_operators_are_the_ops(x):
    a = ttnn.to_torch(x)
    for computed, op in ((x + x, ttnn.add(x, x)), (x * 2.0, ttnn.multiply(x, 2.0)), (x - x, ttnn.subtract(x, x))):
        assert torch.equal(ttnn.to_torch(computed), ttnn.to_torch(op))
    assert torch.equal(ttnn.to_torch(1.0 - x), ttnn.to_torch(ttnn.rsub(x, 1.0)))
    assert torch.equal(ttnn.to_torch(2.0 + x), ttnn.to_torch(ttnn.add(2.0, x)))
    assert torch.equal(ttnn.to_torch(x[3:5, ..., :7]), a[3:5, :7])
    assert x[0].shape == [64]


def test_a_shape_is_indexed_iterated_and_compared_as_in_ttnn(x):
    assert x.shape == (32, 64)
    assert x.shape == [32, 64]
    assert x.shape != [64, 32]
    assert (len(x.shape), x.shape[-1], list(x.shape), x.shape.rank) == (2, 64, [32, 64], 2)
    assert x.shape.to_rank(4) == [1, 1, 32, 64]
    assert ttnn.Shape([1, 1, 5, 6]).to_rank(2) == [5, 6]
    with pytest.raises(TypeError, match="integer index"):
        x.shape[:1]


def test_padded_shapes_end_in_whole_tiles(device):
    x = torch.zeros(2, 5, 40)
    tiles = ttnn.from_torch(x, dtype=ttnn.bfloat16, layout=ttnn.TILE_LAYOUT, device=device)
    rows = ttnn.from_torch(x, dtype=ttnn.bfloat16, device=device)
    assert tiles.padded_shape == [2, 32, 64]
    assert rows.padded_shape == [2, 5, 40]
    assert (tiles.volume(), tiles.logical_volume()) == (2 * 32 * 64, 400)


def test_observers_see_each_op_with_its_engine_and_plan(x):
    seen = []
    x.device().observers.append(seen.append)
    weight = ttnn.from_torch(torch.randn(64, 96), dtype=ttnn.bfloat8_b, device=x.device())
    y = ttnn.linear(x, weight)
    ttnn.silu(y)
    assert [record.name for record in seen] == ["ttnn.from_torch", "ttnn.linear", "ttnn.silu"]
    linear = seen[1]
    assert linear.engine == "fast"
    assert linear.plan.kernel.fidelity is ttnn.MathFidelity.HiFi2
    assert linear.plan.blocking.in0_block_w == 2
    assert linear.inputs == (x, weight)
    assert linear.output is y
    x.device().observers.clear()
    ttnn.silu(y)
    assert len(seen) == 3


def test_what_is_about_to_run_is_foretold_with_its_arguments(x):
    told, values = [], x.data.clone()
    x.device().foretold.append(lambda call: told.append((call, x.data.clone())))
    ttnn.add_(x, 1.0)
    x.device().foretold.clear()
    ttnn.add_(x, 1.0)
    ((call, before),) = told
    assert (call.name, call.args, dict(call.kwargs)) == ("ttnn.add_", (x, 1.0), {})
    assert torch.equal(before, values)
    assert not torch.equal(x.data, values)


def test_a_device_opened_twice_is_one_device_until_it_is_closed():
    with ttnn.manage_device(device_id=3) as device:
        assert device.id() == 3
        assert ttnn.open_device(device_id=3) is device
        assert ttnn.open_device(device_id=4) is not device
    assert not device.is_open
    assert ttnn.open_device(device_id=3) is not device


def test_a_device_is_what_was_asked_for():
    device = open_device("ideal", architecture="blackhole", grid=(11, 10))
    assert device.arch() is ttnn.Arch.BLACKHOLE
    assert (device.core_grid.x, device.compute_with_storage_grid_size().y, device.engine.name) == (11, 10, "ideal")
    for wrong in ({"engine": "slow"}, {"architecture": "grayskull"}, {"grid": (0, 8)}):
        with pytest.raises(EmulatorError, match=next(iter(wrong))):
            open_device(**wrong)
