from dataclasses import replace

from studio.core.domain import JobView
from studio.web.page.parts import of_job
from studio.web.page.script import script
from studio.web.session import OPEN_STATES

JOB = JobView("t-1", "train", "training", "local", "Training of <Ada>", 0.0, progress={"step": 30, "total": 120})


def test_the_script_knows_the_open_states_and_closes_no_tag_early() -> None:
    text = script(OPEN_STATES)
    assert '"pendingGpu"' in text and '"completed"' not in text.split("const OPEN = ")[1].split(";")[0]
    assert text.count("</script>") == 1 and "%%" not in text


def test_what_is_shown_of_a_job_is_marked_with_it() -> None:
    html = of_job(JOB, "")
    assert 'data-job="t-1"' in html and 'data-job-state="training"' in html and 'data-share="0.2500"' in html
    assert "<Ada>" not in html
    assert 'data-share=""' in of_job(replace(JOB, state="completed"), "")
