"""What Gradio keeps of a browser's session, made small; nothing at all of a call without a session.

Gradio makes a session for each queued call that names none, called by the id of its event, and keeps 10,000 of them. In
each lies the whole page as a dictionary, 0.45 MB here, for links that restore a page (they are closed, see
``guard``): 400 polls of one endpoint took the server from 151 to 339 MB. The messages of a call whose answer nobody
fetched stay, too.
"""

from copy import copy
from typing import TYPE_CHECKING, Any

from gradio.state_holder import SessionState, StateHolder

if TYPE_CHECKING:
    from gradio.blocks import Blocks

MOST_SESSIONS = 1000
"""Browser windows whose state is kept; the one that was used least recently goes first."""

MOST_WAITING = 128
"""Sessions whose messages are kept until somebody fetches them."""


class SmallSessionState(SessionState):
    """The state of one session, without the page as a dictionary."""

    def __init__(self, blocks: "Blocks") -> None:
        # Not super().__init__: it builds that dictionary, which takes nearly all the memory and most of the time.
        self.blocks_config = copy(blocks.default_config)
        self.config_values = {}
        self.state_data = {}
        self._state_ttl: dict[int, Any] = {}
        self.is_closed = False
        self.STATE_TTL_WHEN_CLOSED = 3600

    def __setitem__(self, key: int, value: Any) -> None:
        super().__setitem__(key, value)
        self.config_values.clear()

    def _update_config(self, key: int) -> None:
        """Leave it out, as all that follows the dictionary."""

    def _update_value_in_config(self, key: int, value: Any) -> None:
        """Leave it out, as all that follows the dictionary."""


class SessionStates(StateHolder):
    """The states of all sessions of a page.

    Args:
        blocks: the page, mounted.
    """

    def __init__(self, blocks: "Blocks") -> None:
        super().__init__()
        self.set_blocks(blocks)
        self.capacity = MOST_SESSIONS

    def __getitem__(self, session_id: str) -> SessionState:
        queue = self.blocks._queue
        if session_id in queue.event_ids_to_events:  # nobody chose this name, so nobody comes back to it
            self._forget_messages()
            return SmallSessionState(self.blocks)
        if session_id not in self.session_data:
            self.session_data[session_id] = SmallSessionState(self.blocks)
        return super().__getitem__(session_id)

    def _forget_messages(self) -> None:
        """Drop what the oldest calls answered and nobody fetched."""
        queue = self.blocks._queue
        waiting = queue.pending_messages_per_session
        for session in list(waiting)[: max(0, len(waiting) - MOST_WAITING)]:
            events = queue.pending_event_ids_session.get(session, set())
            if not any(event in queue.event_ids_to_events for event in events):  # else it still runs
                waiting.pop(session, None)
                queue.pending_event_ids_session.pop(session, None)
