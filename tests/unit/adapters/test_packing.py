"""Weights in oneDNN's order: which layers get them, and that nothing is lost where they cannot be used."""

from typing import Any

import pytest
import torch
from torch.nn import Linear

from serve_app.adapters.open_clip.packing import Measured, PackedLinear, called_in, pack_weights, unpacked


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


def always(_: Any) -> bool:
    return True


@torch.inference_mode()
def test_layers_that_are_called_are_packed_wherever_their_weights_are() -> None:
    parts = Parts()
    assert called_in(parts, lambda: parts(FEATURES)) == [parts.called, parts.tied]
    before, weight = parts(FEATURES), parts.called.weight.clone()
    assert pack_weights(parts, lambda: parts(FEATURES), always)
    assert [type(each) for each in parts.children()] == [PackedLinear, Linear, PackedLinear, Linear]
    assert parts.called.weight is parts.tied.weight
    assert torch.equal(unpacked(parts.called.weight), weight)
    assert torch.allclose(parts(FEATURES), before, atol=1e-6)


@torch.inference_mode()
def test_a_model_that_reads_a_weight_which_it_also_calls_stays_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    parts = ReadsWhatItCalls()
    before = parts(FEATURES)
    assert not pack_weights(parts, lambda: parts(FEATURES), always)
    assert {type(each) for each in parts.children()} == {Linear}
    assert torch.equal(parts(FEATURES), before)
    assert "cannot be packed" in caplog.text


def test_what_does_not_pay_or_cannot_be_packed_stays_as_it_is() -> None:
    parts = Parts()
    assert not pack_weights(parts, lambda: parts(FEATURES), lambda _: False)
    double = Parts().double()
    assert not pack_weights(double, lambda: double(FEATURES.double()), always)
    assert {type(each) for each in (*parts.children(), *double.children())} == {Linear}


def test_each_shape_is_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    measured = []
    monkeypatch.setattr(Measured, "_measure", lambda _, weight: measured.append(weight.shape) or len(measured) == 1)
    pays = Measured()
    assert [pays(torch.ones(shape)) for shape in ((2, 3), (2, 3), (3, 2), (2, 3))] == [True, True, False, True]
    assert measured == [(2, 3), (3, 2)]


def test_a_chip_that_cannot_pack_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Any) -> Any:
        raise RuntimeError("not on this chip")

    monkeypatch.setattr("serve_app.adapters.open_clip.packing.packed", refuse)
    assert not Measured()(torch.ones(4, 4))
