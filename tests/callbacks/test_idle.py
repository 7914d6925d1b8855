"""Hooks that a callback inherits empty are not called in a step; its own are, and so are those of its parents."""

from lightning.pytorch import Callback
from lightning.pytorch.callbacks import LambdaCallback, ModelCheckpoint

from src.callbacks.checkpoints import BestAndLast
from src.callbacks.idle import EVERY_STEP, leave_out_idle_hooks


class Counting(Callback):
    def __init__(self) -> None:
        self.steps = 0

    def on_train_batch_end(self, *arguments: object) -> None:
        self.steps += 1


class Child(Counting):
    """Has the hook from its parent."""


def test_own_and_inherited_hooks_stay_and_empty_ones_go(tmp_path):
    for callback in (Counting(), Child()):
        leave_out_idle_hooks(callback)
        callback.on_train_batch_end()
        assert callback.steps == 1
        assert [name for name in EVERY_STEP if callable(getattr(callback, name))] == [
            "on_train_batch_end"
        ]
    lambdas = LambdaCallback(on_train_batch_start=lambda *arguments: None)
    leave_out_idle_hooks(lambdas)
    assert callable(lambdas.on_train_batch_start) and not callable(lambdas.on_train_batch_end)
    lightnings = ModelCheckpoint(tmp_path)
    leave_out_idle_hooks(lightnings)
    assert callable(lightnings.on_train_batch_end)
    ours = BestAndLast(str(tmp_path))
    leave_out_idle_hooks(ours)
    assert not callable(ours.on_train_batch_end) and callable(ours.on_train_epoch_end)
