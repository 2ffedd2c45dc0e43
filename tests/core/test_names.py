import pytest

from studio.core.errors import InputError, NotFoundError, Problem
from studio.core.names import all_of, choice_cure, nearest, require_base, unknown_name


def test_the_nearest_name_is_found_whatever_its_case_and_none_is_made_up() -> None:
    known = ("business", "pets", "four_seasons")
    assert nearest("busines", known) == "business"
    assert nearest("Pets", known) == "pets"
    assert nearest("zzzz", known) is None
    assert choice_cure("zzzz", ()) == "use one of: (none)"


def test_an_unknown_name_is_told_with_the_nearest_and_all_others() -> None:
    error = unknown_name("pack", "pest", ("business", "pets"))
    assert str(error) == "pack 'pest' is not there; did you mean 'pets'? Otherwise use one of: business, pets."
    assert [(problem.where, problem.code) for problem in error.problems] == [("pack", "unknown_name")]


@pytest.mark.parametrize("base", ["pocket", "owner/name", "civitai:1@2", "./not/here.safetensors", "."])
def test_what_may_be_a_base_passes(base: str) -> None:
    require_base(base)


def test_what_cannot_be_a_base_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(NotFoundError, match="did you mean 'pocket'"):
        require_base("pockt")


def test_all_refusals_are_told_at_once_each_only_once() -> None:
    def refuse(where: str) -> None:
        raise InputError.of([Problem(where, "is wrong", "mend it")])

    def unknown() -> None:
        raise unknown_name("pack", "x", ("business",))

    assert all_of(lambda: 1, lambda: "two") == [1, "two"]
    with pytest.raises(InputError) as caught:
        all_of(lambda: refuse("a"), lambda: 1, unknown, lambda: refuse("a"))
    assert [problem.where for problem in caught.value.problems] == ["a", "pack"]
    assert str(caught.value).count("a: is wrong") == 1


def test_a_bug_is_no_refusal() -> None:
    with pytest.raises(ZeroDivisionError):
        all_of(lambda: 1 / 0)
