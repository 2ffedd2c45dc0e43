from types import SimpleNamespace

import pytest

from studio.core.catalog import FAMILIES
from studio.core.errors import NotFoundError
from studio.families.registry import family, opened


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_every_family_of_the_catalog_is_spoken_for(name: str) -> None:
    assert family(name).spec == FAMILIES[name]


def test_an_unknown_family_and_a_foreign_pipeline_are_refused_by_name() -> None:
    with pytest.raises(NotFoundError, match="'dalle' is unknown; use one of: sd"):
        family("dalle")
    with pytest.raises(NotFoundError, match="SimpleNamespace"):
        opened(SimpleNamespace())
