from studio.core.catalog import BASES
from studio.core.fit import FitPlan
from studio.core.machine import Machine
from studio.web.page import parts_reach, words

LAPTOP = Machine("cpu", 16 * 10**9, frozenset())
GPU = Machine("cuda", 24 * 10**9, frozenset())


def test_the_first_page_says_what_this_machine_can_do() -> None:
    html = parts_reach.intro(LAPTOP)
    assert "This machine has no GPU" in html and "data:image/jpeg;base64," in html and html.count("<li>") == 3
    assert "real photos can be trained here" in parts_reach.intro(GPU)


def test_real_photos_lead_to_what_works() -> None:
    html = parts_reach.real_photos({"drawn": False}, LAPTOP)
    assert "<code>python -m studio space push gpu" in html and "`" not in html and "cartoon" in html
    assert "hours" in html
    for dataset, here in (({"drawn": True}, LAPTOP), ({}, LAPTOP), (None, LAPTOP), ({"drawn": False}, GPU)):
        assert parts_reach.real_photos(dataset, here) == ""


def test_a_base_that_this_machine_cannot_use_is_marked_in_the_list_and_below() -> None:
    rough = FitPlan(640, 5, None, 6 * 10**9, None, None, measured=False, device=None)
    measured = FitPlan(60, 5, 190.0, 10**9, None, 10**7, measured=True, device="cpu")
    assert parts_reach.base_card(BASES["sd15"], LAPTOP, rough).splitlines() == [
        "Stable Diffusion 1.5",
        "time: not known yet",
        "needs a GPU with 6 GB",
        "creativeml-openrail-m · price elsewhere not known",
    ]
    assert parts_reach.base_card(BASES["sd15"], GPU, rough).splitlines()[2:] == [
        "memory: about 6 GB",
        "creativeml-openrail-m · free here",
    ]
    assert parts_reach.base_card(BASES["pocket"], LAPTOP, measured).splitlines() == [
        "Pocket",
        "time: 3 min",
        "memory: 1 GB",
        "apache-2.0 · free here",
    ]
    assert parts_reach.base_card(BASES["pocket"], LAPTOP, None).splitlines()[1:3] == [
        "time: not known yet",
        "memory: not known yet",
    ]
    assert "hours" in parts_reach.base_hint(BASES["sd15"], LAPTOP)
    assert "hours" not in parts_reach.base_hint(BASES["sdxl"], LAPTOP)
    assert "ls-notice" not in parts_reach.base_hint(BASES["sdxl"], GPU)
    assert words.BASE_NONE in parts_reach.base_hint(None, LAPTOP)
