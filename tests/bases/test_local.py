from pathlib import Path
from types import SimpleNamespace

from studio.bases.local import base_problem, fault_of, open_cache
from studio.core.settings import Settings


class RefusedError(Exception):
    response = SimpleNamespace(status_code=403)


def test_a_fault_is_named_without_the_address_that_may_hold_a_signature() -> None:
    assert fault_of(RefusedError("https://store.example/x?signature=hush")) == "status 403"
    assert fault_of(TimeoutError("https://store.example/x?signature=hush")) == "TimeoutError"


def test_bases_lie_in_the_studios_home_unless_another_folder_is_set(tmp_path: Path) -> None:
    assert open_cache(Settings(home=tmp_path))._folder == tmp_path / "bases"
    assert open_cache(Settings(home=tmp_path, bases_dir=tmp_path / "b"))._folder == tmp_path / "b"


def test_a_base_that_cannot_be_used_is_one_problem_with_its_cure() -> None:
    (problem,) = base_problem("is a LoRA", "give a base", "lora").problems
    assert (problem.where, problem.message, problem.cure, problem.code) == ("base", "is a LoRA", "give a base", "lora")
