# SPDX-License-Identifier: Apache-2.0
"""Meshes: tensors spread and put together, ops on every device, sums in the order of the ring."""

import pytest
import torch
from device_tensors import near, randn
from hypothesis import given, settings
from hypothesis import strategies as st

from tttdebug.emulator import EmulatorError, ttnn
from tttdebug.emulator.mesh import Mesh
from tttdebug.emulator.opening import DeviceOptions, device_options


def open_mesh(engine, *shape):
    with device_options(DeviceOptions(engine)):
        return ttnn.open_mesh_device(ttnn.MeshShape(*shape))


@pytest.fixture(params=["ideal", "fast", "exact"])
def mesh(request):
    opened = open_mesh(request.param, 1, 4)
    yield opened
    ttnn.close_mesh_device(opened)


def spread(mesh, x, mapper=None, dtype=ttnn.bfloat16, **options):
    return ttnn.from_torch(x, dtype, layout=ttnn.TILE_LAYOUT, device=mesh, mesh_mapper=mapper, **options)


def of_each(tensor):
    return [ttnn.to_torch(shard).float() for shard in ttnn.get_device_tensors(tensor)]


def joined(mesh, tensor, dim):
    return ttnn.to_torch(tensor, mesh_composer=ttnn.ConcatMeshToTensor(mesh, dim=dim)).float()


def test_a_mesh_says_what_it_is():
    mesh = open_mesh("fast", 2, 4)
    assert isinstance(mesh, ttnn.MeshDevice)
    assert (mesh.shape, list(mesh.shape), mesh.shape[1]) == (ttnn.MeshShape(2, 4), [2, 4], 4)
    assert mesh.get_num_devices() == 8
    assert mesh.get_device_ids() == list(range(8))
    assert mesh.compute_with_storage_grid_size() == ttnn.CoreCoord(8, 8)
    one = ttnn.open_mesh_device(ttnn.MeshShape(1, 1))
    assert (isinstance(one, ttnn.MeshDevice), one.shape, one.get_num_devices()) == (True, (1, 1), 1)
    for wrong in ((0, 1), ()):
        with pytest.raises(EmulatorError, match="MeshShape"):
            ttnn.MeshShape(*wrong)
    with pytest.raises(EmulatorError, match="3 physical_device_ids for a mesh of"):
        ttnn.open_mesh_device(ttnn.MeshShape(1, 2), physical_device_ids=[0, 1, 2])


def test_a_tensor_is_cut_copied_and_joined(mesh):
    x = randn(1, 1, 32, 256)
    cut = spread(mesh, x, ttnn.ShardTensorToMesh(mesh, dim=-1))
    whole = spread(mesh, x, ttnn.ReplicateTensorToMesh(mesh))
    assert (cut.shape, whole.shape, cut.dtype) == ([1, 1, 32, 64], [1, 1, 32, 256], ttnn.bfloat16)
    assert all(torch.equal(part, own) for part, own in zip(of_each(cut), x.chunk(4, -1), strict=True))
    assert all(torch.equal(own, x) for own in of_each(whole))
    assert torch.equal(joined(mesh, cut, -1), x)
    assert joined(mesh, whole, 0).shape == (4, 1, 32, 256)
    assert all(torch.equal(own, x) for own in of_each(spread(mesh, x)))
    assert cut.device() is mesh
    with pytest.raises(EmulatorError, match=r"lies on 4 devices; read it with ttnn\.to_torch.*mesh_composer"):
        ttnn.to_torch(cut)
    with pytest.raises(EmulatorError, match="cannot be divided along dimension 2 over 4 devices"):
        spread(mesh, x[..., :30, :], ttnn.ShardTensorToMesh(mesh, dim=2))


@settings(max_examples=20, deadline=None)
@given(st.sampled_from([(1, 2), (2, 2), (2, 3)]), st.permutations([0, 1, 2]), st.booleans())
def test_what_a_2d_mapper_cuts_its_composer_joins(shape, dims, on_device):
    mesh = open_mesh("ideal", *shape)
    x = torch.randn(6, 12, 18)
    mapper = ttnn.ShardTensor2dMesh(mesh, mesh_shape=shape, dims=tuple(dims[:2]))
    tensor = ttnn.from_torch(x, ttnn.float32, mesh_mapper=mapper, device=mesh if on_device else None)
    sizes = list(x.shape)
    for axis in (0, 1):
        sizes[dims[axis]] //= shape[axis]
    assert tensor.shape == sizes
    composer = ttnn.ConcatMesh2dToTensor(mesh, mesh_shape=shape, dims=tuple(dims[:2]))
    assert torch.equal(ttnn.to_torch(tensor, mesh_composer=composer), x)


def test_one_axis_is_copied_the_other_cut():
    mesh = open_mesh("ideal", 2, 2)
    x = torch.arange(8.0).reshape(2, 4)
    config = ttnn.MeshMapperConfig([ttnn.PlacementReplicate(), ttnn.PlacementShard(1)])
    tensor = ttnn.from_torch(x, ttnn.float32, device=mesh, mesh_mapper=ttnn.create_mesh_mapper(mesh, config))
    assert [own.tolist() for own in of_each(tensor)] == 2 * [x[:, :2].tolist(), x[:, 2:].tolist()]
    topology = tensor.tensor_topology()
    assert topology.distribution_shape() == ttnn.MeshShape(2, 2)
    assert topology.placements() == [ttnn.PlacementReplicate(), ttnn.PlacementShard(1)]
    assert topology.mesh_coords()[1:3] == [ttnn.MeshCoordinate(0, 1), ttnn.MeshCoordinate(1, 0)]
    once = ttnn.MeshComposerConfig([0, 1], ttnn.MeshShape(1, 2))
    assert torch.equal(ttnn.to_torch(tensor, mesh_composer=ttnn.create_mesh_composer(mesh, once)), x)
    by_rows = ttnn.create_mesh_composer(mesh, ttnn.MeshComposerConfig(row_dim=0, col_dim=1))
    assert torch.equal(ttnn.to_torch(tensor, mesh_composer=by_rows), torch.cat([x, x]))
    with pytest.raises(EmulatorError, match="1 entries for a mesh of shape"):
        ttnn.create_mesh_mapper(mesh, ttnn.MeshMapperConfig([ttnn.PlacementShard(1)]))
    with pytest.raises(EmulatorError, match="placement 1; give PlacementShard"):
        ttnn.MeshMapperConfig([1, None])


def test_ops_run_on_every_device_as_on_one(mesh):
    x, w = randn(1, 1, 32, 64), randn(64, 256)
    a = spread(mesh, x)
    columns = spread(mesh, w, ttnn.ShardTensorToMesh(mesh, dim=1), dtype=ttnn.bfloat8_b)
    with device_options(DeviceOptions(mesh.engine.name)):
        device = ttnn.open_device(device_id=9)
    alone = spread(device, x)
    product = ttnn.linear(a, columns, activation="silu")
    assert product.shape == [1, 1, 32, 64]
    for own, part in zip(of_each(product), w.chunk(4, 1), strict=True):
        single = ttnn.linear(alone, spread(device, part, dtype=ttnn.bfloat8_b), activation="silu")
        assert torch.equal(own, ttnn.to_torch(single).float())
    parts = ttnn.split(product, 32, 3)
    assert [part.shape for part in parts] == [[1, 1, 32, 32]] * 2
    assert torch.equal(joined(mesh, ttnn.concat(parts, 3), 3), joined(mesh, product, 3))
    assert torch.equal(
        joined(mesh, product[..., :16], 3), joined(mesh, parts[0], 3).unflatten(3, (4, 32))[..., :16].flatten(3)
    )
    near(mesh, ttnn.get_device_tensors(product + product)[2], 2 * of_each(product)[2])
    made = ttnn.full((2, 32), 3.0, ttnn.bfloat16, ttnn.TILE_LAYOUT, mesh)
    assert joined(mesh, made, 0).tolist() == [[3.0] * 32] * 8


def test_what_is_written_in_place_stays_the_same_tensor(mesh):
    cache = spread(mesh, torch.zeros(1, 4, 64, 32), ttnn.ShardTensorToMesh(mesh, dim=1))
    rows = randn(1, 4, 32, 32)
    assert ttnn.fill_cache(cache, spread(mesh, rows, ttnn.ShardTensorToMesh(mesh, dim=1)), 0) is cache
    assert torch.equal(joined(mesh, cache, 1)[:, :, :32], rows)
    target = ttnn.zeros((1, 1, 64, 32), ttnn.bfloat16, ttnn.TILE_LAYOUT, mesh)
    assert ttnn.add(cache, cache, output_tensor=target) is target
    assert torch.equal(joined(mesh, target, 1)[:, :, :32], 2 * rows)
    ttnn.deallocate(cache)
    assert not cache.is_allocated()
    with pytest.raises(EmulatorError, match="after deallocate"):
        ttnn.add(cache, cache)


def test_tensors_of_different_meshes_do_not_mix(mesh):
    a = spread(mesh, torch.ones(32, 32))
    for other, says in (
        (open_mesh(mesh.engine.name, 1, 4), "different devices"),
        (open_mesh("fast", 2, 1), "meshes of"),
    ):
        with pytest.raises(EmulatorError, match=says):
            ttnn.add(a, spread(other, torch.ones(32, 32)))
    ttnn.close_mesh_device(mesh)
    with pytest.raises(EmulatorError, match="was closed"):
        ttnn.add(a, a)


def test_observers_of_a_mesh_see_an_op_once(mesh):
    seen = []
    a = spread(mesh, torch.ones(32, 32))
    mesh.observers.append(seen.append)
    b = ttnn.add(a, a)
    gathered = ttnn.all_gather(b, dim=-1)
    assert [(record.name, record.output) for record in seen] == [("ttnn.add", b), ("ttnn.all_gather", gathered)]
    assert seen[0].inputs == (a, a)


def test_collectives(mesh):
    x = randn(4, 1, 64, 128)
    a = spread(mesh, x, ttnn.ShardTensorToMesh(mesh, dim=0))
    total = x.sum(0, keepdim=True)
    for gathered in (
        ttnn.all_gather(a, dim=3),
        ttnn.experimental.all_gather_async(a, 3, ttnn.create_global_semaphore(mesh, None, 0)),
        ttnn.experimental.all_gather_async(a, None, 3, multi_device_global_semaphore=[], topology=ttnn.Topology.Linear),
        ttnn.experimental.all_gather_async(a, 3, 1, mesh, ttnn.Topology.Ring, []),
        ttnn.experimental.all_gather_async(
            a, persistent_output_buffer=None, dim=3, multi_device_global_semaphore=[], num_links=1, cluster_axis=1
        ),
    ):
        for own in of_each(gathered):
            assert torch.equal(own, torch.cat(list(x.split(1)), 3))
    for reduced in (
        ttnn.all_reduce(a),
        ttnn.all_reduce(a, cluster_axis=1, topology=ttnn.Topology.Linear),
        ttnn.experimental.all_reduce_async(a, 4, [], [], [], ttnn.ReduceType.Sum),
        ttnn.experimental.all_reduce_async(a, 1, mesh, [], [], [], ttnn.ReduceType.Sum),
        ttnn.experimental.all_reduce_async(a, a, 1, mesh, [], num_links=1),
    ):
        for own in ttnn.get_device_tensors(reduced):
            near(mesh, own, total)
    for scattered in (
        ttnn.reduce_scatter(a, dim=3),
        ttnn.reduce_scatter(a, 3, cluster_axis=1, topology=ttnn.Topology.Linear),
        ttnn.experimental.reduce_scatter_minimal_async(a, None, 3, [], num_links=1),
        ttnn.experimental.reduce_scatter_minimal_async(
            a, persistent_output_buffers=None, dim=3, multi_device_global_semaphore=[], barrier_semaphore=None
        ),
    ):
        assert scattered.shape == [1, 1, 64, 32]
        for own, part in zip(ttnn.get_device_tensors(scattered), total.chunk(4, 3), strict=True):
            near(mesh, own, part)
    parts = ttnn.mesh_partition(ttnn.all_gather(a, dim=3), dim=3)
    assert all(torch.equal(own, part) for own, part in zip(of_each(parts), x.split(1), strict=True))
    assert all(torch.equal(own, x[2:3]) for own in of_each(ttnn.broadcast(a, ttnn.MeshCoordinate(0, 2))))
    assert all(torch.equal(own, x[i : i + 1]) for i, t in enumerate(ttnn.all_broadcast(a)) for own in of_each(t))
    moved = of_each(ttnn.point_to_point(a, ttnn.MeshCoordinate(0, 1), ttnn.MeshCoordinate(0, 3)))
    assert [int((own == x[[0, 1, 2, 1][i]]).all()) for i, own in enumerate(moved)] == [1, 1, 1, 1]
    weights = spread(mesh, randn(512, 64))
    gathered, product = ttnn.experimental.all_gather_matmul_async(
        a, weights, None, 3, [], ttnn.CoreCoord(0, 0), memory_config_mm=ttnn.L1_MEMORY_CONFIG
    )
    assert torch.equal(of_each(product)[1], of_each(ttnn.linear(gathered, weights))[1])
    assert product.memory_config() == ttnn.L1_MEMORY_CONFIG


def test_collectives_keep_to_their_axis():
    mesh = open_mesh("ideal", 2, 3)
    x = torch.arange(6.0).reshape(6, 1)
    a = ttnn.from_torch(x, ttnn.float32, device=mesh, mesh_mapper=ttnn.ShardTensorToMesh(mesh, dim=0))
    assert [own.flatten().tolist() for own in of_each(ttnn.all_gather(a, 1, cluster_axis=0))] == 2 * [
        [0, 3],
        [1, 4],
        [2, 5],
    ]
    rows = of_each(ttnn.all_gather(a, 1, cluster_axis=1))
    assert [own.flatten().tolist() for own in rows] == 3 * [[0, 1, 2]] + 3 * [[3, 4, 5]]
    assert [own.item() for own in of_each(ttnn.all_reduce(a, cluster_axis=1))] == [3, 3, 3, 12, 12, 12]
    with pytest.raises(EmulatorError, match="cluster_axis=2; the mesh"):
        ttnn.all_gather(a, 1, cluster_axis=2)


def bfloat16_sum(numbers):
    total = torch.tensor(numbers[0]).bfloat16()
    for number in numbers[1:]:
        total = (total.float() + number).bfloat16()
    return float(total)


def test_a_sum_is_rounded_at_every_hop_in_the_order_of_the_ring():
    mesh = open_mesh("fast", 1, 4)
    held = [256.0, 1.25, 1.25, 1.25]  # 256 swallows each alone, but not their sum
    x = torch.tensor(held)[:, None, None, None].expand(4, 1, 32, 128)
    a = spread(mesh, x, ttnn.ShardTensorToMesh(mesh, dim=0))
    ring = [own.flatten()[0].item() for own in of_each(ttnn.reduce_scatter(a, dim=3, topology=ttnn.Topology.Ring))]
    assert ring == [bfloat16_sum([held[(own + 1 + hop) % 4] for hop in range(4)]) for own in range(4)]
    assert len(set(ring)) > 1
    line = [own.flatten()[0].item() for own in of_each(ttnn.reduce_scatter(a, dim=3, topology=ttnn.Topology.Linear))]
    assert line[3] == bfloat16_sum([1.25, bfloat16_sum([256.0, 1.25, 1.25])])
    assert line[0] == bfloat16_sum([256.0, 3.75])
    every = [own.flatten()[::32].tolist() for own in of_each(ttnn.all_reduce(a, topology=ttnn.Topology.Ring))]
    assert all(own[:4] == ring for own in every)


def test_block_formats_are_packed_again_at_every_hop():
    mesh = open_mesh("fast", 1, 2)
    x = torch.randn(2, 1, 32, 64)
    a = spread(mesh, x, ttnn.ShardTensorToMesh(mesh, dim=0), dtype=ttnn.bfloat8_b)
    reduced = of_each(ttnn.all_reduce(a))[0]
    first, second = (spread(mesh, part, dtype=ttnn.bfloat8_b) for part in x.split(1))
    added = of_each(ttnn.add(first, second))[0]
    assert torch.equal(reduced, added)
    assert not torch.equal(added, ttnn.bfloat8_b.format.quantise(x).float().sum(0, keepdim=True))


def test_a_tensor_is_taken_apart_and_put_together_by_hand(mesh):
    x = randn(4, 32, 32)
    parts = [ttnn.from_torch(part, ttnn.bfloat16, layout=ttnn.TILE_LAYOUT) for part in x.split(1)]
    host = ttnn.from_host_shards(parts, ttnn.MeshShape(1, 4))
    assert torch.equal(joined(mesh, ttnn.to_device(host, mesh), 0), x)
    assert torch.equal(joined(mesh, host, 0), x)
    on_devices = ttnn.get_device_tensors(ttnn.to_device(host, mesh))
    assert ttnn.combine_device_tensors(tensors=on_devices).device() is mesh
    doubled = ttnn.combine_device_tensors(tensors=[ttnn.add(part, part) for part in on_devices])
    near(mesh, ttnn.aggregate_tensor(doubled, ttnn.ConcatMeshToTensor(mesh, dim=0)), 2 * x)
    spread_out = ttnn.distribute_tensor(ttnn.from_torch(x, ttnn.bfloat16), ttnn.ShardTensorToMesh(mesh, dim=0), mesh)
    assert torch.equal(joined(mesh, spread_out, 0), x)
    with ttnn.distribute(ttnn.ShardTensorToMesh(mesh, dim=0)), ttnn.distribute(ttnn.ConcatMeshToTensor(mesh, dim=0)):
        there = ttnn.from_torch(x, ttnn.bfloat16, device=mesh)
        assert there.shape == [1, 32, 32]
        assert torch.equal(ttnn.to_torch(there).float(), x)
    assert ttnn.from_torch(x, ttnn.bfloat16, device=mesh).shape == [4, 32, 32]
    ttnn.copy_host_to_device_tensor(host, doubled)
    assert torch.equal(joined(mesh, doubled, 0), x)
    with pytest.raises(EmulatorError, match="3 tensors for a mesh of"):
        ttnn.from_host_shards(parts[:3], ttnn.MeshShape(1, 4))
    with pytest.raises(EmulatorError, match="do not lie on the devices of one open mesh"):
        ttnn.combine_device_tensors(tensors=on_devices[:2])


def test_a_norm_over_devices_is_the_norm_of_the_whole_row(mesh):
    x, weight, bias = randn(1, 1, 32, 256) + 0.5, randn(256), randn(256)
    cut = ttnn.ShardTensorToMesh(mesh, dim=-1)
    a, w, b = (spread(mesh, t, cut) for t in (x, weight[None], bias[None]))
    stats = ttnn.all_gather(ttnn.rms_norm_pre_all_gather(a), dim=3)
    assert stats.shape == [1, 1, 32, 128]
    normed = ttnn.rms_norm_post_all_gather(a, stats, epsilon=1e-5, weight=w)
    exact = x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-5) * weight
    for own, part in zip(ttnn.get_device_tensors(normed), exact.chunk(4, -1), strict=True):
        near(mesh, own, part)
    stats = ttnn.all_gather(ttnn.layer_norm_pre_all_gather(a), dim=3)
    assert stats.shape == [1, 1, 32, 256]
    normed = ttnn.layer_norm_post_all_gather(a, stats, epsilon=1e-5, weight=w, bias=b)
    exact = torch.nn.functional.layer_norm(x, (256,), weight, bias, 1e-5)
    for own, part in zip(ttnn.get_device_tensors(normed), exact.chunk(4, -1), strict=True):
        near(mesh, own, part)
    with pytest.raises(EmulatorError, match="it must hold 64 columns a device"):
        ttnn.layer_norm_post_all_gather(a, ttnn.rms_norm_pre_all_gather(a))


def test_a_mesh_of_one_is_a_device(any_device):
    x = randn(1, 1, 32, 64)
    mapper = ttnn.ShardTensorToMesh(any_device, dim=3)
    a = spread(any_device, x, mapper)
    assert torch.equal(joined(any_device, a, 3), x)
    for same in (ttnn.all_gather(a, dim=3), ttnn.all_reduce(a), ttnn.reduce_scatter(a, dim=3)):
        assert torch.equal(ttnn.to_torch(same).float(), x)
    assert ttnn.get_device_tensors(a) == [a]
    assert a.tensor_topology().placements() == [ttnn.PlacementReplicate()]


def test_fabric_settings_are_taken_and_change_nothing():
    ttnn.set_fabric_config(ttnn.FabricConfig.FABRIC_1D, ttnn.FabricReliabilityMode.STRICT_INIT)
    assert ttnn.get_fabric_config() is ttnn.FabricConfig.FABRIC_1D
    ttnn.set_fabric_config(ttnn.FabricConfig.DISABLED)
    with pytest.raises(EmulatorError, match="is not a ttnn"):
        ttnn.set_fabric_config(True)


def test_settings_read_as_ttnn_writes_them():
    config = ttnn.MeshMapperConfig([ttnn.PlacementShard(-1), ttnn.PlacementReplicate()], ttnn.MeshShape(2, 4))
    placements = "[PlacementShard(-1), PlacementReplicate()]"
    assert repr(config) == f"MeshMapperConfig(placements: {placements}, mesh_shape_override=MeshShape([2, 4]))"
    assert repr(ttnn.MeshComposerConfig([0, 1])) == "MeshComposerConfig(dims: [0, 1])"


def test_mappers_have_other_names(mesh):
    x = randn(1, 1, 32, 128)
    cut = spread(mesh, x, ttnn.shard_tensor_to_mesh_mapper(mesh, 3))
    assert torch.equal(ttnn.to_torch(cut, mesh_composer=ttnn.concat_mesh_to_tensor_composer(mesh, 3)).float(), x)
    assert spread(mesh, x, ttnn.replicate_tensor_to_mesh_mapper(mesh)).shape == x.shape
    assert isinstance(ttnn.shard_tensor_to_mesh_mapper(mesh, 3), ttnn.CppTensorToMesh)


def test_the_machine_has_as_many_chips_as_its_largest_mesh():
    assert ttnn.cluster.ClusterType.T3K.name == "T3K"
    for left_open in Mesh.opened():
        ttnn.close_mesh_device(left_open)
    assert ttnn.cluster.get_cluster_type() is ttnn.cluster.ClusterType.N150
    mesh = open_mesh("fast", 1, 8)
    assert ttnn.cluster.get_cluster_type() is ttnn.cluster.ClusterType.T3K
    ttnn.close_mesh_device(mesh)
    assert ttnn.cluster.get_cluster_type() is ttnn.cluster.ClusterType.N150


def test_outputs_say_how_they_lie_as_the_real_ones_do():
    """The rules are those that tests/real_ttnn finds the wheel to follow."""
    mesh = ttnn.open_mesh_device(ttnn.MeshShape(1, 2))
    whole, shard = ttnn.PlacementReplicate(), ttnn.PlacementShard

    def put(along):
        mapper = ttnn.create_mesh_mapper(mesh, ttnn.MeshMapperConfig([whole, along]))
        rows, columns = (64 if along == shard(2) else 32), (128 if along == shard(3) else 64)
        return ttnn.from_torch(
            torch.ones(1, 1, rows, columns),
            dtype=ttnn.bfloat16,
            layout=ttnn.TILE_LAYOUT,
            device=mesh,
            mesh_mapper=mapper,
        )

    def said(tensor):
        return tensor.tensor_topology().placements()

    assert said(ttnn.add(put(whole), put(shard(3)))) == [whole, shard(3)]
    assert said(ttnn.add(put(shard(2)), put(shard(3)))) == [whole, shard(2)]
    assert said(ttnn.all_gather(put(shard(3)), dim=3)) == [whole, whole]
    assert said(ttnn.all_reduce(put(shard(3)))) == [whole, whole]
    assert said(ttnn.reduce_scatter(put(whole), dim=-1, cluster_axis=1)) == [whole, shard(3)]
    in_line = ttnn.reduce_scatter(put(whole), dim=3)
    assert said(in_line) == [shard(3)]
    assert in_line.tensor_topology().distribution_shape() == ttnn.MeshShape(2)
