"""A network that reads a whole video: attention-based multiple-instance learning with an ordinal head.

A video is a bag of instances (``series``), of which only some may show anything. Gated attention weighs them (Ilse, Tomczak
and Welling, "Attention-based deep multiple instance learning", ICML 2018, equation 9), optionally after a layer that looks at
their neighbors in time. The pooled video gets one number, and a cumulative link turns it into probabilities of ordered levels
(McCullagh, "Regression models for ordinal data", J. R. Statist. Soc. B 42 (1980), 109-142).
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from iss_assets.modeling.experiments import OverTime

FEATURES: Final = 64
"""Width of an encoded instance."""
HIDDEN: Final = 32
"""Width of the attention."""
KERNEL: Final = 5
"""Instances that the convolution sees at once: with instances of a second, two before and two after."""


class GatedAttention(nn.Module):
    """Weighs the instances of each bag; the weights of a bag are positive and add up to 1."""

    def __init__(self, features: int, hidden: int):
        super().__init__()
        self.content = nn.Linear(features, hidden)
        self.gate = nn.Linear(features, hidden)
        self.weight = nn.Linear(hidden, 1, bias=False)

    def forward(self, instances: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """Pool bags.

        Parameters
        ----------
        instances : Tensor, (bags, longest, features)
            Padded at the end.
        present : Tensor of bool, (bags, longest)
            False for padding.

        Returns
        -------
        pooled : Tensor, (bags, features)
        attention : Tensor, (bags, longest)
            0 for padding.
        """
        score = self.weight(torch.tanh(self.content(instances)) * torch.sigmoid(self.gate(instances)))
        attention = score[..., 0].masked_fill(~present, -torch.inf).softmax(dim=1)
        return (attention[..., None] * instances).sum(dim=1), attention


class CumulativeLink(nn.Module):
    """Probabilities of ordered classes from one number: P(class <= k) = logistic(threshold k - number).

    With two classes this is logistic regression. The thresholds stay in order because their steps are exponentials, as in
    ``OrderedModel`` of statsmodels.

    Parameters
    ----------
    shares : Tensor, (classes,)
        Shares of the classes, from which the thresholds start.
    """

    def __init__(self, shares: Tensor):
        super().__init__()
        below = shares.double().cumsum(0)[:-1] / shares.double().sum()
        start = torch.logit(below)
        self.first = nn.Parameter(start[:1].float())
        self.log_steps = nn.Parameter(start.diff().log().float())

    def thresholds(self) -> Tensor:
        """Return the thresholds between neighboring classes, ascending, (classes - 1,)."""
        return torch.cat([self.first, self.first + self.log_steps.exp().cumsum(0)])

    def forward(self, number: Tensor) -> Tensor:
        """Return log probabilities, (n, classes), from one number per video, (n,)."""
        return cumulative_log_probabilities(number, self.thresholds())


def cumulative_log_probabilities(number: Tensor, thresholds: Tensor) -> Tensor:
    """Return the log probabilities of a cumulative logit model.

    The difference of two logistic functions is computed as a product, so that it does not vanish far from the thresholds:
    F(b) - F(a) = F(b) F(-a) (1 - exp(a - b)).

    Parameters
    ----------
    number : Tensor, (n,)
        Linear predictor.
    thresholds : Tensor, (classes - 1,)
        Ascending.

    Returns
    -------
    Tensor, (n, classes)
    """
    at = thresholds[None, :] - number[:, None]
    below, above = functional.logsigmoid(at), functional.logsigmoid(-at)
    between = torch.log(-torch.expm1(-thresholds.diff()))
    middle = below[:, 1:] + above[:, :-1] + between[None, :]
    return torch.cat([below[:, :1], middle, above[:, -1:]], dim=1)


class AttentionReader(nn.Module):
    """Instances -> 64 features each -> their neighbors in time, if wanted -> gated attention -> one number.

    Parameters
    ----------
    width : int
        Columns of an instance.
    over_time : str, optional
        ``convolution`` over five instances, or ``gru`` in both directions; by default the order of instances has no effect.
    """

    def __init__(self, width: int, over_time: OverTime | None = None):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(width, FEATURES), nn.ReLU())
        self.over_time: nn.Module | None = None
        if over_time == "convolution":
            self.over_time = nn.Conv1d(FEATURES, FEATURES, KERNEL, padding=KERNEL // 2)
        elif over_time == "gru":
            self.over_time = nn.GRU(FEATURES, FEATURES // 2, batch_first=True, bidirectional=True)
        self.attention = GatedAttention(FEATURES, HIDDEN)
        self.number = nn.Linear(FEATURES, 1, bias=False)

    def read(self, instances: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Read videos.

        Parameters
        ----------
        instances : Tensor, (rows, width)
            The instances of all videos, one video after the other.
        lengths : Tensor of int, (videos,)
            Number of instances of each video, at least one.

        Returns
        -------
        number : Tensor, (videos,)
        attention : Tensor, (rows,)
            Adds up to 1 over the instances of each video.
        """
        present = torch.arange(int(lengths.max()))[None, :] < lengths[:, None]
        encoded = self.encoder(instances)
        padded = encoded.new_zeros((*present.shape, FEATURES))
        padded[present] = encoded
        pooled, attention = self.attention(self._in_context(padded, lengths), present)
        return self.number(pooled)[:, 0], attention[present]

    def _in_context(self, padded: Tensor, lengths: Tensor) -> Tensor:
        """Add to each instance what its neighbors in time say; padding is 0 before and has no effect."""
        if isinstance(self.over_time, nn.Conv1d):
            return padded + torch.relu(self.over_time(padded.transpose(1, 2))).transpose(1, 2)
        if isinstance(self.over_time, nn.GRU):
            packed = pack_padded_sequence(padded, lengths, batch_first=True, enforce_sorted=False)
            found, _ = self.over_time(packed)
            context, _ = pad_packed_sequence(found, batch_first=True, total_length=padded.shape[1])
            return padded + context
        return padded


class AttentionNetwork(AttentionReader):
    """A reader whose number says which of several ordered classes a video belongs to.

    Parameters
    ----------
    width : int
        Columns of an instance.
    shares : Tensor, (classes,)
        Shares of the classes on the training side.
    over_time : str, optional
        As of `AttentionReader`.
    """

    def __init__(self, width: int, shares: Tensor, over_time: OverTime | None = None):
        super().__init__(width, over_time)
        self.link = CumulativeLink(shares)

    def forward(self, instances: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Read videos; return log probabilities, (videos, classes), and attention as `read` does."""
        number, attention = self.read(instances, lengths)
        return self.link(number), attention


class AnswerNetwork(AttentionReader):
    """A reader whose number is an answer's distance from what is expected without the video; 0 before training."""

    def __init__(self, width: int, over_time: OverTime | None = None):
        super().__init__(width, over_time)
        nn.init.zeros_(self.number.weight)

    def forward(self, instances: Tensor, lengths: Tensor) -> Tensor:
        """Read videos; return their numbers, (videos,)."""
        return self.read(instances, lengths)[0]
