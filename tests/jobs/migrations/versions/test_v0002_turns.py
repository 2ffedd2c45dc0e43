from studio.core.domain import JobFacts
from studio.jobs.queue import Claim
from studio.jobs.sqlite import SqliteDatabase
from studio.jobs.store import Store

OWNER = "ada"


def test_a_table_of_version_1_keeps_its_jobs_and_gets_their_facts_from_their_titles(old_table):
    store = Store(SqliteDatabase(old_table(1)))
    facts = {view.id: view.facts for view in store.newest(OWNER, 10)}
    assert facts == {
        "check": JobFacts(subject="Ada"),
        "train": JobFacts(subject="Ada", base="pocket"),
        "generate": JobFacts(pack="places"),
        "export": JobFacts(format="kohya"),
        "finish": JobFacts(chain="avatar"),
        "publish": JobFacts(repo="ada/x"),
    }
    assert store.claim() == Claim("generate", "generate", 1)
    store.close()


def test_a_backup_of_version_1_gets_its_facts_too(old_table):
    store = Store(SqliteDatabase(old_table(1)))
    old = store.dump("check")
    old["job"] |= {"id": "old", "key": None}
    del old["job"]["facts"]
    assert store.restore("old", old) and store.get("old", OWNER).facts == JobFacts(subject="Ada")
    assert [view.id for view in store.newest(OWNER, 10)][-1] == "old", "it comes before all that are here"
    store.close()
