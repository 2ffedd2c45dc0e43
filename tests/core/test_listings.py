import json

import pytest

from studio.core import listings
from studio.core.catalog import BASES
from studio.core.settings import Settings


@pytest.mark.parametrize("rows", [listings.presets, listings.packs, listings.chains, listings.bases])
def test_a_list_is_plain_json_and_names_everything_once(rows):
    found = json.loads(json.dumps(rows(Settings())))
    names = [row["name"] for row in found]
    assert names and len(set(names)) == len(names)


def test_the_list_of_bases_has_one_default_and_tells_no_path_of_this_machine():
    rows = {row["name"]: row for row in listings.bases(Settings())}
    assert set(rows) == set(BASES)
    assert [row["name"] for row in rows.values() if row["default"]] == ["pocket"]
    assert rows["pocket"]["source"] == "embedded"
    assert BASES["pocket"].source not in json.dumps(rows)
