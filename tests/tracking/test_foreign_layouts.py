# SPDX-License-Identifier: Apache-2.0
"""A port on a mesh, in layouts of its own, tracked by the pairs that are found: the adapters are in the records.

The port computes with the reference's own torch modules and puts each result on the devices as a tensor-parallel model
would have it: what is tested is what is made of the layouts.
"""

import copy
import json
from dataclasses import dataclass

import pytest
import torch
from tiny_llamas import tiny_llama

import tttdebug as td
from tttdebug.emulator import ttnn
from tttdebug.emulator.mesh_tensor import MeshTensor
from tttdebug.emulator.opening import DeviceOptions, device_options

DEVICES, HEAD_DIM, TOKENS = 2, 32, 40
SHAPE = {
    "hidden_size": 128,
    "head_dim": HEAD_DIM,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_hidden_layers": 2,
    "vocab_size": 100,
    "intermediate_size": 160,
}
PROMPT = list(range(3, 3 + TOKENS))


@pytest.fixture(scope="module")
def reference():
    return td.load_reference(tiny_llama(7, **SHAPE))


@pytest.fixture
def mesh():
    with device_options(DeviceOptions("ideal")):
        opened = ttnn.open_mesh_device(ttnn.MeshShape(1, DEVICES))
    yield opened
    ttnn.close_mesh_device(opened)


def meta_order(x):
    heads = x.unflatten(-1, (-1, HEAD_DIM))
    return heads.unflatten(-1, (2, -1)).transpose(-1, -2).flatten(-2).flatten(-2)


@dataclass
class Shipped:
    """A module that puts what it is given on the mesh: whole on each device, or cut along a dimension."""

    mesh: object
    cut: int | None = None
    stale: bool = False  # whether the topology says the contrary
    broken: bool = False  # whether one device holds something else

    def forward(self, x):
        rows = torch.nn.functional.pad(x[0], (0, -x.shape[-1] % (32 * DEVICES), 0, -x.shape[1] % 128))[None, None]
        ways = [ttnn.ReplicateTensorToMesh(self.mesh), ttnn.ShardTensorToMesh(self.mesh, dim=self.cut or 3)]
        mapper, other = ways if self.cut is None else reversed(ways)
        on = [
            ttnn.from_torch(rows, ttnn.float32, layout=ttnn.TILE_LAYOUT, device=self.mesh, mesh_mapper=way)
            for way in (mapper, other)
        ]
        shards = list(on[0].shards)
        if self.broken:
            shards[1] = ttnn.multiply(shards[1], 1.001)
        return MeshTensor(shards, self.mesh, on[1 if self.stale else 0].tensor_topology())


class Attention(Shipped):
    def forward(self, x):
        return super().forward(x), ["something else"]


class Layer(Shipped):
    def __init__(self, mesh):
        super().__init__(mesh, cut=3)
        self.attention = Attention(mesh, cut=3, stale=True)
        self.attention.wqkv = Shipped(mesh, cut=3)
        self.attention.wo = Shipped(mesh)
        self.feed_forward = Shipped(mesh)
        self.attention_norm, self.ff_norm = Shipped(mesh), Shipped(mesh, stale=True)


class Port:
    """Runs the torch model and tells its own modules what it gave, at each of them."""

    def __init__(self, reference, mesh):
        self.torch_model = copy.deepcopy(reference.model)
        self.embedding, self.norm, self.lm_head = Shipped(mesh), Shipped(mesh), Shipped(mesh, cut=3)
        self.layers = [Layer(mesh) for _ in range(2)]
        self.device = mesh

    def prefill(self, token_ids):
        given = {}
        handles = [
            module.register_forward_hook(lambda _m, _i, out, path=path: given.update({path: first(out)}))
            for path, module in self.torch_model.named_modules()
            if path
        ]
        with torch.no_grad():
            self.torch_model(token_ids)
        for handle in handles:
            handle.remove()
        self.embedding.forward(given["model.embed_tokens"])
        for i, layer in enumerate(self.layers):
            at = f"model.layers.{i}"
            q, k, v = (given[f"{at}.self_attn.{part}_proj"] for part in "qkv")
            parts = [part.chunk(DEVICES, -1) for part in (meta_order(q), meta_order(k), v)]
            layer.attention.wqkv.forward(torch.cat([torch.cat(own, -1) for own in zip(*parts, strict=True)], -1))
            layer.attention.wo.forward(given[f"{at}.self_attn.o_proj"])
            layer.attention_norm.forward(given[f"{at}.input_layernorm"])
            layer.attention.forward(given[f"{at}.self_attn"])
            layer.ff_norm.forward(given[f"{at}.post_attention_layernorm"])
            layer.feed_forward.forward(given[f"{at}.mlp"])
            layer.forward(given[at])
        self.norm.forward(given["model.norm"])
        return self.lm_head.forward(given["lm_head"])


def first(output):
    return output if isinstance(output, torch.Tensor) else output[0]


def tracked(reference, mesh, break_at=None):
    port = Port(reference, mesh)
    if break_at is not None:
        break_at(port).broken = True
    return td.track(port, reference, [PROMPT], prefill=lambda port, token_ids: port.prefill(token_ids))


def test_every_layout_on_the_mesh_comes_back_and_says_how(reference, mesh):
    run = tracked(reference, mesh)
    assert run.passed, [(record.boundary, record.verdict, record.note) for record in run.failed]
    assert not run.manifest.skipped
    adapters = {record.boundary: record.adapters for record in run.records}
    assert all(record.rel_l2 == 0 for record in run.records)
    assert adapters["embed"][0] == "mesh 2: replicated by topology, 2 replicas equal"
    assert adapters["L00.layer_out"][0] == "mesh 2: joined along dim 3 by topology"
    assert adapters["L01.self_attn"][:3] == (
        "reference_element 0 of 2",
        "port_element 0 of 2",
        "mesh 2: joined along dim -1 by shards (topology says replicated)",
    )
    assert adapters["L01.post_attn_norm"][0] == (
        "mesh 2: replicated by shards (topology says joined along dim 3), 2 replicas equal"
    )
    assert "columns 0:64 of each of 2 parts" in adapters["L00.self_attn.q_proj"]
    assert any(step.startswith("unrotate_heads (rel_l2 0.000") for step in adapters["L00.self_attn.k_proj"])
    assert not any("unrotate" in step for step in adapters["L00.self_attn.v_proj"])
    assert "unpad_tokens 128→40" in adapters["logits"]
    assert any(step.startswith("unpad_") and step.split()[1] == "128→100" for step in adapters["logits"])


def test_a_replica_that_differs_fails_its_boundary_and_no_other(reference, mesh):
    run = tracked(reference, mesh, break_at=lambda port: port.layers[1].feed_forward)
    assert [record.boundary for record in run.failed] == ["L01.mlp"]
    (failed,) = run.failed
    assert failed.verdict == "diverged"
    assert failed.note.startswith("replicas differ: device 1 from device 0 in ")
    assert failed.adapters[0] == "mesh 2: replicated, replica of device 1"


def test_a_saved_plan_of_this_port_tracks_the_same(reference, mesh, tmp_path):
    from tttdebug.tracking.pairing_plan import plan_pairs
    from tttdebug.tracking.plan_file import write_plan

    port = Port(reference, mesh)
    write_plan(plan_pairs(port, reference.model), tmp_path / "pairs.toml")
    run = td.track(
        port,
        reference,
        [PROMPT],
        prefill=lambda port, token_ids: port.prefill(token_ids),
        pairs=tmp_path / "pairs.toml",
        out=tmp_path / "run",
    )
    assert run.passed
    assert "unrotate_heads" in (tmp_path / "run" / "records.jsonl").read_text()
    assert json.loads((tmp_path / "run" / "manifest.json").read_text())["unpaired"]
