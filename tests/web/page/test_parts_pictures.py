import re
from dataclasses import replace

from studio.core.domain import JobView
from studio.core.packs import Pack
from studio.web.page import parts_pictures
from studio.web.page.history import JobHistory

EVIL = '<img src=x onerror="alert(1)">'


JOB = JobView("train-1", "train", "training", "local", "Ada", created_s=0.0)


def no_file(_: str) -> None:
    return None


def _tags(html: str) -> str:
    return re.sub(r"<(?!img src=x)[^>]*>", "", html)


def test_pictures_are_ordered_by_rank_once_ranked_and_by_likeness_before() -> None:
    rows = [{"file": "a", "likeness": 0.2, "rank": 0}, {"file": "b", "likeness": None, "rank": 0}]
    rows.append({"file": "c", "likeness": 0.9, "rank": 0})
    history = JobHistory(images={row["file"]: row for row in rows})
    assert [row["file"] for row in parts_pictures.picture_order(history, None)] == ["c", "a", "b"]
    ranked = [{**row, "rank": rank} for row, rank in zip(rows, (2, 1, 3), strict=True)]
    assert [row["file"] for row in parts_pictures.picture_order(history, {"images": ranked})] == ["b", "a", "c"]


PACK = Pack.parse(
    {
        "name": "small",
        "title": "Small",
        "description": f"About {EVIL}",
        "author": EVIL,
        "subjects": ["person", "animal"],
        "wildcards": {"place": ["at sea", "in town"]},
        "preview": {"shots": ["far_away"], "colours": ["#112233", "#445566"]},
        "shots": [
            {"name": "near", "prompt": "a {class_noun}: {subject}"},
            {"name": "far_away", "prompt": "{subject} {place}", "variants": {"animal": "{subject} runs"}},
        ],
    }
)


def test_a_packs_card_shows_its_colours_its_best_shots_and_all_in_words() -> None:
    html = parts_pictures.pack_preview(PACK, "Ada", "woman", {"far_away": "files/1/a.png", "near": "files/1/b.png"})
    assert "#112233 0% 50%, #445566 50% 100%" in html
    assert 'src="files/1/a.png"' in html and "b.png" not in html  # near is not among the previewed
    assert "a woman: Ada" in html and "Ada at sea …" in html and "far away" in html
    assert "Ada runs" in parts_pictures.pack_preview(PACK, "Rex", "dog").replace("Rex", "Ada")
    assert "<img" not in parts_pictures.pack_preview(PACK, "Ada")
    assert "Write your own prompts" in parts_pictures.pack_preview(None, "Ada")


def test_a_foreign_packs_words_are_escaped() -> None:
    html = parts_pictures.pack_preview(PACK, EVIL, EVIL, {"far_away": EVIL})
    assert "<img src=x" not in html and "&lt;img src=x" in html


def test_what_keeping_the_best_was_worth_is_said() -> None:
    image = {"file": "a.png", "shot": "far_away", "likeness": 0.8, "rank": 1}
    result = {"images": [image], "left_out": [image] * 3, "likeness_mean": 0.8, "likeness_mean_made": 0.613}
    said = _tags(parts_pictures.generate_result(replace(JOB, result={**result, "from_cache": 2}), no_file))
    assert "3 others were left out; the average of all was 0.61. 2 came from the cache." in said
    one = parts_pictures.generate_result(replace(JOB, result={"images": [image] * 2, "left_out": [image]}), no_file)
    assert "2 pictures" in one and "1 other was left out." in one
    assert parts_pictures.picture_caption(image) == "0.80 · far away"


def test_a_ranking_says_for_whom_it_is_worse() -> None:
    made = {"images": [1], "likeness_mean": 0.8, "likeness_summary": {"mean": 0.8, "caveat": "Mind the gap."}}
    html = parts_pictures.generate_result(replace(JOB, state="completed", result=made), no_file)
    assert "the best come first. Mind the gap." in html


def test_a_note_on_many_pictures_stands_once() -> None:
    def picture(name: str, *notes: str) -> dict:
        return {"source": name, "notes": notes, "size_bytes": 1, "file": name}

    made = [picture("a.png", "enlarged"), picture("b.png", "enlarged", "clipped")]
    html = parts_pictures.finish_result(
        replace(JOB, kind="finish", result={"pictures": made, "failed": []}), lambda path: None
    )
    assert "2 pictures: enlarged." in html and "b.png: clipped." in html and html.count("enlarged") == 1


def test_packs_are_tiles_of_their_pictures_or_colours() -> None:
    links = {"small": [f"files/1/{number}.png" for number in range(5)]}
    style = parts_pictures.pack_tiles("it", [PACK], links)
    assert "#it label:nth-of-type(1)::before" in style and style.count("?small=1") == 4
    assert parts_pictures.pack_tiles("it", [PACK], {"small": ["files/1/a.png"] * 3}).count("?small=1") == 1
    plain = parts_pictures.pack_tiles("it", [PACK], {})
    assert "url(" not in plain and "#112233 0% 50%, #445566 50% 100%" in plain
    assert parts_pictures.pack_choice(PACK) == "Small\n2 shots"


def test_thumbnails_have_captions_below_and_lead_to_the_original() -> None:
    html = parts_pictures.picture_grid([("files/1/a.png", EVIL)])
    assert 'href="files/1/a.png"' in html and 'src="files/1/a.png?small=1"' in html and "<figcaption>&lt;img" in html
    assert 'data-choose="0"' in parts_pictures.picture_grid([("files/1/a.png", "a")], choosing=True)
    assert parts_pictures.picture_grid([]) == ""


def test_the_subjects_chip_says_what_it_writes() -> None:
    chip = parts_pictures.subject_chip(EVIL, "prompts")
    assert 'data-insert="{subject}"' in chip and "<img src=x" not in chip
