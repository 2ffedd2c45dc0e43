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


def test_pictures_with_a_heart_come_first_in_their_own_order() -> None:
    rows = [{"file": file, "likeness": 0.5, "rank": rank} for rank, file in enumerate("abcd", 1)]
    order = parts_pictures.picture_order(JobHistory(), {"images": rows}, ["d", "b"])
    assert [row["file"] for row in order] == ["b", "d", "a", "c"]


def test_each_picture_has_a_heart_that_says_what_it_is_and_the_filter_counts_them() -> None:
    images = [{"file": f"{name}.png", "likeness": 0.5, "shot": "beach"} for name in ("a", "b", EVIL, "gone")]
    html = parts_pictures.heart_grid(images, lambda file: None if "gone" in file else f"files/1/{file}", ["b.png"])
    assert re.findall(r'data-heart="(.*?)" aria-pressed="(\w+)"', html)[:2] == [("a.png", "false"), ("b.png", "true")]
    assert html.count("data-heart") == 3 and 'aria-label="Heart: 0.50 · beach"' in html
    assert "Hearts only <b>1</b>" in html and "<img src=x" not in html
    assert parts_pictures.heart_grid([], no_file, []) == ""


def test_pictures_of_several_strengths_stand_in_a_row_the_weakest_first() -> None:
    images = [
        {"file": f"{seed}-{scale}.png", "likeness": 0.5, "shot": "beach", "seed": seed, "adapter_scale": scale}
        for seed in (1, 0) for scale in (1.0, 0.5)
    ]  # fmt: skip
    html = parts_pictures.heart_grid(images, lambda file: file, [])
    assert re.findall(r'href="(.*?)"', html) == ["0-0.5.png", "0-1.0.png", "1-0.5.png", "1-1.0.png"]
    assert "strength 0.5 · 0.50<" in html and "--across:2" in html
    assert "--across" not in parts_pictures.heart_grid(images[:1], lambda file: file, [])
    done = {"images": images, "likeness_mean": 0.5, "likeness_summary": {"mean": 0.5}}
    said = parts_pictures.generate_result(replace(JOB, result=done), no_file)
    assert "the weakest strength first" in said and "best come first" not in said


def test_a_packs_best_shot_is_a_prompt_of_its_own() -> None:
    assert parts_pictures.sample_prompt(PACK, "woman") == "{subject} at sea"
    assert parts_pictures.sample_prompt(PACK, "dog") == "{subject} runs"


def test_the_zip_of_the_hearts_is_offered_first() -> None:
    done = replace(JOB, kind="generate", result={"images": [{"file": "a.png"}], "archive": "pictures.zip"})
    html = parts_pictures.generate_result(done, lambda file: f"files/1/{file}", hearts=3)
    links = re.findall(r'href="(.*?)" download>(.*?)<', html)
    assert links[:2] == [
        ("hearts/train-1", "Download the 3 hearts (zip)"),
        ("files/1/pictures.zip", "Download all (zip)"),
    ]
    assert "hearts" not in parts_pictures.generate_result(done, no_file)


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
    made = {"images": [{}], "likeness_mean": 0.8, "likeness_summary": {"mean": 0.8, "caveat": "Mind the gap."}}
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
