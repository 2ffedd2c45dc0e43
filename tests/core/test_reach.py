import pytest

from studio.core import reach
from studio.core.catalog import BASES
from studio.core.errors import InputError
from studio.core.machine import Machine

LAPTOP = Machine("cpu", 16 * 10**9, frozenset())
SMALL = Machine("cuda", 8 * 10**9, frozenset())
UNKNOWN = Machine("cuda", None, frozenset())


def test_what_a_machine_lacks_for_a_base_is_said() -> None:
    assert reach.lacks(BASES["sd15"], LAPTOP) == "needs a GPU with 6 GB"
    assert reach.lacks(BASES["sdxl"], SMALL) == "needs a GPU with 12 GB; this one has less"
    assert not any(reach.lacks(BASES[name], here) for name, here in (("pocket", LAPTOP), ("sd15", SMALL)))
    assert not reach.lacks(BASES["flux"], UNKNOWN)


def test_real_photos_do_not_go_to_the_cartoons_unless_these_are_named() -> None:
    with pytest.raises(InputError) as refused:
        reach.require_photo_base(is_named=False, drawn=False, here=LAPTOP)
    (problem,) = refused.value.problems
    assert problem.where == "base" and "cartoon" in problem.message
    for way in ("remote", "space push gpu", "hour", "name the base pocket"):
        assert way in problem.cure
    reach.require_photo_base(is_named=True, drawn=False, here=LAPTOP)
    reach.require_photo_base(is_named=False, drawn=True, here=LAPTOP)
    reach.require_photo_base(is_named=False, drawn=None, here=LAPTOP)
    reach.require_photo_base(is_named=False, drawn=False, here=SMALL)


def test_the_time_on_a_processor_follows_from_its_cores() -> None:
    assert "roughly 9 hours on 2 cores" in reach.ways(2)[-1]
    assert "roughly 18 hours on 1 core for" in reach.ways(1)[-1]
    assert "roughly 1 hour on 64 cores" in reach.ways(64)[-1]
