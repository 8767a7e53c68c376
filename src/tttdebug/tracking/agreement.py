# SPDX-License-Identifier: Apache-2.0
"""Do both sides predict the same tokens? Top-1 and top-5 agreement and the KL divergence of their logits.

T token positions, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

TOP = 5


@dataclass(frozen=True)
class TokenAgreement:
    """What each side predicts after one token. `top` lists hold (token id, probability), the likeliest first.

    `kl` is KL(reference ‖ port) in nats; `margin` the reference's logit of its first choice less that of its second,
    against which a flip is to be judged.
    """

    phase: str
    step: int
    user: int
    position: int
    token: int
    reference_top: tuple[tuple[int, float], ...]
    port_top: tuple[tuple[int, float], ...]
    kl: float
    margin: float

    @property
    def top1(self) -> bool:
        """Whether both sides' first choices are the same token."""
        return self.reference_top[0][0] == self.port_top[0][0]

    @property
    def top5(self) -> float:
        """The share of the reference's five likeliest tokens among the port's five."""
        return len({token for token, _ in self.reference_top} & {token for token, _ in self.port_top}) / len(
            self.reference_top
        )

    def to_json(self, text_of: Any) -> dict[str, Any]:
        """A line of tokens.jsonl; `text_of(token_id)` gives a token's text."""
        return {
            "phase": self.phase,
            "step": self.step,
            "user": self.user,
            "position": self.position,
            "token": self.token,
            "text": text_of(self.token),
            "reference_top": [[token, text_of(token), probability] for token, probability in self.reference_top],
            "port_top": [[token, text_of(token), probability] for token, probability in self.port_top],
            "kl": self.kl,
            "margin": self.margin,
        }


def token_agreement(
    reference_TV: torch.Tensor,
    port_TV: torch.Tensor,
    token_ids: Sequence[int],
    *,
    phase: str,
    step: int,
    user: int,
    start: int,
) -> list[TokenAgreement]:
    """The agreement at each position.

    `token_ids` are the tokens that were read there, the first at position `start`.
    """
    import torch

    reference_TV, port_TV = reference_TV.float(), port_TV.float()
    log_reference, log_port = reference_TV.log_softmax(-1), port_TV.log_softmax(-1)
    kl_T = torch.nn.functional.kl_div(log_port, log_reference, log_target=True, reduction="none").sum(-1)
    reference_top, port_top = log_reference.topk(TOP), log_port.topk(TOP)
    margin_T = reference_top.values[:, 0] - reference_top.values[:, 1]

    def ranked(top: Any, t: int) -> tuple[tuple[int, float], ...]:
        return tuple(zip(top.indices[t].tolist(), top.values[t].exp().tolist(), strict=True))

    return [
        TokenAgreement(
            phase,
            step,
            user,
            start + t,
            int(token_ids[t]),
            ranked(reference_top, t),
            ranked(port_top, t),
            float(kl_T[t]),
            float(margin_T[t]),
        )
        for t in range(len(token_ids))
    ]


def summarise(agreements: Iterable[TokenAgreement]) -> dict[str, Any]:
    """Shares over all tokens, and the last token apart: it is the one that prefill predicts from."""
    tokens = list(agreements)
    last = tokens[-1]
    return {
        "tokens": len(tokens),
        "top1": sum(token.top1 for token in tokens) / len(tokens),
        "top5": sum(token.top5 for token in tokens) / len(tokens),
        "kl_mean": sum(token.kl for token in tokens) / len(tokens),
        "kl_last": last.kl,
        "last_top1": last.top1,
        "last_top5": last.top5,
    }
