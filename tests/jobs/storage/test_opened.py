import pytest

from studio.core.errors import InputError
from studio.core.settings import Settings
from studio.jobs.storage.cloud import CloudStorage
from studio.jobs.storage.folder import FolderStorage
from studio.jobs.storage.opened import forget, open_storage


def test_without_an_address_it_is_a_folder_of_the_home(tmp_path, signer):
    storage = open_storage(Settings(home=tmp_path), tmp_path, signer)
    storage.put("a", b"x")
    assert isinstance(storage, FolderStorage)
    assert (tmp_path / "storage" / "a").read_bytes() == b"x"


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_a_path_is_a_folder_elsewhere(tmp_path, signer, scheme):
    settings = Settings(home=tmp_path, storage_url=f"{scheme}{tmp_path}/elsewhere")
    open_storage(settings, tmp_path, signer).put("a", b"x")
    assert (tmp_path / "elsewhere" / "a").read_bytes() == b"x"


def test_a_bucket_is_a_cloud(tmp_path, signer):
    pytest.importorskip("obstore")
    assert isinstance(open_storage(Settings(home=tmp_path, storage_url="memory:///"), tmp_path, signer), CloudStorage)


@pytest.mark.parametrize("url", ["relative/path", "ftp://host/x", "http://host/x"])
def test_other_addresses_are_refused_with_the_cure(tmp_path, signer, url):
    with pytest.raises(InputError, match=r"s3://BUCKET"):
        open_storage(Settings(home=tmp_path, storage_url=url), tmp_path, signer)


def test_forgetting_deletes_the_objects_of_these_jobs_and_no_others(tmp_path, signer):
    settings = Settings(home=tmp_path)
    assert forget(settings, ["train-1"]) == (0, 0)
    storage = open_storage(settings, tmp_path, signer)
    for name in ("jobs/train-1/files/a", "jobs/train-1/snapshot.json", "jobs/train-12/files/a"):
        storage.put(name, b"123")
    assert forget(settings, ["train-1"], dry_run=True) == (2, 6)
    assert forget(settings, ["train-1", "train-none"]) == (2, 6)
    assert storage.names("jobs") == ["jobs/train-12/files/a"]
