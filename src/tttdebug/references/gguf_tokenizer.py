# SPDX-License-Identifier: Apache-2.0
"""The tokenizer that a GGUF file carries, rebuilt from its arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tttdebug.errors import WeightsError
from tttdebug.references.gguf_file import GGUFFile

if TYPE_CHECKING:
    from tokenizers import Tokenizer

CONTROL, USER_DEFINED = 3, 4
"""Kinds of token that are looked for before anything else, and never cut."""


@dataclass(frozen=True)
class TextCut:
    """How text is cut into the pieces within which bytes are merged.

    `pattern` is the regular expression of a piece, None for GPT-2's own; `digits_alone` makes every digit a piece of
    its own first. `whole_pieces` takes a piece that is a token as it is, without merging. `starts_text` says whether a
    text begins with the BOS token where the file does not say.
    """

    pattern: str | None = None
    digits_alone: bool = False
    whole_pieces: bool = False
    starts_text: bool = False


CUTS: Mapping[str, TextCut] = {
    "gpt-2": TextCut(),
    "smollm": TextCut(digits_alone=True),
    "llama-bpe": TextCut(
        pattern=r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
        r"|\s*[\r\n]+|\s+(?!\S)|\s+",
        whole_pieces=True,
        starts_text=True,
    ),
    "tekken": TextCut(
        pattern=r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
        r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
        r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        whole_pieces=True,
        starts_text=True,
    ),
}
"""`tokenizer.ggml.pre` of byte-level BPE: SmolLM2, Llama 3, Mistral Nemo and their kin."""


NAMED = {"bos": "bos_token", "eos": "eos_token", "unknown": "unk_token", "padding": "pad_token"}
"""Special tokens with a name: GGUF's word for each, and Hugging Face's."""


def gguf_tokenizer(file: GGUFFile) -> Tokenizer | None:
    """The file's tokenizer, or None where it carries none. Raises WeightsError for a kind that is not known."""
    kind = file.value("tokenizer.ggml.model", "none")
    if kind == "none":
        return None
    if kind == "gpt2":
        cut = _text_cut(file)
        tokenizer, starts_text = _byte_level(file, cut), cut.starts_text
    elif kind == "llama":
        tokenizer, starts_text = _sentencepiece(file), True
    else:
        raise WeightsError(
            f"{file.path} has a tokenizer of the kind {kind!r}; known are gpt2 and llama: give a Hugging Face folder"
        )
    _keep_special_tokens_whole(file, tokenizer)
    _wrap_texts(file, tokenizer, starts_text)
    return tokenizer


def tokenizer_config(file: GGUFFile) -> dict[str, Any]:
    """What `tokenizer_config.json` says beside the tokenizer itself: the named special tokens and the chat template."""
    template = file.value("tokenizer.chat_template", None)
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        "model_max_length": file.value("llama.context_length"),
        **_named_tokens(file),
        **({"chat_template": template} if template else {}),
    }


def _text_cut(file: GGUFFile) -> TextCut:
    name = file.value("tokenizer.ggml.pre")
    if name not in CUTS:
        raise WeightsError(
            f"{file.path} cuts text by the rule {name!r}; known are {', '.join(CUTS)}: give a Hugging Face folder"
        )
    return CUTS[name]


def _byte_level(file: GGUFFile, cut: TextCut) -> Tokenizer:
    """Byte-level BPE, as GPT-2, SmolLM2 and Llama 3 have it."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

    merges = [tuple(merge.split(" ", 1)) for merge in file.value("tokenizer.ggml.merges")]
    vocabulary = {token: number for number, token in enumerate(file.value("tokenizer.ggml.tokens"))}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, ignore_merges=cut.whole_pieces))
    steps: list[Any] = [pre_tokenizers.Digits(individual_digits=True)] if cut.digits_alone else []
    if cut.pattern is not None:
        steps.append(pre_tokenizers.Split(Regex(cut.pattern), behavior="isolated"))
    steps.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=cut.pattern is None))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _sentencepiece(file: GGUFFile) -> Tokenizer:
    """SentencePiece's BPE, as Llama 1 and 2 and the first Mistral have it: pieces with scores instead of merges."""
    from tokenizers import Tokenizer, decoders, models, normalizers

    tokens = file.value("tokenizer.ggml.tokens")
    merges = _merges_by_score(tokens, file.value("tokenizer.ggml.scores"))
    vocabulary = {token: number for number, token in enumerate(tokens)}
    unknown = _named_tokens(file).get("unk_token")
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token=unknown, fuse_unk=True, byte_fallback=True))
    steps: list[Any] = [normalizers.Replace(" ", "▁")]
    pieces: list[Any] = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    if file.value("tokenizer.ggml.add_space_prefix", True):
        steps.insert(0, normalizers.Prepend("▁"))
        pieces.append(decoders.Strip(" ", 1, 0))
    tokenizer.normalizer = normalizers.Sequence(steps)
    tokenizer.decoder = decoders.Sequence(pieces)
    return tokenizer


def _merges_by_score(tokens: Sequence[str], scores: Sequence[float]) -> list[tuple[str, str]]:
    """Every way to put a token together from two others, the token of the highest score first."""
    known = set(tokens)
    ways = [
        (-score, token[:cut], token[cut:])
        for token, score in zip(tokens, scores, strict=True)
        for cut in range(1, len(token))
        if token[:cut] in known and token[cut:] in known
    ]
    return [(left, right) for _, left, right in sorted(ways, key=lambda way: way[0])]


def _named_tokens(file: GGUFFile) -> dict[str, str]:
    tokens = file.value("tokenizer.ggml.tokens")
    numbers = {name: file.value(f"tokenizer.ggml.{word}_token_id", None) for word, name in NAMED.items()}
    if any(number is not None and number >= len(tokens) for number in numbers.values()):
        raise WeightsError(f"{file.path} names a special token beyond its {len(tokens)} tokens: convert it anew")
    return {name: tokens[number] for name, number in numbers.items() if number is not None}


def _keep_special_tokens_whole(file: GGUFFile, tokenizer: Tokenizer) -> None:
    from tokenizers import AddedToken

    tokens = file.value("tokenizer.ggml.tokens")
    kinds = list(zip(tokens, file.value("tokenizer.ggml.token_type", [1] * len(tokens)), strict=True))
    tokenizer.add_special_tokens(
        [AddedToken(token, special=True, normalized=False) for token, kind in kinds if kind == CONTROL]
    )
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token, kind in kinds if kind == USER_DEFINED])


def _wrap_texts(file: GGUFFile, tokenizer: Tokenizer, starts_text: bool) -> None:
    """Have every text start with the BOS token and end with the EOS token, where the file says so."""
    from tokenizers.processors import TemplateProcessing

    start = ["bos_token"] if file.value("tokenizer.ggml.add_bos_token", starts_text) else []
    end = ["eos_token"] if file.value("tokenizer.ggml.add_eos_token", False) else []
    named = _named_tokens(file)
    if missing := [name for name in start + end if name not in named]:
        raise WeightsError(f"{file.path} adds a {missing[0]} to texts but names none: convert the model to GGUF anew")
    if start or end:
        special = [(named[name], tokenizer.token_to_id(named[name])) for name in start + end]
        whole = [named[name] for name in start] + ["$A"] + [named[name] for name in end]
        tokenizer.post_processor = TemplateProcessing(single=whole, special_tokens=special)
