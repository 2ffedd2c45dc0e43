from studio.jobs.runners import needs


def test_only_what_this_python_lacks_is_named(monkeypatch):
    assert needs.missing() == []
    monkeypatch.setattr(needs, "NEEDS", ("json", "no_such_package"))
    assert needs.missing() == ["no_such_package"]
