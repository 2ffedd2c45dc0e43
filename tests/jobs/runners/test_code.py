import io
import tarfile

from studio.jobs.runners.code import code_archive


def test_the_code_that_is_sent_is_whole_and_always_the_same():
    data, version = code_archive()
    assert code_archive()[1] == version
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        names = archive.getnames()
    assert {"studio/__main__.py", "studio/jobs/child.py", "requirements.txt"} <= set(names)
    assert not [name for name in names if "__pycache__" in name]
