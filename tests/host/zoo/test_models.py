import pytest
import torch

from host.compress.counting import count_macs, count_parameters
from host.zoo.cifar_resnet import CifarResNet, ZeroPadShortcut
from host.zoo.mobilenet_v2 import MobileNetV2, round_channels


@pytest.mark.parametrize(
    ("depth", "parameters", "macs"),
    [(20, 0.27e6, 40.8e6), (56, 0.85e6, 125.5e6)],
)
def test_resnets_have_the_papers_sizes(depth, parameters, macs):
    """Parameters from table 6 of the paper; MACs as counted for CIFAR nets since (41 M and 126 M)."""
    net = CifarResNet(depth=depth)
    assert count_parameters(net) == pytest.approx(parameters, rel=0.02)
    assert count_macs(net, (3, 32, 32)) == pytest.approx(macs, rel=0.01)


@pytest.mark.parametrize(("width", "parameters", "macs"), [(1.0, 3.4e6, 300e6), (1.4, 6.9e6, 585e6)])
def test_mobilenet_has_the_papers_sizes(width, parameters, macs):
    """Table 4 of the paper: 3.4 M parameters and 300 M MACs, and 6.9 M and 585 M at width 1.4."""
    net = MobileNetV2(width=width)
    assert count_parameters(net) == pytest.approx(parameters, rel=0.12 if width > 1 else 0.04)
    assert count_macs(net, (3, 224, 224)) == pytest.approx(macs, rel=0.02)


def test_mobilenet_at_width_1_has_exactly_the_known_count():
    assert count_parameters(MobileNetV2()) == 3_504_872


def test_small_images_keep_their_size_through_the_first_two_strides():
    net = MobileNetV2(width=0.5, input_size=32, in_channels=1, num_classes=10).eval()
    with torch.no_grad():
        features = net.blocks(net.stem(torch.zeros(1, 1, 32, 32)))
        assert features.shape == (1, 160, 4, 4)
        assert net(torch.zeros(2, 1, 32, 32)).shape == (2, 10)
        large = MobileNetV2(width=0.5, input_size=32, in_channels=1, num_classes=10, small_image=False).eval()
        assert large.blocks(large.stem(torch.zeros(1, 1, 32, 32))).shape == (1, 160, 1, 1)


@pytest.mark.parametrize(
    ("channels", "rounded"), [(1, 8), (12, 16), (11.9, 16), (16, 16), (20, 24), (33.6, 32), (44.8, 48)]
)
def test_channels_are_rounded_as_the_authors_do(channels, rounded):
    assert round_channels(channels) == rounded


def test_the_shortcut_takes_every_second_pixel_and_pads_channels_evenly():
    x = torch.arange(2 * 4 * 4, dtype=torch.float32).reshape(1, 2, 4, 4)
    y = ZeroPadShortcut(2, 4, 2)(x)
    assert y.shape == (1, 4, 2, 2)
    assert torch.equal(y[:, 1:3], x[:, :, ::2, ::2])
    assert not y[:, 0].any()
    assert not y[:, 3].any()


@pytest.mark.parametrize("width", [0.3, 0.5, 1.7])
def test_resnet_widths_that_need_an_uneven_padding(width):
    net = CifarResNet(depth=8, width=width, in_channels=1, num_classes=4).eval()
    assert net(torch.zeros(2, 1, 16, 16)).shape == (2, 4)


def test_impossible_sizes_are_refused():
    with pytest.raises(ValueError, match="depth must be 6 n"):
        CifarResNet(depth=21)
    with pytest.raises(ValueError, match="input_size must be at least 4"):
        CifarResNet(depth=8, input_size=2)


@pytest.mark.parametrize(
    "net",
    [
        MobileNetV2(width=0.25, input_size=32, in_channels=1, num_classes=3),
        CifarResNet(depth=8, width=0.5, num_classes=3),
    ],
    ids=["mobilenet_v2", "resnet8"],
)
def test_exported_graph_equals_the_module(net):
    net.eval()
    channels = next(net.parameters()).shape[1]
    x = torch.rand(2, channels, 32, 32)
    exported = torch.export.export(net, (x,)).module()
    with torch.no_grad():
        torch.testing.assert_close(exported(x), net(x))
