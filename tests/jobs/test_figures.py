"""How many jobs there are, counted in both databases."""

from collections.abc import Callable

from studio.jobs.queue import NewJob
from studio.jobs.store import Store


def test_jobs_are_counted_by_kind_and_state_with_the_age_of_the_oldest(store: Store) -> None:
    assert store.figures() == []
    for number in range(3):
        store.insert(NewJob(f"check-{number}", "check", "ada", "Photos of Ada", "f"))
    store.insert(NewJob("train-1", "train", "bob", "Training", "f", source="check-0"))
    claim = store.claim()
    assert claim is not None
    found = store.figures()
    assert [(row.kind, row.state, row.jobs) for row in found] == [
        ("check", "checking", 1),
        ("check", "pending", 2),
        ("train", "pendingImages", 1),
    ]
    assert all(0 <= row.oldest_s < 60 for row in found)


def test_figures_of_one_place_are_the_same_for_every_server(new_store: Callable[..., Store]) -> None:
    one, other = new_store(), new_store()
    one.insert(NewJob("check-1", "check", "ada", "Photos of Ada", "f"))
    assert [row.jobs for row in other.figures()] == [1]
