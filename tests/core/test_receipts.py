from studio.core.receipts import Receipt, Share

JOBS = ("check-1", "train-1", "train-2", "generate-1")


def test_a_dry_run_says_what_would_go() -> None:
    receipt = Receipt("", ("check-1", "train-1", "train-2"), (), 3, 2000, 0.0, None, dry_run=True)
    assert receipt.words() == "This would be deleted for good: 1 photo set, 2 training runs; 3 files, 2 kB."


def test_a_receipt_says_what_is_gone_when_and_what_is_not() -> None:
    shares = (Share("backup", 2, 1000), Share("cache", 1, 500), Share("folders", 9, 500))
    receipt = Receipt("ab", JOBS, shares, 12, 2000, 0.0, 60.0, published=("you/ada",))
    assert receipt.words().splitlines() == [
        "Deleted for good on 1970-01-01 00:01 UTC: 1 photo set, 2 training runs, 1 set of pictures; 12 files, 2 kB.",
        "Of that 2 files in the backup.",
        "Of that 1 file in the result cache.",
        "Not touched: you/ada on the Hugging Face Hub; the command unpublish deletes it there.",
    ]


def test_nothing_is_said_to_be_nothing() -> None:
    assert Receipt("", (), (), 0, 0, 0.0, None, dry_run=True).words() == "There is nothing to delete."


def test_a_place_that_could_not_be_reached_is_named() -> None:
    receipt = Receipt("ab", (), (), 0, 0, 0.0, None, waits_for=("backup",))
    assert receipt.words().splitlines()[-1] == (
        "What is in the backup could not be reached yet; it is deleted as soon as it can be."
    )
