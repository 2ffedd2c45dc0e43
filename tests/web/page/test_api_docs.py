from pathlib import Path

import pytest

from studio.core.config import CONFIGS
from studio.web.page import api_docs
from studio.web.page.endpoints import ENDPOINTS


def test_api_md_is_up_to_date() -> None:
    text = api_docs.API_DOCS.read_text(encoding="utf-8")
    assert api_docs.updated(text) == text, "run: python -m studio.web.page.api_docs"


def test_a_part_that_fell_behind_is_written_anew(tmp_path: Path) -> None:
    text = api_docs.API_DOCS.read_text(encoding="utf-8")
    old = tmp_path / "API.md"
    old.write_text(text.replace("| `/cancel` | `job_id: str` | the job |\n", ""), encoding="utf-8")
    assert api_docs.updated(old.read_text(encoding="utf-8")) == text
    api_docs.write(old)
    assert old.read_text(encoding="utf-8") == text


def test_a_document_without_a_place_for_a_part_is_refused() -> None:
    with pytest.raises(ValueError, match="generated: endpoints"):
        api_docs.updated("# API\n")


def test_every_endpoint_and_every_verbs_settings_are_documented() -> None:
    text = api_docs.API_DOCS.read_text(encoding="utf-8")
    for endpoint in ENDPOINTS:
        assert f"| `/{endpoint.name}` |" in text
        assert all(row.sentence in text for row in endpoint.parameters)
    assert all(f"### Settings of {verb}\n" in text for verb in CONFIGS)
    assert "| `method.rank` | 1 to 512 | `16` |" in text and "| `fit.max_bytes` |" in text
