"""The page's own script: address and title of the window, and a notification when a long job ends.

The address names the job or the tab that is shown, so that a bookmark and the way back lead there; the title says how
far a job is; who has let another window come to the front hears when it ends. The browser is asked for its leave only
when a training starts. Jobs are found by ``data-job`` (see ``parts.of_job``).
"""

import json

from studio.core import language
from studio.web.page import words

_SCRIPT = """
(() => {
  document.documentElement.lang = %(language)s;
  const TITLE = %(title)s, ENDED = %(ended)s, STOPPED = %(stopped)s;
  const OPEN = %(open)s;
  const seen = new Map();
  const visible = (part) => part.offsetParent !== null;
  const remember = (name, value) => {
    const address = new URL(window.location.href);
    if (address.searchParams.get(name) === value && !(name === 'tab' && address.searchParams.has('job'))) return;
    address.searchParams.delete('job'); address.searchParams.delete('tab');
    address.searchParams.set(name, value);
    window.history.replaceState(window.history.state, '', address);
  };
  const look = () => {
    let title = TITLE;
    for (const part of document.querySelectorAll('[data-job]')) {
      const {job, jobState: state, share, title: name} = part.dataset;
      const open = OPEN.includes(state);
      if (open && share) title = `${Math.round(100 * share)} %% · ${TITLE}`;
      if (!open && seen.get(job) && document.hidden && window.Notification && Notification.permission === 'granted')
        new Notification(name, {body: state === 'completed' ? ENDED : STOPPED, tag: job});
      seen.set(job, open);
      if (visible(part)) remember('job', job);
    }
    if (document.title !== title) document.title = title;
  };
  let waiting = 0;
  const soon = () => { window.clearTimeout(waiting); waiting = window.setTimeout(look, 150); };
  document.addEventListener('click', (event) => {
    const tab = event.target.closest('[role=tab][data-tab-id]');
    if (tab) { remember('tab', tab.dataset.tabId); soon(); }
    if (event.target.closest('.ls-long') && window.Notification && Notification.permission === 'default')
      Notification.requestPermission();
  });
  new MutationObserver(soon).observe(document.documentElement, {childList: true, subtree: true});
})();
"""


def script(open_states: frozenset[str]) -> str:
    """Return the HTML for the page's head.

    Args:
        open_states: states of jobs that have not ended.
    """
    filled = _SCRIPT % {
        "language": json.dumps(language.current()),
        "title": json.dumps(words.TITLE),
        "ended": json.dumps(words.NOTE_ENDED),
        "stopped": json.dumps(words.NOTE_STOPPED),
        "open": json.dumps(sorted(open_states)),
    }
    return f"<script>{filled}</script>"
