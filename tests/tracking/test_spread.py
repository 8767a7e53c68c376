# SPDX-License-Identifier: Apache-2.0
"""Outputs on a mesh: put together whatever their topology says; a difference of replicas is never averaged away."""

import math

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tttdebug.emulator import ttnn
from tttdebug.emulator.mesh_tensor import MeshTensor
from tttdebug.emulator.opening import DeviceOptions, device_options
from tttdebug.errors import LayoutError
from tttdebug.tracking.layout import align
from tttdebug.tracking.pairing import PairLayout
from tttdebug.tracking.spread import Spread, read_output


@pytest.fixture(scope="module")
def meshes():
    with device_options(DeviceOptions("ideal")):
        opened = {shape: ttnn.open_mesh_device(ttnn.MeshShape(*shape)) for shape in ((1, 4), (2, 2), (1, 2))}
    yield opened
    for mesh in opened.values():
        ttnn.close_mesh_device(mesh)


def noise(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(3))


def on(mesh, x, mapper):
    return ttnn.from_torch(x, ttnn.float32, layout=ttnn.TILE_LAYOUT, device=mesh, mesh_mapper=mapper)


def mislabelled(tensor, like):
    """The same values under another tensor's topology, as ops leave them that hand on their operand's."""
    return MeshTensor(tensor.shards, tensor.device(), like.tensor_topology())


def lies(mesh, x, kind):
    mapper = ttnn.ReplicateTensorToMesh(mesh) if kind == "copied" else ttnn.ShardTensorToMesh(mesh, dim=kind)
    return on(mesh, x, mapper)


@pytest.mark.parametrize("told", ["copied", 3, 2])
@pytest.mark.parametrize("truly", ["copied", 3])
def test_what_a_topology_says_is_believed_only_where_it_leads_to_the_reference(meshes, truly, told):
    mesh, x = meshes[1, 4], noise(1, 1, 128, 256)
    tensor = mislabelled(lies(mesh, x, truly), lies(mesh, x, told))
    aligned = align(x[0], read_output(tensor))
    assert torch.equal(aligned.port_TC, x[0, 0])
    step = aligned.adapters[0]
    assert step.startswith("mesh 4: " + ("replicated" if truly == "copied" else "joined along dim"))
    assert ("topology says" in step) == (truly != told)
    assert not aligned.faults


@pytest.mark.parametrize("dims", [(None, 3), (3, None), (2, 3), (None, None), (2, None)])
@pytest.mark.parametrize("told", ["truth", "copied"])
def test_both_axes_of_a_mesh_are_joined(meshes, dims, told):
    mesh, x = meshes[2, 2], noise(1, 1, 64, 128)
    tensor = on(mesh, x, ttnn.ShardTensor2dMesh(mesh, (2, 2), dims))
    if told == "copied":
        tensor = mislabelled(tensor, on(mesh, x, ttnn.ShardTensor2dMesh(mesh, (2, 2), (None, None))))
    aligned = align(x[0], read_output(tensor))
    assert torch.equal(aligned.port_TC, x[0, 0])
    assert not aligned.faults


@settings(max_examples=25)
@given(
    tokens=st.integers(1, 100),
    devices=st.sampled_from([2, 4]),
    kind=st.sampled_from(["copied", 3]),
    told=st.sampled_from(["copied", 3]),
    decode=st.booleans(),
    channels=st.sampled_from([96, 250, 256]),
)
def test_a_split_residual_comes_back_from_under_its_padding(tokens, devices, kind, told, decode, channels):
    x_TC = noise(32 if decode else tokens, channels)
    rows = torch.nn.functional.pad(x_TC, (0, 0, 0, -len(x_TC) % 32), value=8.0)
    whole = torch.nn.functional.pad(rows, (0, -channels % (32 * devices)))[None, None]  # as a vocabulary is padded
    shards = (whole,) * devices if kind == "copied" else whole.chunk(devices, -1)
    spread = Spread(tuple(shards), (devices,), (None,) if told == "copied" else (told,))
    options = {"phase": "decode", "user": tokens % 32} if decode else {}
    truth = x_TC[tokens % 32][None] if decode else x_TC
    assert torch.equal(align(truth[None], spread, **options).port_TC, truth)


def cut_up(whole, mesh, dims):
    """The shards of a mesh, row by row, cut along a dimension for each of its axes."""
    parts = [whole]
    for size, dim in zip(mesh, dims, strict=True):
        parts = [piece for part in parts for piece in ([part] * size if dim is None else part.chunk(size, dim))]
    return tuple(parts)


@settings(max_examples=60)
@given(
    mesh=st.sampled_from([(2,), (4,), (1, 2), (2, 2), (2, 4), (1, 1)]),
    tokens=st.integers(1, 150),
    channels=st.sampled_from([96, 128, 250]),
    ways=st.lists(st.sampled_from([None, 2, 3]), min_size=2, max_size=2),
    told=st.sampled_from(["truth", "all copied", "all joined"]),
    interleaved=st.booleans(),
)
def test_any_way_over_any_mesh_composes_with_other_layouts(mesh, tokens, channels, ways, told, interleaved):
    dims = tuple(ways[: len(mesh)])
    x_TC, layout = noise(tokens, channels), PairLayout()
    port_TC = x_TC
    if interleaved and channels != 250:
        layout = PairLayout(head_order="interleaved", head_dim=32)
        port_TC = x_TC.unflatten(-1, (-1, 2, 16)).transpose(-1, -2).flatten(1)
    if told != "truth" and 2 in dims:  # that rows are cut cannot be told from shards that hold all tokens already
        cuts = math.prod(size for size, dim in zip(mesh, dims, strict=True) if dim == 2)
        assume((tokens + -tokens % (32 * math.prod(mesh))) // cuts < tokens)
    rows = -tokens % (32 * math.prod(mesh))
    whole = torch.nn.functional.pad(torch.nn.functional.pad(port_TC, (0, 0, 0, rows), value=6.0), (0, -channels % 256))
    assume(len(whole) in (-(-tokens // 32) * 32, -(-tokens // 128) * 128))
    said = {"truth": dims, "all copied": (None,) * len(mesh), "all joined": (3,) * len(mesh)}[told]
    aligned = align(x_TC[None], Spread(cut_up(whole[None, None], mesh, dims), mesh, said), layout=layout)
    assert torch.equal(aligned.port_TC, x_TC)
    assert not aligned.faults


def test_a_short_prompt_cut_over_devices_lies_on_the_first():
    x = noise(20, 64)
    whole = torch.cat([x, noise(108, 64) + 1])[None, None]
    aligned = align(x[None], Spread(whole.chunk(4, -2), (4,), (2,)))
    assert torch.equal(aligned.port_TC, x)
    assert aligned.adapters[0] == "mesh 4: joined along dim 2 by topology"
    assert not aligned.faults


@pytest.mark.parametrize("told", ["copied", 3, 2])
def test_replicas_that_differ_are_a_fault_and_the_farthest_is_compared(meshes, told):
    x = noise(1, 1, 32, 64)
    spread = read_output(mislabelled(lies(meshes[1, 4], x, "copied"), lies(meshes[1, 4], noise(1, 1, 128, 64), told)))
    wrong = spread.shards[2].clone()
    wrong[0, 0, 5, 7] += 0.5
    aligned = align(x[0], Spread((*spread.shards[:2], wrong, spread.shards[3]), spread.mesh, spread.topology))
    assert torch.equal(aligned.port_TC, wrong[0, 0])
    (fault,) = aligned.faults
    assert fault.startswith("replicas differ: device 2 from device 0 in 1 of 2048 values, by up to 0.5")


def test_replicas_may_differ_in_padding_that_is_not_compared():
    x = noise(10, 64)
    shards = tuple(torch.nn.functional.pad(x, (0, 0, 0, 22), value=float(i))[None, None] for i in range(2))
    aligned = align(x[None], Spread(shards, (2,), (None,)))
    assert torch.equal(aligned.port_TC, x)
    assert not aligned.faults
    assert "2 replicas equal" in aligned.adapters[0]


def test_a_split_stream_whose_replicas_on_the_other_axis_differ_is_a_fault(meshes):
    mesh, x = meshes[2, 2], noise(1, 1, 32, 128)
    spread = read_output(on(mesh, x, ttnn.ShardTensor2dMesh(mesh, (2, 2), (None, 3))))
    shards = (*spread.shards[:3], spread.shards[3] * 2)
    aligned = align(x[0], Spread(shards, spread.mesh, spread.topology))
    assert aligned.faults
    assert "device 2 from device 0" in aligned.faults[0]


@pytest.mark.parametrize("told", ["copied", 2])
def test_a_sequence_cut_over_the_devices_is_joined_though_a_shard_could_be_the_last_tile(meshes, told):
    x = noise(1, 1, 64, 64)
    spread = read_output(mislabelled(lies(meshes[1, 2], x, 2), lies(meshes[1, 2], x, told)))
    aligned = align(x[0, :, :40], spread)
    assert torch.equal(aligned.port_TC, x[0, 0, :40])
    assert not aligned.faults


def test_a_fused_projection_cut_so_that_each_device_has_its_own_heads(meshes):
    q, k, v = noise(32, 128), noise(32, 64) + 1, noise(32, 64) - 1
    per_device = [torch.cat([each.chunk(2, -1)[i] for each in (q, k, v)], dim=-1) for i in range(2)]
    fused = torch.cat(per_device, dim=-1)[None, None]
    spread = read_output(lies(meshes[1, 2], fused, 3))
    for truth, columns in ((q, (0, 128)), (k, (128, 192)), (v, (192, 256))):
        aligned = align(truth[None], spread, layout=PairLayout(port_columns=columns))
        assert torch.equal(aligned.port_TC, truth)
        assert any("of each of 2 parts" in step for step in aligned.adapters)


def test_a_fused_projection_cut_as_it_stands_is_told_by_its_values(meshes):
    q, k, v = noise(32, 128), noise(32, 64) + 1, noise(32, 64) - 1
    spread = read_output(lies(meshes[1, 2], torch.cat([q, k, v], dim=-1)[None, None], 3))
    for truth, columns in ((q, (0, 128)), (k, (128, 192)), (v, (192, 256))):
        aligned = align(truth[None], spread, layout=PairLayout(port_columns=columns))
        assert torch.equal(aligned.port_TC, truth)
        assert f"port_columns {columns[0]}:{columns[1]} of 256" in aligned.adapters
    wrong = align(
        k[None] * -1, spread, layout=PairLayout(port_columns=(128, 192))
    )  # near in neither: as devices have it
    assert any("of each of 2 parts" in step for step in wrong.adapters)


def test_nan_in_the_same_places_of_replicas_is_no_difference():
    x = noise(32, 64)
    x[3, 3] = float("nan")
    aligned = align(x[None], Spread((x[None], x[None].clone()), (2,), (None,)))
    assert not aligned.faults
    assert aligned.port_TC.isnan().sum() == 1


@pytest.mark.parametrize("shape", [(1, 1, 32, 48), (1, 1, 31, 32), (1, 1, 32, 100)])
def test_shards_that_fit_in_no_way_are_refused_with_all_shapes(shape):
    shards = tuple(noise(*shape) + i for i in range(2))
    with pytest.raises(LayoutError) as refusal:
        align(torch.zeros(1, 40, 64), Spread(shards, (2,), (3,)))
    for said in (str(shape), "(1, 40, 64)", "on each of 2 devices", "joined along dim 3"):
        assert said in str(refusal.value)


def test_a_tensor_on_one_device_is_just_its_values():
    with device_options(DeviceOptions("ideal")):
        device = ttnn.open_device(device_id=0)
    x = noise(1, 1, 32, 32)
    assert torch.equal(read_output(ttnn.from_torch(x, ttnn.float32, layout=ttnn.TILE_LAYOUT, device=device)), x)
    assert torch.equal(read_output(x), x)
