import pytest

from studio.core.errors import InputError
from studio.core.keys import ApiKey, Quota, Use, over, quota_of, scopes_of
from studio.core.settings import Settings

USE = Use("2026-11", photos=10, jobs=2, gpu_s=120.0)


def key(*scopes, **quota):
    return ApiKey("lsk_0", "ada", "", scopes, 0.0, quota=quota)


@pytest.mark.parametrize(
    ("scopes", "may"),
    [
        (("read",), {"read"}),
        (("jobs",), {"read", "jobs"}),
        (("publish",), {"read", "publish"}),
        (("admin",), {"read", "jobs", "publish", "admin"}),
        ((), set()),
    ],
)
def test_a_key_may_do_what_its_scopes_say(scopes, may):
    assert {scope for scope in ("read", "jobs", "publish", "admin") if key(*scopes).may(scope)} == may


def test_scopes_are_looked_up_by_name_and_all_wrong_ones_are_told():
    assert scopes_of(["publish", " read", "read"]) == ("read", "publish")
    with pytest.raises(InputError) as refused:
        scopes_of(["reed", "root", "jobs"])
    assert [problem.code for problem in refused.value.problems] == ["unknown_scope"] * 2
    with pytest.raises(InputError, match="are missing"):
        scopes_of([""])


def test_a_keys_own_limits_count_before_those_of_the_installation():
    settings = Settings(quota_jobs=3, quota_photos=50)
    assert quota_of(settings).jobs == 3
    own = quota_of(settings, key("jobs", jobs=9, photos=None))
    assert (own.jobs, own.photos) == (9, None)


def test_everything_that_is_too_much_is_told_at_once():
    quota = Quota(photos=12, jobs=2, gpu_minutes=2)
    found = over(quota, USE, photos=3, jobs=1, computes=True)
    assert [problem.where for problem in found] == ["photos", "jobs", "gpu_minutes"]
    assert "would be 13" in found[0].message and "2.0 of 2 in 2026-11" in found[2].message
    assert over(quota, USE, photos=2) == [] and over(Quota(), USE, photos=99, jobs=99, computes=True) == []
