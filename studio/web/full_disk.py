"""ASGI middleware: what a full disk does to a request behind it becomes an answer in words, not a bare 500."""

import errno

from studio.web.asgi import App, Message, Receive, Scope, Send, answer

FULL_DISK = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""What the system says when there is no room: of the disk, of a quota, of the largest file."""
_WORDS = "The disk of the studio is full, so nothing was stored; free some space there and try again."


class FullDisk:
    """Answers 507 where the app behind it fails for want of room.

    Gradio writes an upload to the disk while it reads it, knows no such error, and where it is mounted answers 500
    before it lets the error out; that answer is held back here until it is known why.
    """

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it here."""
        held: list[Message] = []
        begun = False

        async def hold_failures(message: Message) -> None:
            nonlocal begun
            if held or (message["type"] == "http.response.start" and message["status"] == 500):
                held.append(message)
            else:
                begun = True
                await send(message)

        try:
            await self._app(scope, receive, hold_failures)
        except OSError as error:
            if scope["type"] == "http" and not begun and error.errno in FULL_DISK:
                await answer(send, 507, _WORDS)
                return
            await _pass_on(held, send)
            raise
        except BaseException:
            await _pass_on(held, send)
            raise
        await _pass_on(held, send)


async def _pass_on(messages: list[Message], send: Send) -> None:
    for message in messages:
        await send(message)
