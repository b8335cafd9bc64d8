"""Weights in oneDNN's order: which layers get them, and that nothing is lost where they cannot be used."""

from typing import Any

import pytest
import torch
from torch.nn import Linear

from serve_app.adapters.open_clip import weight_packing
from serve_app.adapters.open_clip.weight_packing import PackedLinear, called_in, pack_weights, unpacked


class Parts(torch.nn.Module):
    """One layer that is called twice, one whose weight alone is read, one that shares the first one's weight, one unused."""

    def __init__(self) -> None:
        super().__init__()
        self.called, self.read, self.tied, self.unused = Linear(8, 8), Linear(8, 8), Linear(8, 8), Linear(8, 8)
        self.tied.weight = self.called.weight

    def forward(self, features: Any) -> Any:
        features = self.called(self.called(features))
        return self.tied(torch.nn.functional.linear(features, self.read.weight))


class ReadsWhatItCalls(Parts):
    def forward(self, features: Any) -> Any:
        return super().forward(features) @ self.called.weight


FEATURES = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def it_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weight_packing, "pays_here", lambda _: True)


@pytest.mark.usefixtures("it_pays")
@torch.inference_mode()
def test_layers_that_are_called_are_packed_wherever_their_weights_are() -> None:
    parts = Parts()
    assert called_in(parts, lambda: parts(FEATURES)) == [parts.called, parts.tied]
    before, weight = parts(FEATURES), parts.called.weight.clone()
    assert pack_weights(parts, lambda: parts(FEATURES))
    assert [type(each) for each in parts.children()] == [PackedLinear, Linear, PackedLinear, Linear]
    assert parts.called.weight is parts.tied.weight
    assert torch.equal(unpacked(parts.called.weight), weight)
    assert torch.allclose(parts(FEATURES), before, atol=1e-6)


@pytest.mark.usefixtures("it_pays")
@torch.inference_mode()
def test_a_model_that_reads_a_weight_which_it_also_calls_stays_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    parts = ReadsWhatItCalls()
    before = parts(FEATURES)
    assert not pack_weights(parts, lambda: parts(FEATURES))
    assert {type(each) for each in parts.children()} == {Linear}
    assert torch.equal(parts(FEATURES), before)
    assert "cannot be packed" in caplog.text


def test_what_does_not_pay_or_cannot_be_packed_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    parts, double = Parts(), Parts().double()
    asked: list[Any] = []
    monkeypatch.setattr(weight_packing, "pays_here", asked.append)
    assert not pack_weights(parts, lambda: parts(FEATURES))
    assert asked == [torch.float32]
    assert not pack_weights(double, lambda: double(FEATURES.double()))
    assert len(asked) == 1
    assert {type(each) for each in (*parts.children(), *double.children())} == {Linear}


@pytest.mark.parametrize(("packed_s", "plain_s", "pays"), [(1.0, 2.0, True), (2.0, 2.0, False), (3.0, 2.0, False)])
def test_weights_are_packed_where_that_is_faster(
    packed_s: float, plain_s: float, pays: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weight_packing, "seconds_of", lambda *_: [packed_s, plain_s])
    assert weight_packing.pays_here(torch.float32) is pays


def test_a_chip_that_cannot_pack_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Any) -> Any:
        raise RuntimeError("not on this chip")

    monkeypatch.setattr(weight_packing, "packed", refuse)
    assert not weight_packing.pays_here(torch.float32)
