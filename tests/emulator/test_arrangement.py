# SPDX-License-Identifier: Apache-2.0
"""Parts, layouts, copies, fillings and statistics beside torch."""

import re
from pathlib import Path

import pytest
import torch
from device_tensors import near, randn, upload

from tttdebug.emulator import EmulatorError, ttnn
from tttdebug.emulator.operation import OPS


def back(tensor):
    return ttnn.to_torch(tensor).float()


def integers(device, x):
    return upload(device, x, ttnn.uint32)


def test_parts_and_wholes(any_device):
    x = randn(2, 3, 40, 64)
    a = upload(any_device, x)
    places = torch.randint(0, 40, (2, 3, 5, 64))
    for computed, exact in (
        (ttnn.split(a, 16, 2)[2], x[:, :, 32:]),
        (ttnn.split(a, [8, 32], dim=2)[1], x[:, :, 8:]),
        (ttnn.chunk(a, 3, 1)[1], x[:, 1:2]),
        (ttnn.stack([a, a], 1), torch.stack([x, x], 1)),
        (ttnn.expand(a[:, :1], [2, 3, 40, 64]), x[:, :1].expand(2, 3, 40, 64)),
        (ttnn.expand(a[:1], [5, -1, -1, -1]), x[:1].expand(5, -1, -1, -1)),
        (ttnn.experimental.broadcast_to(a[:1], [4, 3, 40, 64]), x[:1].expand(4, -1, -1, -1)),
        (ttnn.repeat_interleave(a, 2, 1), x.repeat_interleave(2, 1)),
        (ttnn.narrow(a, 2, 8, 16), x[:, :, 8:24]),
        (ttnn.roll(a, 3, -1), x.roll(3, -1)),
        (ttnn.roll(a, [1, 2], [0, 2]), x.roll([1, 2], [0, 2])),
        (ttnn.roll(a, 5), x.roll(5)),
        (ttnn.view(a, [6, 40, 64]), x.view(6, 40, 64)),
        (ttnn.experimental.view(a, [6, 40, 64]), x.view(6, 40, 64)),
        (ttnn.reshape_on_device(a, 1, 6, 40, -1), x.view(1, 6, 40, 64)),
        (a.reshape(1, 6, 40, 64), x.view(1, 6, 40, 64)),
        (ttnn.tril(a), x.tril()),
        (ttnn.triu(a, diagonal=2), x.triu(2)),
        (ttnn.gather(a, 2, integers(any_device, places)), x.gather(2, places)),
        (
            ttnn.index_fill(a, 2, integers(any_device, torch.tensor([3, 5])), 9.0),
            x.index_fill(2, torch.tensor([3, 5]), 9.0),
        ),
        (
            ttnn.tosa_gather(a[0], integers(any_device, places[0, :, :, 0])),
            x[0].gather(1, places[0, :, :, :1].expand(-1, -1, 64)),
        ),
        (ttnn.experimental.rotate_half(a), torch.cat([-x[..., 32:], x[..., :32]], -1)),
        (ttnn.experimental.nlp_kv_cache_load_slice(a, seq_len_start=8, seq_len_end=32), x[:, :, 8:32]),
        (a[0, ..., 1:3, ::2], x[0, ..., 1:3, ::2]),
        (ttnn.slice(a, starts=[0, 0, 4, 0], ends=[2, 3, 40, 64], steps=[1, 1, 4, 1]), x[:, :, 4::4]),
    ):
        assert torch.equal(back(computed), exact)
    assert [part.shape[2] for part in ttnn.split(a, 16, 2)] == [16, 16, 8]


def test_sorting_and_scattering(any_device):
    x = randn(4, 64)
    a = upload(any_device, x)
    values, places = ttnn.sort(a, descending=True)
    assert torch.equal(back(values), x.sort(descending=True).values)
    assert torch.equal(back(ttnn.gather(a, 1, places)), back(values))
    assert places.dtype is ttnn.uint16
    source, index = randn(4, 8), torch.randint(0, 64, (4, 8))
    added = ttnn.scatter_add(a, 1, integers(any_device, index), upload(any_device, source))
    near(any_device, added, x.scatter_add(1, index, source))
    counts = upload(any_device, torch.tensor([[0, -1, 5]]), ttnn.int32)
    assert ttnn.plus_one(counts, skip_negative_entries=True) is counts
    assert ttnn.to_torch(counts).tolist() == [[1, -1, 6]]
    assert ttnn.to_torch(ttnn.plus_one(counts)).tolist() == [[2, 0, 7]]


def test_layouts_keep_values(any_device):
    x = randn(1, 2, 64, 32)
    rows = upload(any_device, x, layout=ttnn.ROW_MAJOR_LAYOUT)
    tiles = ttnn.tilize(rows)
    assert (tiles.layout, rows.layout) == (ttnn.TILE_LAYOUT, ttnn.ROW_MAJOR_LAYOUT)
    odd = upload(any_device, x[..., :50, :20], layout=ttnn.ROW_MAJOR_LAYOUT)
    padded = ttnn.tilize_with_val_padding(odd, [1, 2, 64, 32], 0.0)
    for computed, exact in (
        (tiles, x),
        (ttnn.untilize(tiles), x),
        (ttnn.tilize_with_zero_padding(odd), x[..., :50, :20]),
        (padded, x[..., :50, :20]),
        (ttnn.untilize_with_unpadding(tiles, [0, 1, 49, 19]), x[..., :50, :20]),
        (ttnn.fill_implicit_tile_padding(padded, 5.0), x[..., :50, :20]),
        (ttnn.assign(tiles), x),
        (ttnn.move(ttnn.clone(tiles)), x),
        (ttnn.experimental.typecast(tiles, ttnn.float32), x),
    ):
        assert torch.equal(back(computed), exact)
    assert padded.padded_shape == [1, 2, 64, 32]
    assert ttnn.untilize(upload(any_device, x, ttnn.bfloat8_b)).dtype is ttnn.bfloat16
    assert ttnn.tilize(rows, dtype=ttnn.bfloat8_b).dtype is ttnn.bfloat8_b
    target = ttnn.zeros_like(tiles)
    assert ttnn.copy(tiles, target) is target
    assert torch.equal(back(target), x)
    assert ttnn.assign(ttnn.ones_like(tiles), target) is target
    assert back(target).min() == 1


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda a, r: ttnn.tilize(a), r"ttnn\.tilize: input_tensor is in Layout\.TILE; this op takes ROW_MAJOR"),
        (lambda a, r: ttnn.tilize(r), r"does not end in whole tiles of 32"),
        (lambda a, r: ttnn.tilize_with_val_padding(r, [40, 64], 0.0), r"output_tensor_shape=\[40, 64\] must hold"),
        (lambda a, r: ttnn.untilize(r), r"ttnn\.untilize: input_tensor is in Layout\.ROW_MAJOR"),
        (lambda a, r: ttnn.untilize_with_unpadding(a, [40, 63]), r"output_tensor_end=\[40, 63\] is no element"),
        (lambda a, r: ttnn.copy(a, ttnn.transpose(a, 0, 1)), r"ttnn\.copy: input_a .* does not fit input_b"),
        (lambda a, r: ttnn.split(a, 16, 2), r"ttnn\.split: dim=2 of a tensor with 2 dimensions"),
        (lambda a, r: ttnn.split(a, [8, 8], 1), r"split_size=\[8, 8\] does not add up to 64"),
        (lambda a, r: ttnn.split(a, 0, 1), r"split_size=0"),
        (lambda a, r: ttnn.chunk(a, 0, 1), r"chunks=0"),
        (lambda a, r: ttnn.stack([], 0), r"ttnn\.stack: no tensors"),
        (lambda a, r: ttnn.stack([a, a[:8]], 0), r"differ in shape, data type or device"),
        (lambda a, r: ttnn.expand(a, [3, 64]), r"cannot be expanded to \[3, 64\]"),
        (lambda a, r: ttnn.narrow(a, 0, 30, 20), r"30\+20 leaves dimension 0"),
        (lambda a, r: ttnn.gather(a, 0, a), r"index is DataType\.BFLOAT16; the chip's kernel takes UINT16"),
        (lambda a, r: ttnn.gather(a, 0, integers(a.device(), torch.full((1, 64), 40))), r"index runs from 40 to 40"),
        (lambda a, r: ttnn.tril(a[0]), r"is no matrix"),
        (lambda a, r: ttnn.plus_one(a), r"must hold integers"),
        (lambda a, r: ttnn.reshard(a, ttnn.DRAM_MEMORY_CONFIG), r"must be sharded"),
        (lambda a, r: ttnn.var(a[:1], 0), r"correction=True needs two elements or more"),
        (lambda a, r: ttnn.outer(a, a), r"both must be vectors"),
        (lambda a, r: ttnn.where(a, a, "b"), r"false_value='b'; give a tensor or a number"),
        (lambda a, r: ttnn.addcmul(a, a, a[:, :3]), r"shapes do not broadcast: input_a"),
        (lambda a, r: ttnn.clamp(a), r"ttnn\.clamp: give min or max"),
        (lambda a, r: ttnn.leaky_relu(a, "steep"), r"negative_slope='steep'; give a number"),
        (lambda a, r: ttnn.leaky_relu(a), r"missing a required argument: 'negative_slope'"),
        (lambda a, r: ttnn.elu(a, slope=1.0), r"there is no argument 'slope'; it takes input_tensor, alpha"),
        (lambda a, r: ttnn.rand([2, 2]), r"ttnn\.rand: missing a required argument: 'device'"),
        (lambda a, r: ttnn.empty([2, 2]), r"ttnn\.empty: give a device"),
        (lambda a, r: ttnn.bernoulli(a), r"not within 0 to 1"),
        (lambda a, r: ttnn.swiglu(a, 0), r"ttnn\.swiglu: dim=0 .*only the last"),
    ],
)
def test_what_does_not_fit_is_refused(device, call, says):
    a = upload(device, torch.arange(40.0 * 64).reshape(40, 64) - 100)
    with pytest.raises(EmulatorError, match=says):
        call(a, upload(device, torch.zeros(40, 64), layout=ttnn.ROW_MAJOR_LAYOUT))


def test_fillings(any_device):
    a = upload(any_device, randn(3, 40), ttnn.float32)
    for made, value in (
        (ttnn.zeros_like(a), 0),
        (ttnn.ones_like(a), 1),
        (ttnn.full_like(a, 2.5), 2.5),
        (ttnn.empty_like(a), 0),
        (ttnn.empty([3, 40], ttnn.float32, ttnn.TILE_LAYOUT, any_device), 0),
    ):
        assert (made.dtype, made.layout, made.device()) == (ttnn.float32, ttnn.TILE_LAYOUT, any_device)
        assert torch.equal(back(made), torch.full((3, 40), float(value)))
    assert ttnn.ones_like(a, ttnn.bfloat16, ttnn.ROW_MAJOR_LAYOUT).dtype is ttnn.bfloat16


def test_random_numbers_are_spread_as_asked_and_seeded(any_device):
    first = back(ttnn.rand([64, 64], any_device, low=-1.0, high=3.0, seed=7))
    assert torch.equal(first, back(ttnn.rand([64, 64], any_device, low=-1.0, high=3.0, seed=7)))
    assert not torch.equal(first, back(ttnn.rand([64, 64], any_device, low=-1.0, high=3.0, seed=8)))
    assert -1 <= first.min() < -0.9
    assert 2.9 < first.max() <= 3
    normal = back(ttnn.randn([128, 128], any_device, seed=1))
    assert abs(normal.mean()) < 0.05
    assert abs(normal.std() - 1) < 0.05
    ttnn.manual_seed(3)
    drawn = back(ttnn.rand([4, 4], any_device))
    ttnn.manual_seed(3)
    assert torch.equal(drawn, back(ttnn.rand([4, 4], any_device)))
    chances = upload(any_device, torch.full((64, 64), 0.25))
    drawn = back(ttnn.bernoulli(chances, seed=5))
    assert set(drawn.unique().tolist()) == {0.0, 1.0}
    assert abs(drawn.mean() - 0.25) < 0.05


def test_products_running_sums_and_variances(any_device):
    x = (randn(3, 5, 64) / 2 + 1).bfloat16().float()
    a = upload(any_device, x)
    for computed, exact in (
        (ttnn.prod(a, 1), x.prod(1)),
        (ttnn.prod(a, 0, True), x.prod(0, keepdim=True)),
        (ttnn.prod(a[:, :2, :4]), x[:, :2, :4].prod()),
        (ttnn.cumsum(a, 2), x.cumsum(2)),
        (ttnn.cumsum(a, dim=1, reverse_order=True), x.flip(1).cumsum(1).flip(1)),
        (ttnn.cumprod(a, 1), x.cumprod(1)),
        (ttnn.var(a, 2), x.var(2)),
        (ttnn.var(a, (1, 2), keepdim=True, correction=False), x.var((1, 2), correction=0, keepdim=True)),
        (ttnn.std(a), x.std()),
        (ttnn.std(a, -1, scalar=2.0), 2 * x.std(-1)),
        (ttnn.experimental.fast_reduce_nc(a, dims=[0]), x.sum(0, keepdim=True)),
    ):
        near(any_device, computed, exact)
    assert ttnn.cumsum(a, 2, dtype=ttnn.float32).dtype is ttnn.float32


def test_a_running_sum_in_bfloat16_is_added_in_fp32(device):
    ones = upload(device, torch.ones(1, 1024))
    assert back(ttnn.cumsum(ones, 1))[0, -1] == 1024  # a bfloat16 sum would stop at 256


def test_shards_are_kept_checked_and_changed(device):
    x = randn(1, 1, 64, 128)
    grid = ttnn.CoreGrid(y=1, x=2)
    by_width = ttnn.create_sharded_memory_config((1, 1, 64, 128), grid, ttnn.ShardStrategy.WIDTH)
    by_height = ttnn.create_sharded_memory_config((1, 1, 64, 128), grid, ttnn.ShardStrategy.HEIGHT)
    a = ttnn.to_memory_config(upload(device, x), by_width)
    assert a.memory_config() == by_width
    moved = ttnn.reshard(a, by_height)
    assert moved.memory_config() == by_height
    assert torch.equal(back(moved), x)
    assert ttnn.silu(a).memory_config() == by_width
    assert not ttnn.sharded_to_interleaved(moved).is_sharded()
    with pytest.raises(EmulatorError, match=r"ttnn\.reshard: memory_config is WIDTH_SHARDED without a shard_spec"):
        ttnn.reshard(a, ttnn.L1_WIDTH_SHARDED_MEMORY_CONFIG)
    big = upload(device, randn(1, 1, 128, 128))
    with pytest.raises(EmulatorError, match=r"ttnn\.add: 2 shards of 64×64 cannot hold 128×128"):
        ttnn.add(big, big, memory_config=by_width)


@pytest.mark.parametrize(
    ("layout", "shards", "cores"), [("WIDTH", (64, 32), 4), ("HEIGHT", (32, 128), 2), ("BLOCK", (32, 32), 8)]
)
def test_an_output_gets_the_shards_that_were_not_named(device, layout, shards, cores):
    config = getattr(ttnn, f"L1_{layout}_SHARDED_MEMORY_CONFIG")
    a = ttnn.silu(upload(device, randn(1, 1, 64, 128)), memory_config=config)
    spec = a.memory_config().shard_spec
    assert (a.memory_config().memory_layout, spec.shape, spec.num_cores()) == (config.memory_layout, shards, cores)
    assert ttnn.to_memory_config(ttnn.clone(a), a.memory_config()).memory_config() == a.memory_config()


def test_a_products_program_says_how_its_output_is_cut(device):
    x, w = upload(device, randn(1, 1, 32, 128)), upload(device, randn(128, 256))
    program = ttnn.MatmulMultiCoreReuseMultiCastDRAMShardedProgramConfig(in0_block_w=2, per_core_M=1, per_core_N=4)
    y = ttnn.linear(x, w, program_config=program, memory_config=ttnn.L1_WIDTH_SHARDED_MEMORY_CONFIG)
    assert (y.memory_config().shard_spec.shape, y.memory_config().shard_spec.num_cores()) == ((32, 128), 2)


def test_a_tile_of_rows_is_cut_to_the_users_that_there_are(any_device):
    x = randn(1, 1, 32, 64)
    a = upload(any_device, x)
    cut = ttnn.reshape(a, (1, 1, 8, 64), (1, 1, 32, 64))
    assert (cut.shape, cut.padded_shape) == ([1, 1, 8, 64], [1, 1, 32, 64])
    assert torch.equal(back(cut), x[:, :, :8])
    assert torch.equal(back(ttnn.reshape(cut, (1, 1, 32, 64), (1, 1, 32, 64)))[:, :, 8:], torch.zeros(1, 1, 24, 64))
    with pytest.raises(EmulatorError, match=r"\[1, 1, 40, 64\] does not lie within padded_shape=\[1, 1, 32, 64\]"):
        ttnn.reshape(a, (1, 1, 40, 64), (1, 1, 32, 64))


def test_every_op_is_named_somewhere_in_these_tests():
    text = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    last = {name.rpartition(".")[2] for name in OPS}
    assert {name for name in last if not re.search(rf'[."]{name}\b', text)} == set()
