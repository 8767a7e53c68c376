# SPDX-License-Identifier: Apache-2.0
"""Reads names and the emulated ops' arguments off an installed ttnn and writes signatures.json beside this file.

Run with a Python that has ttnn 0.81.1 (torch is not needed): python tests/emulator/data/make_signatures.py
An op has a list of overloads, each written as in Python: "input_tensor, dim, *, memory_config".
"""

import ast
import inspect
import json
import re
from importlib.metadata import version
from pathlib import Path

import ttnn

OPS = """
from_torch as_tensor to_torch to_device from_device to_layout to_dtype typecast to_memory_config interleaved_to_sharded
sharded_to_interleaved reallocate clone deallocate reshape unsqueeze_to_4D unsqueeze squeeze slice concat pad permute
transpose repeat zeros ones full arange embedding linear matmul add subtract rsub multiply divide abs erf exp exp2 expm1
gelu log log1p neg reciprocal relu relu6 rsqrt sigmoid silu sqrt square tanh rms_norm layer_norm softmax sum mean max
min argmax fill_cache update_cache synchronize_device num_cores_to_corerangeset create_sharded_memory_config
init_device_compute_kernel_config ReplicateTensorToMesh ShardTensorToMesh ConcatMeshToTensor close_device
transformer.scaled_dot_product_attention transformer.scaled_dot_product_attention_decode
transformer.paged_scaled_dot_product_attention_decode experimental.nlp_create_qkv_heads
experimental.nlp_create_qkv_heads_decode experimental.nlp_concat_heads experimental.nlp_concat_heads_decode
experimental.rotary_embedding experimental.rotary_embedding_llama experimental.paged_update_cache
experimental.paged_fill_cache kv_cache.fill_cache_for_user_ kv_cache.update_cache_for_token_
""".split()  # noqa: SIM905


def overloads(op: str) -> list[str]:
    owner = ttnn
    for part in op.split("."):
        owner = getattr(owner, part)
    function = getattr(owner, "function", owner)
    written = getattr(function, "__nb_signature__", None) or getattr(type(function).__call__, "__nb_signature__", None)
    if written is None:
        return [_arguments(inspect.signature(function))]
    return [_arguments(_parsed(text[0])) for text in written if "ComplexTensor" not in text[0]]


def _parsed(text: str) -> inspect.Signature:
    """A signature from nanobind's text, whose defaults stand as \\0, \\1, …; annotations are dropped."""
    source = re.sub(r"= \\\d+", "= None", text)
    function = ast.parse(f"{source}: ...").body[0]
    for argument in (*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs):
        argument.annotation = None
    function.returns = None
    namespace: dict[str, object] = {}
    exec(ast.unparse(function), namespace)
    return inspect.signature(namespace[function.name])


def _arguments(signature: inspect.Signature) -> str:
    parameters = [p for name, p in signature.parameters.items() if name != "self"]
    keywords = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
    return ", ".join([p.name for p in parameters if p.kind is not p.KEYWORD_ONLY] + ["*"] * bool(keywords) + keywords)


names = " ".join(sorted(name for name in dir(ttnn) if not name.startswith("_")))
table = {"ttnn": version("ttnn"), "names": names, "ops": {op: overloads(op) for op in OPS}}
Path(__file__).with_name("signatures.json").write_text(json.dumps(table, indent=1) + "\n")
