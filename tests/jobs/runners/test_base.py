"""What every runner must do, whichever it is."""

from studio.jobs.runners.base import log_lines


def last_step(events):
    return max((event.data["step"] for event in events if event.kind == "progress"), default=0)


def test_an_attempt_tells_its_events_in_order_and_leaves_its_files_in_the_jobs_folder(runner, new_attempt, follow):
    attempt = new_attempt("count 3 5")
    handle = runner.start(attempt)
    report, events = follow(runner, handle)
    assert report.outcome.state == "completed"
    assert report.outcome.result["source_files"] == ["a.png"]
    assert [event.data["step"] for event in events if event.kind == "metrics"] == [1, 2, 3]
    assert len((attempt.job_dir / "out" / "steps.txt").read_text().splitlines()) == 3
    assert runner.poll(handle, 0.0).outcome == report.outcome  # asked again, it says the same
    assert runner.poll(handle, 0.0).events == ()
    runner.leave(handle)


def test_an_attempt_that_has_begun_is_not_begun_again(runner, new_attempt, follow):
    attempt = new_attempt("count 5 50")
    handle = runner.start(attempt)
    assert runner.start(attempt) == handle
    report, _ = follow(runner, handle)
    assert report.outcome.state == "completed"
    assert len({line.split()[1] for line in (attempt.job_dir / "out" / "steps.txt").read_text().splitlines()}) == 1
    runner.leave(handle)


def test_a_cancelled_attempt_stops_by_itself_and_keeps_what_it_has(runner, new_attempt, follow):
    attempt = new_attempt("count 500 20")
    handle = runner.start(attempt)
    follow(runner, handle, until=lambda events: last_step(events) >= 2)
    runner.cancel(handle, 20.0)
    report, _ = follow(runner, handle)
    assert report.outcome.state == "cancelled"
    runner.leave(handle)
    done = len((attempt.job_dir / "out" / "steps.txt").read_text().splitlines())
    assert 2 <= done < 500
    handle = runner.start(new_attempt(f"count {done + 2} 1", number=2))
    report, events = follow(runner, handle)
    assert report.outcome.state == "completed"
    assert [event.data["step"] for event in events if event.kind == "metrics"] == [done + 1, done + 2]
    runner.leave(handle)


def test_one_that_does_not_listen_is_gone_after_the_grace(runner, new_attempt, follow):
    handle = runner.start(new_attempt("stubborn"))
    follow(runner, handle, until=last_step)
    runner.cancel(handle, 0.5)
    report, _ = follow(runner, handle)
    assert report.outcome is None or report.outcome.state == "cancelled"
    runner.leave(handle)


def test_everything_that_an_attempt_started_goes_with_it(runner, new_attempt, follow, gone, homes):
    handle = runner.start(new_attempt("spawn 500"))
    follow(runner, handle, until=last_step)
    pids = next(path for home in homes for path in home.rglob("pids.txt")).read_text().split()
    runner.cancel(handle, 0.0)
    follow(runner, handle)
    runner.leave(handle)
    assert all(gone(int(pid)) for pid in pids)


def test_a_fault_of_the_users_has_its_problems_and_one_of_ours_its_words(runner, new_attempt, follow):
    handle = runner.start(new_attempt("refuse"))
    report, _ = follow(runner, handle)
    assert report.outcome.state == "stalled"
    assert [problem["where"] for problem in report.outcome.problems] == ["a.jpg", "b.jpg"]
    runner.leave(handle)
    handle = runner.start(new_attempt("leave", job_id="check-fedcba9876543210"))
    report, _ = follow(runner, handle)
    assert report.outcome.state == "stalled"
    assert "SystemExit" in report.outcome.cause
    runner.leave(handle)


def test_one_that_dies_has_no_outcome_and_a_reason(runner, new_attempt, follow):
    handle = runner.start(new_attempt("die 1"))
    report, _ = follow(runner, handle)
    assert report.outcome is None
    assert "was killed, probably out of memory" in report.reason
    runner.leave(handle)


def test_its_log_can_be_read_on_from_where_one_was(runner, new_attempt, follow):
    handle = runner.start(new_attempt("chatter 200"))
    report, _ = follow(runner, handle)
    assert report.outcome.state == "completed"
    lines, cursor = runner.logs(handle, 0)
    assert any("printed 100" in line for line in lines)
    assert runner.logs(handle, cursor) == ([], cursor)
    runner.leave(handle)


def test_half_a_line_of_a_log_waits_for_the_rest(tmp_path):
    (tmp_path / "log.txt").write_bytes(b"one\ntw")
    assert log_lines(tmp_path / "log.txt", 0) == (["one"], 4)
    (tmp_path / "log.txt").write_bytes(b"one\ntwo\n")
    assert log_lines(tmp_path / "log.txt", 4) == (["two"], 8)
    assert log_lines(tmp_path / "none", 8) == ([], 8)
