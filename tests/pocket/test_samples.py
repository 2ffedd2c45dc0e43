from pathlib import Path

from PIL import Image

from studio.pocket.samples import sample_photos


def test_sample_photos_are_the_same_every_time_and_differ_from_each_other(tmp_path: Path) -> None:
    first = sample_photos(tmp_path / "a", count=3, size_px=48)
    again = sample_photos(tmp_path / "b", count=3, size_px=48)
    assert [path.name for path in first] == ["sample-01.jpg", "sample-02.jpg", "sample-03.jpg"]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in again]
    assert len({path.read_bytes() for path in first}) == 3
    with Image.open(first[0]) as picture:
        assert picture.size == (48, 48)


def test_another_seed_is_another_person(tmp_path: Path) -> None:
    (ada,) = sample_photos(tmp_path / "a", count=1, size_px=48)
    (other,) = sample_photos(tmp_path / "b", count=1, size_px=48, seed=1)
    assert ada.read_bytes() != other.read_bytes()
