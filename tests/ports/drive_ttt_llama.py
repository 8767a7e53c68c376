# SPDX-License-Identifier: Apache-2.0
"""How `ttt_llama` is run: the three functions that somebody writes beside a model to have it tracked."""

from __future__ import annotations

import math

import torch
import ttnn
from ttt_llama import BLOCK, PREFILL_MULTIPLE, USERS
from ttt_llama import build as build_model


def build(reference_model, device):
    port = build_model(reference_model, device)
    port.mesh_device = device
    port.pages = math.ceil(reference_model.config.max_position_embeddings / BLOCK)
    return port


def page_table(port):
    """The blocks of each user's positions, out of order as a server hands them out."""
    blocks = torch.randperm(USERS * port.pages, generator=torch.Generator().manual_seed(11))
    return integers(port, blocks.reshape(USERS, port.pages), ttnn.int32)


def integers(port, values, dtype):
    return ttnn.from_torch(values.to(torch.int32), dtype=dtype, layout=ttnn.ROW_MAJOR_LAYOUT, device=port.mesh_device)


def prefill(port, token_ids_BS):
    users, tokens = token_ids_BS.shape
    length = math.ceil(tokens / PREFILL_MULTIPLE) * PREFILL_MULTIPLE
    folded = torch.nn.functional.pad(token_ids_BS, (0, length - tokens)).reshape(1, -1)
    x = port.embedding.forward(integers(port, folded, ttnn.uint32))
    rot_mats = port.rope_setup.prefill_forward(0, length)
    last = tokens - 1 if users == 1 else -1
    logits = port.prefill_forward(x, rot_mats, page_table=page_table(port), get_last_token=last, batch_size=users)
    return ttnn.to_torch(logits)[:, :, last % 32] if users == 1 else logits


def decode(port, token_ids_B, positions_B):
    padding = USERS - len(token_ids_B)
    ids = torch.nn.functional.pad(token_ids_B, (0, padding))
    x = port.embedding.forward(integers(port, ids[None], ttnn.uint32))
    current_pos = integers(port, torch.nn.functional.pad(positions_B, (0, padding), value=-1), ttnn.int32)
    rot_mats = port.rope_setup.decode_forward(torch.nn.functional.pad(positions_B, (0, padding)))
    return port.decode_forward(x, current_pos, rot_mats, page_table=page_table(port))
