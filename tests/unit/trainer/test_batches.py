"""Which examples come next."""

from collections.abc import Iterable, Iterator
from itertools import chain

import pytest
import torch
from trainyard.batches import Batches


def epoch(batches: Batches) -> list[list[int]]:
    """The steps that are left of the current epoch."""
    return [positions.tolist() for positions in batches]


def flat(steps: Iterable[list[int]]) -> list[int]:
    return list(chain.from_iterable(steps))


def epochs(batches: Batches, count: int) -> dict[int, list[list[int]]]:
    return {number: epoch(batches) for number in batches.epochs(count)}


def test_an_epoch_has_every_example_once() -> None:
    batches = Batches(103, 10, seed=1)
    assert len(batches) == 11
    for steps in epochs(batches, 3).values():
        assert [len(step) for step in steps] == [10] * 10 + [3]
        assert sorted(flat(steps)) == list(range(103))


def test_the_order_depends_on_seed_and_epoch_alone() -> None:
    torch.manual_seed(1)
    first = epochs(Batches(50, 8, seed=5), 3)
    torch.manual_seed(2)
    assert epochs(Batches(50, 8, seed=5), 3) == first
    assert epochs(Batches(50, 8, seed=6), 3) != first
    orders = [flat(steps) for steps in first.values()]
    assert len({tuple(order) for order in orders}) == 3


def test_the_batch_size_does_not_change_the_order() -> None:
    small, large = epoch(Batches(50, 7, seed=0)), epoch(Batches(50, 20, seed=0))
    assert flat(small) == flat(large)


def test_making_batches_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    epoch(Batches(50, 7, seed=0))
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize("ranks", [2, 3, 7])
def test_the_ranks_share_each_step_without_overlap(ranks: int) -> None:
    alone = epoch(Batches(31, 6, seed=2))
    shares = [epoch(Batches(31, 6, seed=2, rank=rank, world_size=ranks)) for rank in range(ranks)]
    for step, *parts in zip(alone, *shares, strict=True):
        assert sorted(flat(parts)) == sorted(step)
        assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_a_rank_may_have_nothing_to_do_but_knows_the_size_of_the_step() -> None:
    batches = Batches(5, 4, seed=0, rank=1, world_size=2)
    seen = [(len(positions), batches.whole) for positions in batches]
    assert seen == [(2, 4), (0, 1)]


def stopped(batches: Batches, count: int, after: int) -> Iterator[list[int]]:
    """The first `after` steps, as a process does that is stopped then."""
    for _ in batches.epochs(count):
        for positions in batches:
            yield positions.tolist()
            after -= 1
            if not after:
                return


@pytest.mark.parametrize("after", [1, 3, 4, 5, 8, 11, 12])
def test_it_goes_on_where_it_was(after: int) -> None:
    whole = [step for steps in epochs(Batches(14, 4, seed=9), 3).values() for step in steps]
    before = Batches(14, 4, seed=9)
    done = list(stopped(before, 3, after))
    resumed = Batches(14, 4, seed=9)
    resumed.load_state_dict(before.state_dict())
    left = [step for steps in epochs(resumed, 3).values() for step in steps]
    assert done + left == whole


def test_after_the_last_step_of_an_epoch_its_end_comes_again_and_no_step_of_it() -> None:
    before = Batches(8, 4, seed=0)
    list(stopped(before, 2, 2))
    resumed = Batches(8, 4, seed=0)
    resumed.load_state_dict(before.state_dict())
    left = epochs(resumed, 2)
    assert left[1] == []
    assert len(left[2]) == 2


def test_after_the_last_step_of_all_the_end_of_the_last_epoch_comes_again() -> None:
    before = Batches(8, 4, seed=0)
    list(stopped(before, 2, 4))
    resumed = Batches(8, 4, seed=0)
    resumed.load_state_dict(before.state_dict())
    assert epochs(resumed, 2) == {2: []}


def test_the_number_of_ranks_may_change() -> None:
    whole = [sorted(step) for step in epoch(Batches(20, 6, seed=0))]
    before = [Batches(20, 6, seed=0, rank=rank, world_size=2) for rank in range(2)]
    for each in before:
        list(stopped(each, 1, 2))
    resumed = [Batches(20, 6, seed=0, rank=rank, world_size=3) for rank in range(3)]
    for each in resumed:
        each.load_state_dict(before[0].state_dict())
    left = [sorted(flat(parts)) for parts in zip(*(epoch(each) for each in resumed), strict=True)]
    assert left == whole[2:]


@pytest.mark.parametrize(
    ("other", "said"), [((9, 4, 0), "count 8, now 9"), ((8, 3, 0), "size 4, now 3"), ((8, 4, 1), "seed 0, now 1")]
)
def test_a_place_in_other_batches_is_refused(other: tuple[int, int, int], said: str) -> None:
    count, size, seed = other
    with pytest.raises(ValueError, match=said):
        Batches(count, size, seed=seed).load_state_dict(Batches(8, 4, seed=0).state_dict())


@pytest.mark.parametrize(("count", "size", "rank", "ranks"), [(0, 1, 0, 1), (1, 0, 0, 1), (1, 1, 1, 1), (1, 1, -1, 1)])
def test_impossible_batches_are_refused(count: int, size: int, rank: int, ranks: int) -> None:
    with pytest.raises(ValueError, match=f"{count} examples, {size} a step, rank {rank} of {ranks}"):
        Batches(count, size, seed=0, rank=rank, world_size=ranks)
