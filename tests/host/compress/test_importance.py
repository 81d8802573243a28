import pytest
import torch
from small_nets import ConcatFlatten, GroupedNet, TinyMobile, randomised
from torch import nn

from host.compress import options
from host.compress.cuts import Side, mask_consumers
from host.compress.groups import analyse
from host.compress.importance import CRITERIA, scores

EXAMPLE = torch.zeros(1, 3, 8, 8)
DEAD = [1, 5]


def batches(count=2):
    generator = torch.Generator().manual_seed(0)
    return [
        (torch.randn(16, 3, 8, 8, generator=generator), torch.randint(0, 5, (16,), generator=generator))
        for _ in range(count)
    ]


def with_dead_channels(module, cuts):
    """Zero everything that makes, scales or reads the channels DEAD."""
    with torch.no_grad():
        for cut in cuts:
            layer = module.get_submodule(cut.module)
            for channel in DEAD:
                index = list(cut.indices[channel])
                if cut.side is Side.INPUT:
                    layer.weight[:, index] = 0
                else:
                    layer.weight[index] = 0
                    if layer.bias is not None:
                        layer.bias[index] = 0


@pytest.mark.parametrize("criterion", sorted(set(CRITERIA) - {"random", "fpgm"}))
@pytest.mark.parametrize(
    ("factory", "group"), [(TinyMobile, "block1.expand"), (TinyMobile, "stem"), (ConcatFlatten, "merge")]
)
def test_dead_channels_come_last(criterion, factory, group):
    module = randomised(factory())
    network = analyse(module, EXAMPLE)
    with_dead_channels(module, network.cuts[group])
    found = scores(network, module, criterion, batches())[group]
    assert sorted(torch.argsort(found)[: len(DEAD)].tolist()) == DEAD
    assert (found[DEAD] == 0).all()
    assert (found >= 0).all()
    assert found.mean() == pytest.approx(1)


def test_taylor_is_the_first_order_change_of_the_loss():
    module = randomised(TinyMobile())
    network = analyse(module, EXAMPLE)
    data = batches(1)
    found = scores(network, module, "taylor", data)["block1.expand"]
    images, labels = data[0]
    cuts = network.cuts
    # The change when the channel fades by a thousandth, per thousandth.
    step = 1e-3
    module.double()
    slopes = []
    with torch.no_grad():
        base = nn.functional.cross_entropy(module(images.double()), labels)
        for channel in range(6):
            weight = module.block1.project.weight
            before = weight.clone()
            weight[:, channel] *= 1 - step
            slopes.append(abs(float(nn.functional.cross_entropy(module(images.double()), labels) - base)) / step)
            weight.copy_(before)
    assert cuts["block1.expand"]
    ratio = found[:6] / torch.tensor(slopes, dtype=torch.float64)
    torch.testing.assert_close(ratio, ratio.mean().expand(6), rtol=0.05, atol=0)


def test_the_command_offers_every_criterion():
    assert tuple(CRITERIA) == options.CRITERIA


def test_norms_by_hand():
    module = randomised(ConcatFlatten())
    network = analyse(module, EXAMPLE)
    weights = module.left.weight.detach().double().flatten(1)
    absolute, squared = weights.abs().sum(1), weights.square().sum(1).sqrt()
    torch.testing.assert_close(scores(network, module, "l1")["left"], absolute / absolute.mean())
    torch.testing.assert_close(scores(network, module, "l2")["left"], squared / squared.mean())
    # Without batch norm, bn-gamma falls back on l2.
    torch.testing.assert_close(scores(network, module, "bn-gamma")["left"], squared / squared.mean())


def test_bn_gamma_reads_batch_norm_only():
    module = randomised(TinyMobile())
    network = analyse(module, EXAMPLE)
    gammas = [module.block1.bn1.weight.detach().abs().double(), module.block1.bn2.weight.detach().abs().double()]
    expected = sum(gamma / gamma.mean() for gamma in gammas) / 2
    found = scores(network, module, "bn-gamma")["block1.expand"]
    torch.testing.assert_close(found, expected / expected.mean())


def test_grouped_consumers_count_for_their_own_channels():
    module = randomised(GroupedNet())
    network = analyse(module, EXAMPLE)
    mask_consumers(module, network.cuts, {"stem": [2, 6]})
    found = scores(network, module, "taylor", batches())["stem"]
    assert sorted(torch.argsort(found)[:2].tolist()) == [2, 6]


def test_random_follows_the_seed_and_differs_by_group():
    module = TinyMobile()
    network = analyse(module, EXAMPLE)
    first, again, other = (scores(network, module, "random", seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first["stem"], again["stem"])
    assert not torch.equal(first["stem"], other["stem"])
    assert not torch.equal(first["block1.expand"][:16], first["block2.expand"])


def test_the_module_is_not_changed_by_gradients():
    module = randomised(TinyMobile()).train()
    network = analyse(module, EXAMPLE)
    before = {key: value.clone() for key, value in module.state_dict().items()}
    scores(network, module, "taylor", batches())
    assert all(torch.equal(before[key], value) for key, value in module.state_dict().items())
    assert module.training
    assert all(parameter.grad is None and parameter.requires_grad for parameter in module.parameters())


def test_wrong_calls_say_what_is_missing():
    module = TinyMobile()
    network = analyse(module, EXAMPLE)
    with pytest.raises(ValueError, match="there are bn-gamma, fpgm, hessian, l1, l2, random, taylor"):
        scores(network, module, "l3")
    with pytest.raises(ValueError, match="'taylor' needs batches"):
        scores(network, module, "taylor")
    with pytest.raises(ValueError, match="no batch"):
        scores(network, module, "taylor", [])


def test_hessian_is_half_the_mean_squared_slope_of_each_image():
    module = randomised(TinyMobile())
    network = analyse(module, EXAMPLE)
    images, labels = batches(1)[0]
    found = scores(network, module, "hessian", [(images, labels)])["block1.expand"]
    consumer = module.block1.project
    gate = torch.ones(consumer.in_channels, requires_grad=True)
    handle = consumer.register_forward_pre_hook(lambda _, inputs: inputs[0] * gate[:, None, None])
    squares = torch.zeros(consumer.in_channels)
    for image, label in zip(images, labels, strict=True):
        loss = nn.functional.cross_entropy(module(image[None]), label[None])
        squares += torch.autograd.grad(loss, gate)[0].square()
    handle.remove()
    expected = (squares / len(images) / 2).double()
    torch.testing.assert_close(found, expected / expected.mean(), rtol=1e-4, atol=1e-6)


def test_the_geometric_median_is_the_filter_that_goes_first():
    module = randomised(ConcatFlatten())
    network = analyse(module, EXAMPLE)
    filters = module.left.weight.detach().double().flatten(1)
    distances = torch.stack([torch.stack([(one - two).norm() for two in filters]).sum() for one in filters])
    torch.testing.assert_close(scores(network, module, "fpgm")["left"], distances / distances.mean())
    with torch.no_grad():  # a filter in the midst of the others, and not the smallest of them
        module.left.weight += 10
        module.left.weight[3] = module.left.weight.mean(0)
    assert int(scores(network, module, "fpgm")["left"].argmin()) == 3
    assert int(scores(network, module, "l1")["left"].argmin()) != 3
