import io
import json

import pytest
from PIL import Image

from studio.imaging.png import JSON_KEY, made_record, parameters_text, read_png, score_again, write_png

RECORD = {"prompt": "sks woman", "seed": 7}


@pytest.fixture
def picture():
    return Image.radial_gradient("L").resize((24, 16)).convert("RGB")


def test_a_picture_and_its_record_are_read_back(tmp_path, picture):
    write_png(tmp_path / "a.png", picture, parameters="sks woman", record=RECORD)
    found = read_png(tmp_path / "a.png")
    assert found is not None and found[1] == RECORD and found[0].tobytes() == picture.tobytes()
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["a.png"]


def test_a_torn_foreign_or_missing_file_is_no_picture_of_ours(tmp_path, picture):
    path = tmp_path / "a.png"
    write_png(path, picture, parameters="", record=RECORD)
    path.write_bytes(path.read_bytes()[:-40])
    assert read_png(path) is None
    picture.save(path)
    assert read_png(path) is None
    assert read_png(tmp_path / "missing.png") is None


def test_the_lines_that_viewers_show_name_width_before_height():
    given = {"seed": 7, "num_inference_steps": 20, "guidance_scale": 4.0, "sampler": "DDIM", "size_hw": (16, 24)}
    text = parameters_text(
        prompt="a", negative_prompt="b", model="pocket", adapter_sha256="0123456789abcdef", version="1", **given
    )
    first, second, third = text.splitlines()
    assert (first, second) == ("a", "Negative prompt: b")
    assert third == (
        'Steps: 20, Sampler: DDIM, CFG scale: 4, Seed: 7, Size: 24x16, Model: pocket, Lora hashes: "adapter: '
        '0123456789ab", Version: Likeness Studio 1'
    )


def test_what_a_picture_was_made_of_is_known_through_finishing_and_of_no_photo(picture):
    def saved(file_format, **options):
        buffer = io.BytesIO()
        picture.save(buffer, file_format, **options)
        return buffer.getvalue()

    exif = Image.Exif()
    exif[0x010E] = json.dumps({"chain": "avatar", "made": RECORD})
    assert made_record(saved("JPEG", exif=exif)) == RECORD
    exif[0x010E] = json.dumps({"place": "home"})
    assert made_record(saved("JPEG", exif=exif)) is None
    assert made_record(saved("PNG")) is None
    assert made_record(b"no picture") is None
    assert JSON_KEY == "likeness_studio", "pictures that were made before are known by it"


def test_the_likeness_stands_in_both_chunks_and_can_be_exchanged_alone(tmp_path, picture):
    path = tmp_path / "a.png"
    prompt = "sks woman, Likeness: high\nSteps: 2"  # a prompt may hold the very words
    write_png(path, picture, parameters=prompt, record=RECORD)
    plain = path.read_bytes()
    for value, words in ((0.8213, "0.8213"), (None, "not measured")):
        score_again(path, {"engine": "face", "version": "2", "value": value})
        found = read_png(path)
        assert found[0].tobytes() == picture.tobytes()
        assert found[1] == {**RECORD, "likeness": {"engine": "face", "version": "2", "value": value}}
        assert made_record(path.read_bytes())["likeness"]["version"] == "2"
        with Image.open(path) as file:
            assert file.info["parameters"] == f"{prompt}, Likeness: {words}, Likeness engine: face 2"
    score_again(path, None)
    assert path.read_bytes() == plain
