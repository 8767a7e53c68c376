# SPDX-License-Identifier: Apache-2.0
"""A tokenizer rebuilt from a GGUF file gives the ids of the one the file was made of."""

from __future__ import annotations

import functools
import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_llamas import tiny_llama, write_gguf
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerBase

from tttdebug.errors import WeightsError
from tttdebug.references import load_reference

TEXT = [
    "It was the best of times, it was the worst of times, it was the age of wisdom, it was the age of foolishness,",
    "in the year 1775 there were 2 kings; they're gone, we've been told: don't ask WHY, I'll say nothing!",
    "naïve façade, 東京 and émigrés\n\n\tdef main():\n        return x[0] ** 2  # 100%",
] * 3
SPECIAL = ["<unk>", "<s>", "</s>"]

llama3_pattern = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
PRE_TOKENIZERS: dict[str, list[Any]] = {
    "gpt-2": [pre_tokenizers.ByteLevel(add_prefix_space=False)],
    "smollm": [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)],
    "llama-bpe": [
        pre_tokenizers.Split(Regex(llama3_pattern), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ],
}


@functools.cache
def learned() -> dict[str, Any]:
    """Tokens and merges learned from a few sentences, numbers of several digits among them; some merges are forgotten,
    so that their tokens are reached only where a whole piece is looked up."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=420, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(TEXT, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    return {"vocab": model["vocab"], "merges": [tuple(merge) for merge in model["merges"][:-30]]}


@functools.cache
def published(pre: str) -> Tokenizer:
    """A byte-level BPE as its makers would publish it."""
    tokenizer = Tokenizer(models.BPE(**learned(), ignore_merges=pre == "llama-bpe"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(PRE_TOKENIZERS[pre])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(SPECIAL)
    if pre == "llama-bpe":
        tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return tokenizer


@functools.cache
def rebuilt(pre: str, folder: Path) -> PreTrainedTokenizerBase:
    """The same tokenizer, by way of a GGUF file."""
    tokens = sorted(learned()["vocab"], key=learned()["vocab"].get)

    def say(writer: Any) -> None:
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(pre)
        writer.add_token_list(tokens)
        writer.add_token_types([3 if token in SPECIAL else 1 for token in tokens])
        writer.add_token_merges([" ".join(merge) for merge in learned()["merges"]])
        writer.add_unk_token_id(0)
        writer.add_bos_token_id(1)
        writer.add_eos_token_id(2)
        writer.add_chat_template("{{ messages }}")

    path = write_gguf(folder / f"{pre}.gguf", tiny_llama(vocab_size=len(tokens)), change=say)
    tokenizer = load_reference(path).tokenizer
    assert tokenizer is not None
    return tokenizer


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tokenizers")


pieces = st.sampled_from(
    ["times", " it", "1775", "don't", "\n\n", "  ", "\t", "é", "東京", "🙂", "<s>", "</s>", "#!", "WAS"]
)


@pytest.mark.parametrize("pre", PRE_TOKENIZERS)
@settings(max_examples=100, deadline=None)
@given(text=st.one_of(st.text(max_size=30), st.lists(pieces, max_size=12).map("".join)))
def test_byte_level_bpe_gives_the_same_ids(pre: str, folder: Path, text: str) -> None:
    tokenizer = rebuilt(pre, folder)
    ids = tokenizer.encode(text)
    assert ids == published(pre).encode(text).ids
    assert tokenizer.decode(ids, skip_special_tokens=False) == published(pre).decode(ids, skip_special_tokens=False)


def test_special_tokens_and_template_come_along(folder: Path) -> None:
    tokenizer = rebuilt("smollm", folder)
    assert (tokenizer.unk_token, tokenizer.bos_token, tokenizer.eos_token) == ("<unk>", "<s>", "</s>")
    assert tokenizer.encode("a</s>b") == [tokenizer.encode("a")[0], 2, tokenizer.encode("b")[0]]
    assert tokenizer.chat_template == "{{ messages }}"


def test_whether_a_text_begins_with_bos_is_the_files_word(tmp_path: Path) -> None:
    assert sentencepiece(tmp_path, "said", lambda writer: writer.add_add_bos_token(False)).encode("the")[:1] != [1]
    assert sentencepiece(tmp_path, "eos", lambda writer: writer.add_add_eos_token(True)).encode("the")[-1:] == [2]


BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
PIECES = {"▁": -9.0, "t": -9.1, "h": -9.2, "e": -9.3, "r": -9.4, "s": -9.5, "th": -1.0, "he": -2.0, "▁t": -0.5}
PIECES |= {"▁the": -3.0, "re": -2.5, "er": -4.0, "here": -5.0, "▁th": -6.0, "ere": -7.0, "the": -4.5, "▁▁": -1.5}


def sentencepiece(folder: Path, name: str, change: Any = lambda writer: None) -> PreTrainedTokenizerBase:
    """A tokenizer of SentencePiece's kind with a few pieces, by way of a GGUF file."""
    tokens = [*SPECIAL, *BYTES, *PIECES]

    def say(writer: Any) -> None:
        writer.add_tokenizer_model("llama")
        writer.add_token_list(tokens)
        writer.add_token_scores([0.0] * (len(tokens) - len(PIECES)) + list(PIECES.values()))
        writer.add_token_types([2, 3, 3, *[6] * 256, *[1] * len(PIECES)])
        writer.add_unk_token_id(0)
        writer.add_bos_token_id(1)
        writer.add_eos_token_id(2)
        change(writer)

    path = write_gguf(folder / f"{name}.gguf", tiny_llama(vocab_size=len(tokens)), change=say)
    tokenizer = load_reference(path).tokenizer
    assert tokenizer is not None
    return tokenizer


def by_definition(text: str) -> list[str]:
    """SentencePiece's BPE: of the neighbours that make a piece, join those of the highest score, leftmost first."""
    symbols = list("▁" + text.replace(" ", "▁")) if text else []
    while True:
        ways = [(-PIECES[a + b], i) for i, (a, b) in enumerate(itertools.pairwise(symbols)) if a + b in PIECES]
        if not ways:
            break
        _, at = min(ways)
        symbols[at : at + 2] = [symbols[at] + symbols[at + 1]]
    return [
        piece for symbol in symbols for piece in ([symbol] if symbol in PIECES else (BYTES[b] for b in symbol.encode()))
    ]


@pytest.fixture(scope="module")
def pieces_tokenizer(tmp_path_factory: pytest.TempPathFactory) -> PreTrainedTokenizerBase:
    return sentencepiece(tmp_path_factory.mktemp("sentencepiece"), "pieces")


@settings(max_examples=200, deadline=None)
@given(text=st.text(alphabet="thers  é🙂x", max_size=14))
def test_sentencepiece_follows_the_scores(pieces_tokenizer: PreTrainedTokenizerBase, text: str) -> None:
    ids = pieces_tokenizer.encode(text)
    assert pieces_tokenizer.convert_ids_to_tokens(ids) == ["<s>", *by_definition(text)]
    assert pieces_tokenizer.decode(ids, skip_special_tokens=True) == text


def test_a_file_without_a_tokenizer_gives_none(tmp_path: Path) -> None:
    assert load_reference(write_gguf(tmp_path / "bare.gguf", tiny_llama())).tokenizer is None


def test_unknown_tokenizers_are_refused(tmp_path: Path) -> None:
    def rwkv(writer: Any) -> None:
        writer.add_tokenizer_model("rwkv")

    def poro(writer: Any) -> None:
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre("poro-chat")

    with pytest.raises(WeightsError, match="'rwkv'"):
        load_reference(write_gguf(tmp_path / "rwkv.gguf", tiny_llama(), change=rwkv))
    with pytest.raises(WeightsError, match="'poro-chat'"):
        load_reference(write_gguf(tmp_path / "poro.gguf", tiny_llama(), change=poro))
