# SPDX-License-Identifier: Apache-2.0
"""The emulator on a whole Llama beside recordings of the real ttnn, and how long its prefill takes.

    python benchmarks/emulator_llama.py [--recordings FOLDER] [--precision accuracy|performance|bf16] [--tokens 128]

Weights are those of `load_reference("llama")`, SmolLM2-135M-Instruct. With recordings, per boundary: how near the
emulated activations and the real ones are to the fp32 reference, and to each other. Then prefill times in the same
process, taking turns with the Hugging Face forward.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from transformers import LlamaForCausalLM

from tttdebug.emulator import Device, open_device, ttnn
from tttdebug.references import load_reference

# S positions, D hidden, H query heads, K key/value heads, E head dim

Config = ttnn.WormholeComputeKernelConfig
FIDELITY = ttnn.MathFidelity
LOFI = Config(math_fidelity=FIDELITY.LoFi, math_approx_mode=False, packer_l1_acc=True)
HIFI2 = Config(math_fidelity=FIDELITY.HiFi2, math_approx_mode=False, fp32_dest_acc_en=True, packer_l1_acc=True)
HIFI2_FP16 = Config(math_fidelity=FIDELITY.HiFi2, math_approx_mode=False, packer_l1_acc=True)
HIFI4 = Config(math_fidelity=FIDELITY.HiFi4, math_approx_mode=False, fp32_dest_acc_en=True, packer_l1_acc=True)
SDPA = Config(math_fidelity=FIDELITY.HiFi4, math_approx_mode=False, fp32_dest_acc_en=True)


@dataclass(frozen=True)
class Precision:
    """Data type and kernel of attention weights, of w1 and w3, of w2 and of the LM head; the norms' kernel."""

    attention: tuple[ttnn.DataType, Config]
    gate_up: tuple[ttnn.DataType, Config]
    down: tuple[ttnn.DataType, Config]
    lm_head: tuple[ttnn.DataType, Config]
    norms: Config


PRECISIONS = {
    "bf16": Precision(*[(ttnn.bfloat16, HIFI4)] * 4, HIFI4),
    "accuracy": Precision(
        (ttnn.bfloat8_b, HIFI2),
        (ttnn.bfloat8_b, HIFI2_FP16),
        (ttnn.bfloat8_b, HIFI2_FP16),
        (ttnn.bfloat8_b, HIFI2),
        HIFI2,
    ),
    "performance": Precision(
        (ttnn.bfloat8_b, HIFI2), (ttnn.bfloat4_b, LOFI), (ttnn.bfloat8_b, HIFI2_FP16), (ttnn.bfloat8_b, HIFI2), HIFI2
    ),
}


class Llama:
    """The recorded chain: batch 1, everything interleaved in DRAM, no program config but for attention."""

    def __init__(self, model: LlamaForCausalLM, device: Device, precision: Precision) -> None:
        self.config, self.device, self.precision = model.config, device, precision
        self.head_dim = model.config.hidden_size // model.config.num_attention_heads
        weights = {name: value.detach() for name, value in model.state_dict().items()}
        self.embedding = self._upload(weights["model.embed_tokens.weight"], layout=ttnn.ROW_MAJOR_LAYOUT)
        self.lm_head = self._upload(weights["lm_head.weight"].T, precision.lm_head[0])
        self.final_norm = self._upload(weights["model.norm.weight"][None])
        self.layers = [self._layer(weights, f"model.layers.{i}.") for i in range(self.config.num_hidden_layers)]
        self.transform = self._upload(pair_swap()[None, None])
        self.sdpa = ttnn.SDPAProgramConfig(
            compute_with_storage_grid_size=device.grid, q_chunk_size=32, k_chunk_size=32, exp_approx_mode=False
        )

    def _layer(self, weights: dict[str, Tensor], prefix: str) -> dict[str, ttnn.Tensor]:
        precision = self.precision
        q, k, v, o = (weights[f"{prefix}self_attn.{name}_proj.weight"] for name in "qkvo")
        w1, w2, w3 = (weights[f"{prefix}mlp.{name}_proj.weight"] for name in ("gate", "down", "up"))
        fused = torch.cat([interleaved(q, self.head_dim), interleaved(k, self.head_dim), v])
        return {
            "input_norm": self._upload(weights[f"{prefix}input_layernorm.weight"][None]),
            "post_attn_norm": self._upload(weights[f"{prefix}post_attention_layernorm.weight"][None]),
            "wqkv": self._upload(fused.T, precision.attention[0]),
            "wo": self._upload(o.T, precision.attention[0]),
            "w1": self._upload(w1.T, precision.gate_up[0]),
            "w3": self._upload(w3.T, precision.gate_up[0]),
            "w2": self._upload(w2.T, precision.down[0]),
        }

    def _upload(
        self, x: Tensor, dtype: ttnn.DataType = ttnn.bfloat16, layout: ttnn.Layout = ttnn.TILE_LAYOUT
    ) -> ttnn.Tensor:
        return ttnn.from_torch(x, dtype=dtype, layout=layout, device=self.device)

    def prefill(self, ids: list[int], keep: Callable[[str, ttnn.Tensor], None] = lambda name, x: None) -> ttnn.Tensor:
        """Logits [1, 1, S, vocabulary]; `keep` is called with every boundary."""
        precision, eps = self.precision, self.config.rms_norm_eps
        cos, sin = (self._upload(t[None, None]) for t in rotary_tables(len(ids), self.head_dim, self.config))
        tokens = self._upload(torch.tensor([ids]), ttnn.uint32, ttnn.ROW_MAJOR_LAYOUT)
        x = ttnn.to_layout(ttnn.embedding(tokens, self.embedding), ttnn.TILE_LAYOUT)
        x = ttnn.unsqueeze_to_4D(x)
        keep("embed", x)

        def norm(x: ttnn.Tensor, weight: ttnn.Tensor) -> ttnn.Tensor:
            return ttnn.rms_norm(x, epsilon=eps, weight=weight, compute_kernel_config=precision.norms)

        for i, layer in enumerate(self.layers):
            at = f"L{i:02d}."
            h = norm(x, layer["input_norm"])
            keep(at + "input_norm", h)
            qkv = ttnn.linear(h, layer["wqkv"], compute_kernel_config=precision.attention[1])
            keep(at + "qkv", qkv)
            q, k, v = ttnn.experimental.nlp_create_qkv_heads(
                qkv,
                num_heads=self.config.num_attention_heads,
                num_kv_heads=self.config.num_key_value_heads,
                transpose_k_heads=False,
            )
            q, k = (ttnn.experimental.rotary_embedding_llama(t, cos, sin, self.transform) for t in (q, k))
            heads = ttnn.transformer.scaled_dot_product_attention(
                q, k, v, is_causal=True, program_config=self.sdpa, compute_kernel_config=SDPA
            )
            heads = ttnn.experimental.nlp_concat_heads(heads)
            keep(at + "heads", heads)
            attention = ttnn.linear(heads, layer["wo"], compute_kernel_config=precision.attention[1])
            keep(at + "self_attn", attention)
            x = ttnn.add(x, attention)
            h = norm(x, layer["post_attn_norm"])
            keep(at + "post_attn_norm", h)
            gate, up = (ttnn.linear(h, layer[w], compute_kernel_config=precision.gate_up[1]) for w in ("w1", "w3"))
            gated = ttnn.multiply(gate, up, input_tensor_a_activations=[ttnn.UnaryOpType.SILU])
            keep(at + "gated", gated)
            mlp = ttnn.linear(gated, layer["w2"], compute_kernel_config=precision.down[1])
            keep(at + "mlp", mlp)
            x = ttnn.add(x, mlp)
            keep(at + "layer_out", x)
        h = norm(x, self.final_norm)
        keep("final_norm", h)
        logits = ttnn.linear(h, self.lm_head, compute_kernel_config=precision.lm_head[1])
        keep("logits", logits)
        return logits


def interleaved(rows: Tensor, head_dim: int) -> Tensor:
    """Rows of a query or key projection from halves (Hugging Face) to adjacent pairs (Meta)."""
    return rows.view(-1, 2, head_dim // 2, rows.shape[-1]).transpose(1, 2).reshape(rows.shape)


def pair_swap() -> Tensor:
    """The 32×32 matrix that turns (a, b) into (−b, a) within adjacent pairs."""
    transform = torch.zeros(32, 32)
    transform[torch.arange(0, 32, 2), torch.arange(1, 32, 2)] = 1
    transform[torch.arange(1, 32, 2), torch.arange(0, 32, 2)] = -1
    return transform


def rotary_tables(length: int, head_dim: int, config: object) -> tuple[Tensor, Tensor]:
    """Cosines and sines [S, E], each twice in a row."""
    theta = getattr(config, "rope_theta", None) or config.rope_parameters["rope_theta"]
    frequencies = 1 / theta ** (torch.arange(0, head_dim, 2).float() / head_dim)
    angles_SE = torch.outer(torch.arange(length).float(), frequencies).repeat_interleave(2, 1)
    return angles_SE.cos(), angles_SE.sin()


def pcc(a: Tensor, b: Tensor) -> float:
    return float(torch.corrcoef(torch.stack([a.double().flatten(), b.double().flatten()]))[0, 1])


def rel_l2(port: Tensor, reference: Tensor) -> float:
    return float((port - reference).norm() / reference.norm())


def print_boundaries(console: Console, folder: Path, precision: str, model: LlamaForCausalLM) -> None:
    """One row per recorded boundary that the recorded reference has as well."""
    ids = json.loads((folder / "llama_prompt.json").read_text())["ids"]
    recorded = _load(folder / f"llama_{precision}_S{len(ids)}_L{model.config.num_hidden_layers}.npz")
    reference = _load(folder / f"llama_reference_S{len(ids)}.npz")
    ours: dict[str, Tensor] = {}
    device = open_device(grid=(8, 9))
    Llama(model, device, PRECISIONS[precision]).prefill(
        ids, lambda name, x: ours.__setitem__(name, ttnn.to_torch(x)[0, 0].float())
    )
    with torch.inference_mode():
        reference["logits_last_token"] = model(torch.tensor([ids])).logits[0, -1]
    ours["logits_last_token"] = ours["logits"][-1]
    table = Table(title=f"{precision}: {len(ids)} tokens against the fp32 reference")
    for heading in ("boundary", "pcc real", "pcc emulated", "rel_l2 real", "rel_l2 emulated", "pcc emulated, real"):
        table.add_column(heading, justify="left" if heading == "boundary" else "right", no_wrap=heading == "boundary")
    for name, real in recorded.items():
        truth, emulated = reference.get(name), ours[name].reshape(real.shape)
        against = [f"{pcc(t, truth):.5f}" for t in (real, emulated)] if truth is not None else ["", ""]
        errors = [f"{rel_l2(t, truth):.4f}" for t in (real, emulated)] if truth is not None else ["", ""]
        table.add_row(name, *against, *errors, f"{pcc(emulated, real):.6f}")
    console.print(table)


def _load(path: Path) -> dict[str, Tensor]:
    with np.load(path) as arrays:
        return {name: _as_float(arrays[name]) for name in arrays.files}


def _as_float(array: np.ndarray) -> Tensor:
    if array.dtype == np.uint16:
        return torch.from_numpy(array.view(np.int16).copy()).view(torch.bfloat16).float()
    return torch.from_numpy(array.copy()).float()


def print_times(console: Console, model: LlamaForCausalLM, precision: str, tokens: int, repeats: int) -> None:
    """The least prefill seconds of Hugging Face in fp32 and of each engine, and the ratio."""
    ids = [int(i) for i in torch.randint(100, 40000, (tokens,), generator=torch.Generator().manual_seed(0))]
    batch = torch.tensor([ids])
    ways: dict[str, Callable[[], object]] = {"Hugging Face fp32": lambda: model(batch)}
    for engine in ("fast", "ideal"):
        port = Llama(model, open_device(engine), PRECISIONS[precision])
        ways[f"emulated, {engine}"] = lambda port=port: port.prefill(ids)
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    with torch.inference_mode():
        for _ in range(repeats + 1):
            for name, way in ways.items():
                start = time.perf_counter()
                way()
                seconds[name].append(time.perf_counter() - start)
    table = Table(
        title=f"prefill of {tokens} tokens, {precision}, {torch.get_num_threads()} threads, best of {repeats}"
    )
    for heading in ("", "seconds", "ratio"):
        table.add_column(heading)
    base = min(seconds["Hugging Face fp32"][1:])
    for name, times in seconds.items():
        table.add_row(name, f"{min(times[1:]):.3f}", f"{min(times[1:]) / base:.2f}")
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recordings", type=Path)
    parser.add_argument("--precision", choices=PRECISIONS, default="accuracy")
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    console, model = Console(), load_reference("llama").model
    if arguments.recordings:
        if arguments.precision == "bf16":
            parser.error("there are recordings of accuracy and performance only")
        print_boundaries(console, arguments.recordings, arguments.precision, model)
    print_times(console, model, arguments.precision, arguments.tokens, arguments.repeats)


if __name__ == "__main__":
    main()
