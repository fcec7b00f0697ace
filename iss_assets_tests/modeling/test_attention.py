"""Attention over the instances of a video, and the ordinal head, against computations of their own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from statsmodels.miscmodels.ordinal_model import OrderedModel

from iss_assets.modeling.attention import (
    AttentionNetwork,
    CumulativeLink,
    GatedAttention,
    cumulative_log_probabilities,
)
from iss_assets.modeling.experiments import OverTime


def videos(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Three videos of 4, 1 and 6 instances, one after the other, with 7 columns."""
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.normal(size=(11, 7))).float(), torch.tensor([4, 1, 6])


def network(over_time: OverTime | None = None, width: int = 7, seed: int = 3) -> AttentionNetwork:
    torch.manual_seed(seed)
    return AttentionNetwork(width, torch.tensor([0.4, 0.1, 0.2, 0.3]), over_time)


def test_gated_attention_is_that_of_the_paper_computed_by_hand() -> None:
    torch.manual_seed(1)
    pool = GatedAttention(5, 3).double()
    instances = torch.randn(2, 4, 5, dtype=torch.float64)
    present = torch.tensor([[True, True, True, True], [True, True, False, False]])
    pooled, attention = pool(instances, present)
    own = {name: value.detach().numpy() for name, value in pool.named_parameters()}
    for bag, length in ((0, 4), (1, 2)):
        scores = []
        for h in instances[bag, :length].numpy():
            content = np.tanh(own["content.weight"] @ h + own["content.bias"])
            gate = 1 / (1 + np.exp(-(own["gate.weight"] @ h + own["gate.bias"])))
            scores.append(float(own["weight.weight"][0] @ (content * gate)))
        weights = np.exp(scores) / np.exp(scores).sum()
        assert np.allclose(attention[bag, :length].detach(), weights, atol=1e-12)
        expected = sum(w * h for w, h in zip(weights, instances[bag].numpy(), strict=False))
        assert np.allclose(pooled[bag].detach(), expected, atol=1e-12)
    assert attention[1, 2:].tolist() == [0, 0]


def test_the_ordinal_likelihood_is_that_of_statsmodels() -> None:
    rng = np.random.default_rng(2)
    x = rng.normal(size=(60, 2))
    level = np.digitize(x @ [1.5, -1.0] + rng.logistic(size=60), [-1.0, 0.5, 2.0])
    reference = OrderedModel(level, x, distr="logit")
    # slopes, the first threshold, and the logarithms of the steps to the next ones
    parameters = np.array([1.2, -0.7, -0.8, 0.3, -0.4])
    head = CumulativeLink(torch.ones(4)).double()
    with torch.no_grad():
        head.first.copy_(torch.tensor(parameters[2:3]))
        head.log_steps.copy_(torch.tensor(parameters[3:]))
    found = head(torch.from_numpy(x @ parameters[:2])).detach().numpy()
    assert np.allclose(found[np.arange(60), level], reference.loglikeobs(parameters), atol=1e-10)
    assert np.allclose(np.exp(found), reference.predict(parameters), atol=1e-10)


def test_fitting_the_ordinal_head_finds_the_maximum_likelihood_of_statsmodels() -> None:
    rng = np.random.default_rng(4)
    x = rng.normal(size=(200, 1))
    level = np.digitize(1.3 * x[:, 0] + rng.logistic(size=200), [-1.0, 0.5, 2.0])
    head, slope = (
        CumulativeLink(torch.ones(4)).double(),
        torch.zeros(1, dtype=torch.float64, requires_grad=True),
    )
    optimizer = torch.optim.LBFGS([slope, *head.parameters()], max_iter=200, tolerance_grad=1e-10)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = torch.nn.functional.nll_loss(head(torch.from_numpy(x[:, 0]) * slope), torch.from_numpy(level))
        loss.backward()
        return loss

    optimizer.step(closure)
    fitted = OrderedModel(level, x, distr="logit").fit(method="bfgs", disp=False, gtol=1e-8)
    assert slope.item() == pytest.approx(fitted.params[0], abs=1e-4)
    expected = OrderedModel(level, x, distr="logit").transform_threshold_params(fitted.params)[1:-1]
    assert np.allclose(head.thresholds().detach(), expected, atol=1e-4)


def test_with_two_classes_the_ordinal_head_is_logistic_regression() -> None:
    number = torch.linspace(-3, 3, 7, dtype=torch.float64)
    found = cumulative_log_probabilities(number, torch.tensor([0.5], dtype=torch.float64)).exp()
    assert np.allclose(found[:, 1], 1 / (1 + np.exp(0.5 - number.numpy())))
    assert np.allclose(found.sum(1), 1)


def test_far_from_the_thresholds_probabilities_stay_finite_and_keep_a_gradient() -> None:
    number = torch.tensor([-60.0, 60.0], requires_grad=True)
    found = cumulative_log_probabilities(number, torch.tensor([-1.0, 0.0, 1.0]))
    assert torch.isfinite(found).all()
    found[0, 3].backward()
    assert number.grad is not None and number.grad[0].item() == pytest.approx(1, abs=1e-6)


def test_the_ordinal_head_starts_from_the_shares_of_the_levels() -> None:
    shares = torch.tensor([13.0, 4.0, 4.0, 8.0])
    assert np.allclose(CumulativeLink(shares)(torch.zeros(1)).exp().detach()[0], shares / 29, atol=1e-6)


@pytest.mark.parametrize("over_time", [None, "convolution", "gru"])
def test_the_gradients_are_those_of_finite_differences(over_time: OverTime | None) -> None:
    model = network(over_time, width=3).double()
    instances = torch.randn(
        7, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(5), requires_grad=True
    )

    def both(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        found: tuple[torch.Tensor, torch.Tensor] = model(rows, torch.tensor([3, 4]))
        return found

    assert torch.autograd.gradcheck(both, (instances,), eps=1e-6, atol=1e-6)


@pytest.mark.parametrize("over_time", [None, "convolution", "gru"])
def test_a_video_is_read_the_same_alone_and_next_to_longer_ones(over_time: OverTime | None) -> None:
    instances, lengths = videos()
    model = network(over_time).eval()
    together, attention = model(instances, lengths)
    for number, (first, last) in enumerate(((0, 4), (4, 5), (5, 11))):
        alone, own = model(instances[first:last], torch.tensor([last - first]))
        assert torch.allclose(alone[0], together[number], atol=1e-6)
        assert torch.allclose(own, attention[first:last], atol=1e-6)
        assert own.sum().item() == pytest.approx(1, abs=1e-6)


def test_the_order_of_instances_matters_only_to_networks_that_look_over_time() -> None:
    instances, _ = videos()
    shuffled = torch.tensor([3, 0, 10, 5, 1, 9, 2, 8, 4, 7, 6])
    length = torch.tensor([11])
    for over_time, depends in ((None, False), ("convolution", True), ("gru", True)):
        model = network(over_time).eval()  # type: ignore[arg-type]  # a literal from a tuple
        straight, attention = model(instances, length)
        mixed, moved = model(instances[shuffled], length)
        assert torch.allclose(straight, mixed, atol=1e-6) is not depends
        assert torch.allclose(attention[shuffled], moved, atol=1e-6) is not depends
