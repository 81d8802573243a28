import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from small_nets import ConcatFlatten, TinyMobile, randomised

from host.compress.evaluation import recalibrate_batch_norm
from host.compress.groups import analyse
from host.compress.importance import scores
from host.compress.sensitivity import CalibrationFailed, calibration_batches, estimated_losses, measure_losses
from host.compress.suffix import SuffixRunner
from host.compress.surgery import channels_to_keep, prune
from host.datasets.dataset import Split
from host.search.network import Plan

EXAMPLE = torch.zeros(1, 3, 8, 8)


def data(count=48, batch=16):
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(count, 3, 8, 8, generator=generator)
    labels = torch.randint(0, 5, (count,), generator=generator)
    return list(zip(images.split(batch), labels.split(batch), strict=True))


@pytest.fixture(scope="module", params=[TinyMobile, ConcatFlatten])
def case(request):
    module = randomised(request.param())
    network = analyse(module, EXAMPLE)
    return module, network, scores(network, module, "l1")


def by_surgery(module, network, ranking, plan, batches, recalibrate):
    """The same figure the long way: cut for real, recalibrate, evaluate in full."""
    pruned = prune(network, module, channels_to_keep(network, ranking, plan))
    if recalibrate:
        recalibrate_batch_norm(pruned, torch.cat(recalibrate), len(recalibrate), batch_size=len(recalibrate[0]))
    with torch.no_grad():
        losses = [F.cross_entropy(pruned(images), labels, reduction="sum") for images, labels in batches]
    return float(sum(losses)) / sum(len(labels) for _, labels in batches)


@pytest.mark.parametrize("fitted", [0, 2])
def test_losses_are_those_of_real_surgery(case, fitted):
    module, network, ranking = case
    batches = data()
    recalibrate = [images for images, _ in batches[:fitted]]
    widths = {group.name: (group.channels // 4, group.channels // 2) for group in network.network.groups}
    found = measure_losses(network, module, ranking, widths, batches, recalibrate=recalibrate, workers=2)
    assert set(found) == set(widths)
    full = by_surgery(module, network, ranking, network.network.full_plan(), batches, recalibrate)
    for group in network.network.groups:
        highest = 0.0
        assert found[group.name][group.channels] == 0
        for width in (group.channels // 2, group.channels // 4):
            cut = by_surgery(module, network, ranking, Plan(kept={group.name: width}), batches, recalibrate)
            highest = max(highest, cut - full)
            assert found[group.name][width] == pytest.approx(highest, abs=2e-4)


def test_losses_rise_and_the_gaps_are_filled(case):
    module, network, ranking = case
    widths = {group.name: tuple(range(1, group.channels)) for group in network.network.groups}
    # Labels that the network gets right, so that every damage shows.
    with torch.no_grad():
        right = [(images, module(images).argmax(1)) for images, _ in data()]
    steps = []
    found = measure_losses(
        network,
        module,
        ranking,
        widths,
        right,
        measured_widths=2,
        on_step=lambda done, total: steps.append((done, total)),
    )
    total = 2 * len(widths)
    assert steps == [(done, total) for done in range(1, total + 1)]
    for group in network.network.groups:
        by_width = found[group.name]
        assert set(by_width) == {*widths[group.name], group.channels}
        descending = [by_width[width] for width in sorted(by_width, reverse=True)]
        assert all(earlier <= later for earlier, later in itertools.pairwise(descending))
    assert any(max(by_width.values()) > 0.01 for by_width in found.values())


def test_the_number_of_workers_does_not_matter(case):
    module, network, ranking = case
    widths = {group.name: (1, group.channels // 2) for group in network.network.groups}
    batches = data()
    recalibrate = [batches[0][0]]
    one, three = (
        measure_losses(network, module, ranking, widths, batches, recalibrate=recalibrate, workers=workers)
        for workers in (1, 3)
    )
    assert one == three


def test_without_time_only_the_smallest_widths_are_measured(case):
    module, network, ranking = case
    widths = {group.name: (1, group.channels // 2) for group in network.network.groups}
    steps = []
    found = measure_losses(
        network, module, ranking, widths, data(), budget_s=0.0, on_step=lambda *step: steps.append(step)
    )
    assert len(steps) == len(widths)
    assert all(set(found[group.name]) == {*widths[group.name], group.channels} for group in network.network.groups)


def test_module_and_threads_are_as_before(case):
    module, network, ranking = case
    before = {key: value.clone() for key, value in module.state_dict().items()}
    threads = torch.get_num_threads()
    batches = data()
    measure_losses(network, module, ranking, {"hidden": (1,)} if "hidden" in network.cuts else {"stem": (1,)}, batches)
    assert all(torch.equal(before[key], value) for key, value in module.state_dict().items())
    assert torch.get_num_threads() == threads
    assert all("forward" not in vars(layer) for layer in module.modules())


def test_a_network_that_yields_no_numbers_is_refused():
    module = randomised(TinyMobile())
    network = analyse(module, EXAMPLE)
    ranking = scores(network, module, "l1")
    with torch.no_grad():
        module.head.weight[0, 0] = float("nan")
    with pytest.raises(CalibrationFailed, match="is nan before anything is pruned"):
        measure_losses(network, module, ranking, {"stem": (4,)}, data())


def test_unknown_groups_are_refused(case):
    module, network, ranking = case
    with pytest.raises(ValueError, match="no group is named nobody"):
        measure_losses(network, module, ranking, {"nobody": (1,)}, data())


def test_only_the_changed_part_runs_again():
    module = randomised(TinyMobile())
    images = torch.randn(4, 3, 8, 8)
    runner = SuffixRunner(module, images[:1])
    runner.keep_recordings(4, 2**20)
    _, recording = runner.record(images)
    ran = []
    for name, layer in runner.module.named_modules():
        layer.register_forward_hook(lambda _layer, _inputs, _output, name=name: ran.append(name))
    plain = module(images)
    torch.testing.assert_close(runner.run(images, recording, "block2.project"), plain)
    assert "block1.expand" not in ran
    assert "block2.project" in ran
    # The residual sum works in place; a recording must survive it.
    torch.testing.assert_close(runner.run(images, recording, "block2.project"), plain)


def test_calibration_batches_are_drawn_once_each():
    split = Split(images=np.arange(40, dtype=np.float32).reshape(40, 1, 1, 1), labels=np.arange(40, dtype=np.int64))
    batches = calibration_batches(split, 20, batch_size=8)
    assert [len(labels) for _, labels in batches] == [8, 8, 4]
    labels = torch.cat([labels for _, labels in batches])
    assert len(set(labels.tolist())) == 20
    assert torch.equal(torch.cat([images for images, _ in batches]).flatten().long(), labels)


class Killed(Exception):
    pass


def test_a_run_that_was_stopped_measures_only_the_rest(case):
    module, network, ranking = case
    widths = {group.name: (1, group.channels // 2) for group in network.network.groups}
    whole = measure_losses(network, module, ranking, widths, data(), workers=1)
    kept = {}

    def stop_after_two(group, width, loss):
        kept[group, width] = loss
        if len(kept) == 2:
            raise Killed

    with pytest.raises(Killed):
        measure_losses(network, module, ranking, widths, data(), workers=1, on_found=stop_after_two)
    rest = {}
    again = measure_losses(
        network,
        module,
        ranking,
        widths,
        data(),
        known=kept,
        on_found=lambda group, width, loss: rest.update({(group, width): loss}),
    )
    assert again == whole
    assert not set(rest) & set(kept)
    assert len(rest) + len(kept) == 2 * len(widths)
    # With everything known, no image is run: batches that cannot be are no matter.
    assert measure_losses(network, module, ranking, widths, [], known={**kept, **rest}) == whole


def test_estimates_add_up_the_scores_that_go(case):
    _module, network, ranking = case
    widths = {group.name: (group.channels // 2,) for group in network.network.groups}
    found = estimated_losses(network, ranking, widths)
    for group in network.network.groups:
        half = group.channels // 2
        assert found[group.name][group.channels] == 0
        lowest = sorted(ranking[group.name].tolist())[: group.channels - half]
        assert found[group.name][half] == pytest.approx(sum(lowest))
