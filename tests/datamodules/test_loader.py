"""Orders and batches: nothing lost, nothing doubled, resumable."""

from itertools import product

import pytest
import torch

from src.datamodules.loader import BatchLoader, EpochOrder

WORLDS = [1, 2, 3, 4]
SIZES = [8, 9, 13, 64, 101, 359]
BATCHES = [2, 3, 7, 64, 512]


def orders(
    size: int, batch: int, shuffle: bool, world: int, epoch: int = 0, seed: int = 0
) -> list[EpochOrder]:
    made = [EpochOrder(size, batch, shuffle, seed, rank, world) for rank in range(world)]
    for order in made:
        order.set_epoch(epoch)
    return made


@pytest.mark.parametrize(("size", "batch", "world"), [*product(SIZES, BATCHES, WORLDS)])
def test_an_evaluation_visits_every_sample_exactly_once(size, batch, world):
    batches = [order.batches() for order in orders(size, batch, False, world)]
    assert {len(mine) for mine in batches} == {
        order.steps for order in orders(size, batch, False, world)
    }  # equally many, as announced
    sizes = [len(rows) for mine in batches for rows in mine]
    assert min(sizes) > 0 and max(sizes) <= batch
    assert sorted(torch.cat([rows for mine in batches for rows in mine]).tolist()) == list(
        range(size)
    )


@pytest.mark.parametrize(("size", "batch", "world"), [*product(SIZES, BATCHES, WORLDS)])
def test_training_deals_disjoint_samples_to_the_processes(size, batch, world):
    batches = [order.batches() for order in orders(size, batch, True, world, epoch=3)]
    assert {len(mine) for mine in batches} == {
        order.steps for order in orders(size, batch, True, world)
    }
    for step in zip(*batches, strict=True):
        assert (
            len({len(rows) for rows in step}) == 1
        )  # equal batches, so that their mean gradient is the mean over all
    everything = torch.cat([rows for mine in batches for rows in mine])
    assert len(everything) == len(everything.unique()) == size - size % world


def test_the_training_order_follows_from_seed_and_epoch():
    def order(seed: int, epoch: int) -> list[int]:
        return torch.cat(orders(50, 8, True, 1, epoch, seed)[0].batches()).tolist()

    assert order(0, 4) == order(0, 4)
    others = {tuple(order(seed, epoch)) for seed, epoch in product((0, 1, 2), (0, 1, 2, 3))}
    assert len(others) == 12


def test_the_samples_left_out_are_others_in_every_epoch():
    left_out = [
        set(range(9))
        - {
            int(i)
            for order in orders(9, 4, True, 2, epoch)
            for rows in order.batches()
            for i in rows
        }
        for epoch in range(20)
    ]
    assert all(len(left) == 1 for left in left_out) and len(set.union(*left_out)) > 4


def loader(epoch: int = 2) -> BatchLoader:
    made = BatchLoader(
        {"x": torch.arange(40.0), "label": torch.arange(40) % 10}, EpochOrder(40, 6, True, seed=1)
    )
    made.sampler.set_epoch(epoch)
    return made


def test_batches_keep_the_columns_together():
    batches = list(loader())
    assert [len(batch["x"]) for batch in batches] == [6] * 6 + [4] and len(loader()) == 7
    assert all((batch["x"] % 10 == batch["label"]).all() for batch in batches)


@pytest.mark.parametrize("stop", [1, 3, 6])
def test_stopping_and_resuming_in_an_epoch_gives_the_batches_that_were_left(stop):
    first, reference = loader(), [batch["x"].tolist() for batch in loader()]
    iterator = iter(first)
    for _ in range(stop):
        next(iterator)
    second = loader()
    second.load_state_dict(first.state_dict())
    assert (
        second.state_dict() == first.state_dict()
    )  # stopped again before the first batch, nothing is forgotten
    assert [batch["x"].tolist() for batch in second] == reference[stop:]
    second.sampler.set_epoch(3)
    assert [batch["x"].tolist() for batch in second] == [
        batch["x"].tolist() for batch in loader(3)
    ]  # the next epoch is whole


def test_resuming_between_epochs_starts_a_whole_one():
    first = loader()
    list(first)
    second = loader(3)
    second.load_state_dict(first.state_dict())
    assert [batch["x"].tolist() for batch in second] == [batch["x"].tolist() for batch in loader(3)]
