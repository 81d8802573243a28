import pytest
import torch
from small_nets import ChannelMean, ConcatFlatten, GroupedNet, TinyMobile, Untraceable, randomised
from torch import nn

from host.compress.groups import ModelNotPrunable, analyse
from host.search.network import LayerKind, Part
from host.zoo.cifar_resnet import CifarResNet
from host.zoo.mobilenet_v2 import MobileNetV2

EXAMPLE = torch.zeros(1, 3, 8, 8)


def layer_of(network, name):
    return next(layer for layer in network.network.layers if layer.name == name)


def test_residual_and_depthwise_layers_share_a_group():
    network = analyse(TinyMobile(), EXAMPLE)
    groups = {group.name: group for group in network.network.groups}
    assert set(groups) == {"stem", "block1.expand", "block2.expand"}
    assert groups["stem"].layers == ("stem", "block1.project", "block2.project")
    assert groups["block1.expand"].layers == ("block1.expand", "block1.depthwise")
    assert [alone.layer for alone in network.network.left_alone] == ["head"]
    assert "output" in network.network.left_alone[0].reason
    depthwise = layer_of(network, "block1.depthwise")
    assert depthwise.kind is LayerKind.DEPTHWISE
    assert (depthwise.kernel, depthwise.input_pixels, depthwise.groups) == (9, 64, 24)
    assert depthwise.inputs == (Part(group="block1.expand"),)
    assert depthwise.outputs == (Part(group="block1.expand"),)


def test_layers_come_in_the_order_of_execution():
    names = [layer.name for layer in analyse(TinyMobile(), EXAMPLE).network.layers]
    assert names == [
        "stem", "block1.expand", "block1.depthwise", "block1.project",
        "block2.expand", "block2.depthwise", "block2.project", "head",
    ]  # fmt: skip


def test_concatenation_gives_parts_and_flatten_gives_features():
    network = analyse(ConcatFlatten(), EXAMPLE)
    assert {group.name for group in network.network.groups} == {"left", "right", "merge", "hidden"}
    assert set(layer_of(network, "merge").inputs) == {Part(group="left"), Part(group="right")}
    assert layer_of(network, "merge").input_fixed == 0
    assert layer_of(network, "hidden").inputs == (Part(group="merge", features=16),)
    assert layer_of(network, "left").input_fixed == 3


def test_grouped_convolutions_set_a_multiple():
    network = analyse(GroupedNet(), EXAMPLE)
    multiples = {group.name: group.multiple for group in network.network.groups}
    assert multiples == {"stem": 2, "grouped": 2, "mix": 1}
    assert layer_of(network, "grouped").kind is LayerKind.GROUPED


def test_residual_streams_with_zero_padding_join_groups():
    network = analyse(CifarResNet(depth=20), torch.zeros(1, 3, 32, 32))
    inner = {f"layer{stage}.{block}.conv1" for stage in (1, 2, 3) for block in (0, 1, 2)}
    assert {group.name for group in network.network.groups} == inner | {"conv1", "layer2.0.conv2", "layer3.0.conv2"}
    assert [alone.layer for alone in network.network.left_alone] == ["linear"]
    widest = layer_of(network, "layer3.2.conv2")
    assert widest.outputs == (Part(group="conv1"), Part(group="layer2.0.conv2"), Part(group="layer3.0.conv2"))
    assert (widest.output_fixed, widest.inputs) == (0, (Part(group="layer3.2.conv1"),))
    assert layer_of(network, "linear").inputs == widest.outputs
    full = network.network.full_plan().kept
    assert widest.widths({**full, "conv1": 8, "layer3.0.conv2": 20}) == (64, 44)


def test_pads_in_foreign_code_keep_only_the_padded_channels():
    class Shortcut(nn.Module):
        def forward(self, x):
            return 2 * torch.nn.functional.pad(x, (0, 0, 0, 0, 2, 2))

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.wide, self.shortcut = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 12, 1), Shortcut()
            self.head = nn.Linear(12, 5)

        def forward(self, x):
            x = self.stem(x)
            return self.head(torch.relu(self.wide(x) + self.shortcut(x)).mean((2, 3)))

    network = analyse(Net(), EXAMPLE)
    assert [(group.name, group.channels) for group in network.network.groups] == [("stem", 8)]
    assert layer_of(network, "wide").outputs == (Part(group="stem"),)
    assert layer_of(network, "wide").output_fixed == 4
    assert (
        "4 of its 12 channels stay: shortcut pads channels with zeros and does more"
        in network.network.left_alone[0].reason
    )


def test_zoo_macs_agree_with_a_count_by_hooks():
    from host.compress.counting import count_macs

    for module, shape in (
        (CifarResNet(depth=20), (3, 32, 32)),
        (MobileNetV2(width=0.5, input_size=32, in_channels=1, num_classes=10), (1, 32, 32)),
    ):
        network = analyse(module, torch.zeros(1, *shape)).network
        assert network.macs(network.full_plan().kept) == count_macs(module, shape)


def test_channels_that_interact_outside_of_layers_are_left_alone():
    network = analyse(ChannelMean(), EXAMPLE)
    assert [group.name for group in network.network.groups] == ["inner"]
    reasons = {alone.layer: alone.reason for alone in network.network.left_alone}
    assert "a mean over all of them" in reasons["stem"]


def test_an_operation_that_is_not_known_is_named():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.head = nn.Conv2d(3, 8, 1), nn.Linear(8, 5)

        def forward(self, x):
            return self.head(torch.linalg.qr(self.stem(x)).Q.mean((2, 3)))

    network = analyse(Odd(), EXAMPLE)
    assert not network.network.groups
    assert "aten.linalg_qr in the model, which is not followed" in network.network.left_alone[0].reason


@pytest.mark.parametrize("frozen", [False, True])
def test_memory_formats_and_inference_mode_hide_nothing(frozen):
    class Wrapped(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(
                nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 6, 3),
                nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 5),
            )  # fmt: skip

        def forward(self, x):
            with torch.inference_mode(frozen):
                return self.net(x)

    module = Wrapped() if frozen else Wrapped().to(memory_format=torch.channels_last)
    groups = {group.name: group.channels for group in analyse(module, EXAMPLE).network.groups}
    assert groups == {"net.0": 8, "net.3": 6}


def test_code_with_numbers_in_it_is_found_out():
    class Fixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.head = nn.Conv2d(3, 8, 1), nn.Linear(6, 5)
            self.left, self.right = nn.Conv2d(4, 6, 1), nn.Conv2d(4, 6, 3, padding=1)

        def forward(self, x):
            x = self.stem(x)
            return self.head((self.left(x[:, :4]) + self.right(x[:, 4:])).mean((2, 3)))

    network = analyse(Fixed(), EXAMPLE)
    assert [group.name for group in network.network.groups] == ["left"]
    assert network.network.left_alone[0].layer == "stem"
    assert (
        "are sliced in the model (the network does not run without some of them" in network.network.left_alone[0].reason
    )


def test_the_module_is_not_changed():
    module = randomised(TinyMobile()).train()
    before = {key: value.clone() for key, value in module.state_dict().items()}
    analyse(module, EXAMPLE)
    assert module.training
    assert all(torch.equal(before[key], value) for key, value in module.state_dict().items())


@pytest.mark.parametrize(
    ("module", "example", "words"),
    [
        (Untraceable(), EXAMPLE, "Untraceable cannot be traced"),
        (TinyMobile(), torch.zeros(1, 1, 8, 8), "TinyMobile does not run on images"),
        (nn.Flatten(), EXAMPLE, "Flatten runs no nn.Conv2d"),
        (TinyMobile(), torch.zeros(3, 8, 8), "must be images"),
    ],
)
def test_what_cannot_be_analysed_is_named(module, example, words):
    with pytest.raises(ModelNotPrunable, match=words):
        analyse(module, example)
