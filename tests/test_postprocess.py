"""The verb finish: chains over pictures, folders and zips; what is bad is named, and the rest is done."""

import io
import json
import threading
import zipfile
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image, ImageDraw
from PIL.PngImagePlugin import PngInfo

from studio import postprocess
from studio.core.errors import ConflictError, InputError, JobCancelled
from studio.core.finish_config import FinishConfig, FitStep
from studio.core.presets import finish_config, list_chains
from studio.finishing import steps as steps_module
from studio.finishing.networks.read import read_weights
from studio.finishing.upscaling.network import NetworkUpscaler
from studio.imaging.faces import Face
from studio.imaging.png import JSON_KEY, write_png
from studio.imaging.provenance import SOURCE_TYPE
from studio.postprocess import finish


class CircleMatter:
    """Finds what is red."""

    name = "circle"

    def matte(self, picture):
        pixels = np.asarray(picture).astype(int)
        return (pixels[..., 0] > pixels[..., 2] + 40).astype(np.float32)


@pytest.fixture
def matter(monkeypatch):
    opened = []

    def open_matter(name, home, **_):
        opened.append(name)
        return CircleMatter()

    monkeypatch.setattr(steps_module, "open_matter", open_matter)
    return opened


def picture(size=(96, 72), mode="RGB"):
    made = Image.new("RGB", size, (40, 70, 190))
    ImageDraw.Draw(made).ellipse((size[0] * 0.3, size[1] * 0.2, size[0] * 0.7, size[1] * 0.8), fill=(220, 50, 40))
    return made.convert(mode)


def png(image, **more):
    buffer = io.BytesIO()
    image.save(buffer, format=more.pop("format", "PNG"), **more)
    return buffer.getvalue()


@pytest.fixture
def one(tmp_path):
    path = tmp_path / "one.png"
    path.write_bytes(png(picture()))
    return path


def steps(*given, **more):
    return FinishConfig.parse({"steps": list(given), **more})


FIT = {"do": "fit", "width_px": 40, "height_px": 50}


def load(out, made, number=0):
    with Image.open(out / made.pictures[number].file) as opened:
        opened.load()
        return opened


def test_of_a_series_the_chosen_pictures_alone_are_finished(tmp_path):
    series = tmp_path / "series"
    (series / "beach").mkdir(parents=True)
    files = ["beach/002.png", "beach/001.png"]
    for file in files:
        (series / file).write_bytes(png(picture()))
    (series / "index.json").write_text(json.dumps({"images": [{"file": file} for file in files]}))
    made = finish(steps(FIT, only=["beach/001.png"]), series, tmp_path / "out")
    assert [row.source for row in made.pictures] == ["beach / 001.png"]
    with pytest.raises(InputError, match=r"beach/9.png is not there"):
        finish(steps(FIT, only=["beach/9.png"]), series, tmp_path / "other")


# ------------------------------------------------------------------------------------------------------- the steps


def test_a_cutout_is_transparent_where_the_background_was_and_hides_nothing_below(one, tmp_path, matter):
    made = finish(steps({"do": "cutout", "model": "silueta"}), one, tmp_path / "out")
    pixels = np.asarray(load(tmp_path / "out", made))
    assert matter == ["silueta"] and pixels.shape == (72, 96, 4)
    assert pixels[36, 48, 3] == 255 and pixels[2, 2, 3] == 0
    assert np.all(pixels[pixels[..., 3] == 0] == 0), "the removed background must not lie below the transparency"


@pytest.mark.parametrize(
    ("background", "expected"),
    [
        ({"fill": "white"}, (255, 255, 255)),
        ({"fill": "colour", "colour": "#102030"}, (16, 32, 48)),
        ({"fill": "gradient", "colour": "#ff0000", "colour_below": "#0000ff"}, (255, 0, 0)),
        ({"fill": "blur"}, (40, 70, 190)),
        ({"fill": "picture", "picture": "behind.png"}, (1, 200, 3)),
    ],
)
def test_every_background_lies_behind_the_subject(background, expected, tmp_path, matter):
    source = tmp_path / "in"
    source.mkdir()
    (source / "one.png").write_bytes(png(picture()))
    (source / "behind.png").write_bytes(png(Image.new("RGB", (30, 30), (1, 200, 3))))
    made = finish(steps({"do": "cutout"}, {"do": "background", **background}), source, tmp_path / "out")
    pictures = {row.source: row for row in made.pictures}
    assert ("behind.png" in pictures) == ("picture" not in background), "a background is none of the pictures"
    with Image.open(tmp_path / "out" / pictures["one.png"].file) as opened:
        pixels = np.asarray(opened)
    assert np.abs(pixels[0, 0].astype(int) - expected).max() <= 3
    assert np.abs(pixels[36, 48].astype(int) - (220, 50, 40)).max() <= 3


def test_a_picture_without_transparency_keeps_its_background_and_says_so(one, tmp_path):
    made = finish(steps({"do": "background"}), one, tmp_path / "out")
    assert "so no background was added" in made.pictures[0].notes[0]


def test_a_picture_that_is_transparent_already_gets_a_background(tmp_path):
    clear = picture(mode="RGBA")
    clear.putalpha(Image.new("L", clear.size, 0))
    (tmp_path / "clear.png").write_bytes(png(clear))
    made = finish(steps({"do": "background", "fill": "white"}), tmp_path / "clear.png", tmp_path / "out")
    assert np.all(np.asarray(load(tmp_path / "out", made)) == 255)


@pytest.mark.parametrize(
    ("target", "size"),
    [
        ({}, (384, 288)),
        ({"factor": 2}, (192, 144)),
        ({"factor": 6}, (576, 432)),
        ({"long_side_px": 200}, (200, 150)),
    ],
)
def test_upscaling_reaches_its_target_exactly(target, size, one, tmp_path, tiny_upscaler):
    upscale = {"do": "upscale", "model": str(tiny_upscaler), "tile_px": 64, **target}
    made = finish(steps(upscale), one, tmp_path / "out")
    assert load(tmp_path / "out", made).size == size


def test_a_picture_that_is_large_enough_is_left_as_it_is(one, tmp_path, tiny_upscaler):
    made = finish(steps({"do": "upscale", "model": str(tiny_upscaler), "long_side_px": 64}), one, tmp_path / "out")
    assert np.array_equal(np.asarray(load(tmp_path / "out", made)), np.asarray(picture()))
    assert "large enough" in made.pictures[0].notes[0]


def test_a_cutout_is_enlarged_with_its_transparency(one, tmp_path, tiny_upscaler, matter):
    chain = steps({"do": "cutout"}, {"do": "upscale", "model": str(tiny_upscaler), "factor": 2})
    made = finish(chain, one, tmp_path / "out")
    pixels = np.asarray(load(tmp_path / "out", made))
    assert pixels.shape == (144, 192, 4) and pixels[72, 96, 3] == 255 and pixels[3, 3, 3] == 0


def clear_disc(hidden, soft=True):
    """A red disc with a soft rim, and a colour that nobody sees round it."""
    rows, columns = np.mgrid[:72, :96]
    distance = np.hypot(rows - 36, columns - 48)
    alpha = np.clip((26 - distance) / (4 if soft else 1e-6), 0, 1)
    levels = np.where(alpha[..., None] > 0, (220, 50, 40), hidden)
    return Image.fromarray(np.dstack([levels, alpha * 255]).round().astype(np.uint8))


@pytest.mark.parametrize(
    "chain",
    [
        [{"do": "upscale", "factor": 2, "tile_px": 64}],
        [{"do": "fit", "width_px": 200, "height_px": 150}],
        [{"do": "fit", "width_px": 200, "height_px": 100, "how": "contain"}],
        [{"do": "upscale", "factor": 2, "tile_px": 64}, {"do": "fit", "width_px": 90, "height_px": 60}],
        [{"do": "cutout"}, {"do": "upscale", "factor": 2, "tile_px": 64}],
    ],
)
def test_what_lies_below_transparency_never_comes_into_the_rim(chain, tmp_path, matter, tiny_upscaler):
    chain = [{**step, "model": str(tiny_upscaler)} if step["do"] == "upscale" else step for step in chain]
    source = tmp_path / "in"
    source.mkdir()
    for name, hidden in (("black.png", (0, 0, 0)), ("green.png", (0, 255, 0)), ("white.png", (255, 255, 255))):
        (source / name).write_bytes(png(clear_disc(hidden)))
    made = finish(steps(*chain), source, tmp_path / "out")
    black, green, white = (np.asarray(load(tmp_path / "out", made, index)) for index in range(3))
    assert black.shape[2] == 4 and np.array_equal(black, green) and np.array_equal(black, white)
    with Image.open(tmp_path / "out" / made.pictures[1].before) as before:
        assert np.asarray(before.convert("RGB"))[0, 0].min() > 250, "what was hidden shows in the preview"


def test_a_cutout_that_is_enlarged_keeps_nothing_of_its_old_background_at_the_rim(tmp_path, matter, tiny_upscaler):
    source = tmp_path / "in"
    source.mkdir()
    for name, behind in (("blue.png", (40, 70, 190)), ("green.png", (20, 200, 90))):
        scene = Image.new("RGB", (96, 72), behind)
        scene.paste(clear_disc((0, 0, 0), soft=False), mask=clear_disc((0, 0, 0), soft=False).getchannel("A"))
        (source / name).write_bytes(png(scene))
    upscale = {"do": "upscale", "model": str(tiny_upscaler), "factor": 2}
    made = finish(steps({"do": "cutout", "refine": "none"}, upscale), source, tmp_path / "out")
    blue, green = (np.asarray(load(tmp_path / "out", made, index)) for index in range(2))
    assert (blue[..., 3] > 0).any() and np.array_equal(blue, green)


def test_enlarging_a_soft_rim_keeps_its_colour_at_the_lowest_alpha(tmp_path):
    (tmp_path / "disc.png").write_bytes(png(clear_disc((0, 255, 0))))
    made = finish(steps({"do": "fit", "width_px": 288, "height_px": 216}), tmp_path / "disc.png", tmp_path / "out")
    pixels = np.asarray(load(tmp_path / "out", made)).astype(int)
    seen = pixels[pixels[..., 3] > 0]
    assert (seen[:, 3] < 8).any(), "the rim is soft"
    assert np.abs(seen[:, :3] - (220, 50, 40)).max() <= 1


def test_a_huge_target_is_refused_with_the_memory_it_would_need(one, tmp_path, tiny_upscaler, monkeypatch):
    monkeypatch.setattr(steps_module, "_free_bytes", lambda: 200_000_000)
    with pytest.raises(InputError, match=r"8192 x 6144 px would need about [\d.]+ [GM]B of memory, \d+ MB are free"):
        finish(steps({"do": "upscale", "model": str(tiny_upscaler), "long_side_px": 8192}), one, tmp_path / "out")


@pytest.mark.parametrize(
    ("fit", "size"),
    [
        ({"width_px": 16384, "height_px": 16384}, "16384 x 16384"),
        ({"aspect": "9999:1", "how": "contain"}, "719928 x 72"),
    ],
)
def test_a_huge_fit_is_refused_with_the_memory_it_would_need(fit, size, one, tmp_path, monkeypatch):
    monkeypatch.setattr(steps_module, "_free_bytes", lambda: 500_000_000)
    with pytest.raises(InputError, match=rf"{size} px would need about [\d.]+ [GM]B of memory, \d+ MB are free"):
        finish(steps({"do": "fit", **fit}), one, tmp_path / "out")


def test_fit_meets_size_format_and_bytes(one, tmp_path):
    config = steps({**FIT, "format": "jpeg", "max_bytes": 1800})
    made = finish(config, one, tmp_path / "out")
    opened = load(tmp_path / "out", made)
    assert opened.size == (40, 50) and opened.format == "JPEG"
    assert made.pictures[0].size_bytes == (tmp_path / "out" / made.pictures[0].file).stat().st_size <= 1800


def test_a_byte_limit_that_cannot_be_met_names_the_picture(one, tmp_path):
    config = steps({**FIT, "width_px": 900, "height_px": 900, "format": "webp", "max_bytes": 512, "min_quality": 60})
    with pytest.raises(InputError) as caught:
        finish(config, one, tmp_path / "out")
    (problem,) = caught.value.problems
    assert (problem.where, problem.code) == ("one.png", "too_many_bytes")


def test_enlarging_by_fit_alone_is_said(one, tmp_path):
    made = finish(steps({**FIT, "width_px": 400, "height_px": 500}), one, tmp_path / "out")
    assert "upscale step" in made.pictures[0].notes[0]


def test_closed_form_matting_is_prepared_with_a_word_and_hears_a_request_to_stop(
    one, tmp_path, matter, events, monkeypatch
):
    begun, done = threading.Event(), threading.Event()

    def compiles(name):
        assert name.startswith("pymatting")
        begun.set()
        assert done.wait(30)

    monkeypatch.setattr(steps_module, "importlib", SimpleNamespace(import_module=compiles))
    monkeypatch.setattr(steps_module.matte, "closed_form", lambda alpha, rgb: alpha)
    chain = steps({"do": "cutout", "refine": "closed_form"})
    with pytest.raises(JobCancelled):
        finish(chain, one, tmp_path / "out", on_event=events.append, should_stop=begun.is_set)
    assert "first time this takes a minute" in events[-1].data["message"], "said before it began"
    done.set()
    assert len(finish(chain, one, tmp_path / "out").pictures) == 1


def test_a_picture_is_decoded_once_however_many_steps_there_are(one, tmp_path, matter, tiny_upscaler, monkeypatch):
    decode_bytes, decoded = postprocess.decode_bytes, []

    def counting(data, name, **more):
        decoded.append(name)
        return decode_bytes(data, name, **more)

    monkeypatch.setattr(postprocess, "decode_bytes", counting)
    upscale = {"do": "upscale", "model": str(tiny_upscaler), "factor": 2}
    finish(steps({"do": "cutout"}, {"do": "background"}, upscale, FIT), one, tmp_path / "out")
    assert decoded == ["one.png"]


def test_before_and_after_have_the_same_size_and_cut(one, tmp_path, matter):
    made = finish(steps({"do": "cutout"}, {"do": "background"}, FIT), one, tmp_path / "out")
    row = made.pictures[0]
    before, after = (Image.open(io.BytesIO((tmp_path / "out" / name).read_bytes())) for name in (row.before, row.after))
    assert before.size == after.size == (40, 50)
    assert before.getpixel((1, 1))[2] > 150 and after.getpixel((1, 1)) == (255, 255, 255)


def test_where_no_face_is_there_none_is_restored(one, tmp_path, monkeypatch):
    monkeypatch.setattr(steps_module, "open_face_restorer", lambda *_, **__: None)
    made = finish(steps({"do": "face", "model": "gfpgan.pth"}), one, tmp_path / "out")
    assert "no face" in made.pictures[0].notes[0]


def test_a_face_network_that_is_not_there_is_refused_before_any_work(one, tmp_path):
    with pytest.raises(InputError, match="GFPGAN or RestoreFormer"):
        finish(steps({"do": "face", "model": "gfpgan.pth"}), one, tmp_path / "out")


# --------------------------------------------------------------------------------------------------------- the chains


class Whitener:
    """Restores every face to white."""

    name = "whitener"

    def restore(self, face):
        return np.full_like(face, 255)


@pytest.mark.parametrize("chain", list_chains(), ids=lambda chain: chain.name)
def test_every_shipped_chain_runs_to_its_end(chain, one, tmp_path, matter, tiny_upscaler, monkeypatch):
    asked = []

    def open_upscaler(model, home, *, device, tile_px, **_):
        asked.append(model)
        return NetworkUpscaler(model, read_weights(tiny_upscaler), device=device, tile_px=tile_px)

    def open_face_restorer(model, home, **_):
        asked.append(model)
        return Whitener()

    monkeypatch.setattr(steps_module, "open_upscaler", open_upscaler)
    monkeypatch.setattr(steps_module, "open_face_restorer", open_face_restorer)
    monkeypatch.setattr(steps_module, "find_faces", lambda picture: [Face((20, 30, 20, 20), 1.0)])
    by_kind = {step.do: step for step in chain.steps}
    long_side = "upscale" in by_kind and by_kind["upscale"].long_side_px
    config = finish_config(chain, {"upscale.long_side_px": 256} if long_side else {})
    made = finish(config, one, tmp_path / "out")
    assert made.chain == chain.name and not made.failed
    assert matter + asked == [step.model for step in chain.steps if step.do in ("cutout", "upscale", "face")]
    last = by_kind.get("fit", FitStep())
    opened = load(tmp_path / "out", made)
    assert opened.format == last.format.upper()
    assert opened.size == (last.target_wh() or ((256, 192) if long_side else opened.size))
    assert np.asarray(opened.convert("L")).std() > 5, "a flat picture"


# ------------------------------------------------------------------------------------------------------- the pictures


def bad_ones():
    frames = [picture((20, 20)), picture((20, 20)).rotate(90)]
    return {
        "corrupt.png": png(picture())[:300],
        "empty.jpg": b"",
        "text.jpg": b"not a picture",
        "moving.png": png(frames[0], save_all=True, append_images=frames[1:]),
        "moving.gif": png(frames[0], format="GIF", save_all=True, append_images=frames[1:]),
    }


def good_ones():
    return {
        "alpha.png": png(picture(mode="RGBA")),
        "palette.png": png(picture().convert("P")),
        "grey.png": png(picture(mode="L")),
        "cmyk.jpg": png(picture(mode="CMYK"), format="JPEG"),
        "deep.png": png(Image.fromarray(np.full((40, 30), 40000, np.uint16))),
        "pixel.png": png(Image.new("RGB", (1, 1), "red")),
        "strip.png": png(Image.new("RGB", (20_000, 3), "green")),
    }


def test_bad_pictures_are_named_and_the_others_are_done(tmp_path, matter, events):
    source = tmp_path / "in"
    source.mkdir()
    for name, data in {**bad_ones(), **good_ones()}.items():
        (source / name).write_bytes(data)
    chain = steps({"do": "cutout"}, {"do": "background"}, {**FIT, "format": "jpeg"})
    made = finish(chain, source, tmp_path / "out", on_event=events.append)
    assert {row["where"] for row in made.failed} == set(bad_ones())
    assert all(row["cure"] and row["message"] for row in made.failed)
    assert {row.source for row in made.pictures} == set(good_ones())
    assert all(load(tmp_path / "out", made, index).size == (40, 50) for index in range(len(made.pictures)))
    warned = [event.data["text"] for event in events if event.kind == "message"]
    assert len(warned) == len(bad_ones())


def test_odd_sizes_are_enlarged_too(tmp_path, tiny_upscaler):
    source = tmp_path / "in"
    source.mkdir()
    for name in ("pixel.png", "strip.png", "grey.png"):
        (source / name).write_bytes(good_ones()[name])
    chain = steps({"do": "upscale", "model": str(tiny_upscaler), "factor": 2, "tile_px": 2048})
    made = finish(chain, source, tmp_path / "out")
    assert {row.source: row.size_hw for row in made.pictures} == {
        "pixel.png": (2, 2),
        "strip.png": (6, 40_000),
        "grey.png": (144, 192),
    }


def test_if_no_picture_can_be_finished_all_are_named(tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    for name, data in bad_ones().items():
        (source / name).write_bytes(data)
    with pytest.raises(InputError) as caught:
        finish(steps(FIT), source, tmp_path / "out")
    assert {problem.where for problem in caught.value.problems} == set(bad_ones())


def test_a_zip_becomes_a_zip_and_its_bad_pictures_are_named(tmp_path):
    archive = tmp_path / "many.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        for name, data in (("a/one.png", png(picture())), ("b/one.png", png(picture((50, 60)))), ("bad.png", b"bad")):
            packed.writestr(name, data)
    made = finish(steps(FIT), archive, tmp_path / "out")
    assert [row.source for row in made.pictures] == ["one.png", "one.png (2)"]
    assert [row["where"] for row in made.failed] == ["bad.png"]
    with zipfile.ZipFile(tmp_path / "out" / made.archive) as packed:
        assert (
            sorted(packed.namelist())
            == sorted(Path(row.file).name for row in made.pictures)
            == ["one-2.png", "one.png"]
        )


def test_what_generate_wrote_is_finished_best_first(tmp_path):
    run = tmp_path / "run"
    (run / "beach").mkdir(parents=True)
    for number in (0, 1):
        (run / f"beach/00{number}.png").write_bytes(png(picture()))
    (run / "index.json").write_text(json.dumps({"images": [{"file": "beach/001.png"}, {"file": "beach/000.png"}]}))
    made = finish(steps(FIT), run, tmp_path / "out")
    assert [row.file for row in made.pictures] == ["pictures/beach-001.png", "pictures/beach-000.png"]


def source_type(data):
    """Return what another reader finds in a file about the source of its picture."""
    with Image.open(io.BytesIO(data)) as file:
        said = file.getxmp()
    return said.get("xmpmeta", {}).get("RDF", {}).get("Description", {}).get("DigitalSourceType")


@pytest.mark.parametrize("file_format", ["png", "jpeg", "webp"])
def test_the_mark_of_generated_pictures_is_kept_and_photos_get_none(file_format, tmp_path):
    (tmp_path / "in").mkdir()
    write_png(tmp_path / "in/generated.png", picture(), parameters="", record={"prompt": "photo of sks woman"})
    (tmp_path / "in/photo.png").write_bytes(png(picture(), exif=Image.Exif()))
    earlier = PngInfo()
    earlier.add_text(JSON_KEY, json.dumps({"prompt": "of a studio that knew no mark"}))
    (tmp_path / "in/earlier.png").write_bytes(png(picture(), pnginfo=earlier))
    lossy = {} if file_format == "png" else {"max_bytes": 1700}  # encoded again and again until it fits
    out = tmp_path / "out"
    made = finish(steps({**FIT, "format": file_format, **lossy}), tmp_path / "in", out)
    wanted = {"generated.png": SOURCE_TYPE, "earlier.png": SOURCE_TYPE, "photo.png": None}
    with zipfile.ZipFile(out / made.archive) as archive:
        for row in made.pictures:
            files = [(out / row.file).read_bytes(), (out / row.after).read_bytes(), (out / row.before).read_bytes()]
            files.append(archive.read(Path(row.file).name))
            assert [source_type(data) for data in files] == [wanted[row.source]] * 4, row.source
    assert source_type((out / made.contact_sheet).read_bytes()) == SOURCE_TYPE


def test_a_sheet_of_photos_alone_is_not_marked(one, tmp_path):
    made = finish(steps(FIT), one, tmp_path / "out")
    assert source_type((tmp_path / "out" / made.contact_sheet).read_bytes()) is None


def test_without_steps_there_is_a_contact_sheet_and_nothing_else(one, tmp_path):
    made = finish(steps(sheet_title="Mine"), one, tmp_path / "out")
    assert made.pictures == () and made.archive is None
    with Image.open(tmp_path / "out" / made.contact_sheet) as sheet:
        assert sheet.width > 96
    assert list((tmp_path / "out" / "pictures").iterdir()) == []


# --------------------------------------------------------------------------------------------------------- the folder


def test_cancelling_keeps_what_is_done_and_the_next_call_goes_on(tmp_path, matter, monkeypatch):
    source = tmp_path / "in"
    source.mkdir()
    for index in range(4):
        (source / f"{index}.png").write_bytes(png(picture((60 + index, 50))))
    chain, done = steps({"do": "cutout"}, FIT), []

    def on_event(event):
        if event.kind == "image":
            done.append(event.data["source"])

    with pytest.raises(JobCancelled):
        finish(chain, source, tmp_path / "out", on_event=on_event, should_stop=lambda: len(done) == 2)
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "pictures").iterdir()}
    assert len(kept) == 2 and not (tmp_path / "out" / "DONE").exists()
    made = finish(chain, source, tmp_path / "out")
    assert [row.source for row in made.pictures] == [f"{index}.png" for index in range(4)]
    assert all(path.stat().st_mtime_ns == before for path, before in kept.items())
    fresh = finish(chain, source, tmp_path / "fresh")
    assert [row.sha256 for row in fresh.pictures] == [row.sha256 for row in made.pictures]


def test_a_finished_folder_is_answered_from_what_is_there(one, tmp_path, matter):
    first = finish(steps({"do": "cutout"}), one, tmp_path / "out")
    again = finish(steps({"do": "cutout"}), one, tmp_path / "out")
    assert again == first and matter == ["u2netp"], "nothing was loaded the second time"
    assert json.loads((tmp_path / "out" / "index.json").read_text()) == json.loads(json.dumps(asdict(first)))


def test_a_changed_picture_is_finished_again(one, tmp_path):
    first = finish(steps(FIT), one, tmp_path / "out")
    (tmp_path / "out" / "DONE").unlink()
    one.write_bytes(png(picture((300, 200))))
    assert finish(steps(FIT), one, tmp_path / "out").pictures[0].sha256 != first.pictures[0].sha256


def test_folders_with_other_things_are_not_touched(one, tmp_path):
    out = tmp_path / "out"
    finish(steps(FIT), one, out)
    with pytest.raises(ConflictError, match="pictures made with other settings"):
        finish(steps({**FIT, "width_px": 41}), one, out)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(ConflictError, match="other files"):
        finish(steps(FIT), one, tmp_path / "mine")
    with pytest.raises(ConflictError, match="is a file"):
        finish(steps(FIT), one, one)


def test_progress_names_picture_and_part(one, tmp_path, tiny_upscaler, events):
    chain = steps({"do": "upscale", "model": str(tiny_upscaler), "tile_px": 32})
    finish(chain, one, tmp_path / "out", on_event=events.append)
    messages = [event.data["message"] for event in events if event.kind == "progress"]
    assert any(message.startswith("one.png: ") for message in messages)
    assert [event.data["name"] for event in events if event.kind == "stage"] == ["loading", "finishing", "packing"]
    assert events[-1].kind == "stage" and messages[-1] == "one.png: done"


def test_a_long_loading_hears_a_request_to_stop(one, tmp_path, monkeypatch):
    never, asked = threading.Event(), []
    monkeypatch.setattr(steps_module, "open_matter", lambda *_, **__: never.wait(30))

    def should_stop():
        asked.append(1)
        return len(asked) > 4

    with pytest.raises(JobCancelled):
        finish(steps({"do": "cutout"}), one, tmp_path / "out", should_stop=should_stop)
    never.set()
