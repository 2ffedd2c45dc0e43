"""What owners ask of their webhooks, with everything that is wrong refused before it is stored.

A part of ``studio.service.Studio``; addresses are checked here, and again at each attempt.
"""

from collections.abc import Collection, Mapping
from typing import Any

from studio.core.errors import InputError, Problem
from studio.core.webhooks import DeliveryView, WebhookChange, WebhookConfig, WebhookView
from studio.jobs.webhooks.addresses import ForbiddenAddressError, Reach
from studio.jobs.webhooks.ledger import Ledger

_CURE = "give an https address on the public internet that takes a POST, such as https://example.org/hooks"


class WebhookDesk:
    """Webhooks of all owners of one installation; every call names the owner.

    Args:
        ledger: where they are.
        reach: where they may lead.
    """

    def __init__(self, ledger: Ledger, reach: Reach) -> None:
        self._ledger = ledger
        self._reach = reach

    def create(self, config: WebhookConfig, *, owner: str) -> tuple[WebhookView, str]:
        """Add a webhook; return it with its secret, which nobody shows again.

        Raises:
            InputError: the address may not be reached. ConflictError: the owner has too many webhooks.
        """
        self.require(config.url, "url")
        return self._ledger.create(owner, config)

    def all(self, *, owner: str) -> list[WebhookView]:
        """Return the owner's webhooks, newest first."""
        return self._ledger.all(owner)

    def get(self, webhook: str, *, owner: str) -> WebhookView:
        """Return one webhook; raises NotFoundError."""
        return self._ledger.get(owner, webhook)

    def change(self, webhook: str, change: WebhookChange, *, owner: str) -> WebhookView:
        """Change what is given; raises NotFoundError, and InputError: the new address may not be reached."""
        self._ledger.get(owner, webhook)
        if change.url is not None:
            self.require(change.url, "url")
        return self._ledger.change(owner, webhook, change.model_dump(exclude_none=True))

    def drop(self, webhook: str, *, owner: str) -> None:
        """Delete a webhook with its deliveries; raises NotFoundError."""
        self._ledger.drop(owner, webhook)

    def rotate(self, webhook: str, *, owner: str) -> tuple[WebhookView, str]:
        """Give a webhook a new secret; the old one also signs for a day. Raises NotFoundError."""
        return self._ledger.rotate(owner, webhook)

    def test(self, webhook: str, *, owner: str) -> DeliveryView:
        """Send an event that means nothing; raises NotFoundError, and ConflictError: the webhook is not active."""
        return self._ledger.test(owner, webhook)

    def deliveries(
        self, webhook: str, *, owner: str, limit: int = 50, state: str | None = None, before: str | None = None
    ) -> list[DeliveryView]:
        """Return the newest deliveries, as ``Ledger.deliveries``."""
        return self._ledger.deliveries(owner, webhook, limit, state=state, before=before)

    def redeliver(self, webhook: str, delivery: str, *, owner: str) -> DeliveryView:
        """Send a delivery once more, as ``Ledger.redeliver``."""
        return self._ledger.redeliver(owner, webhook, delivery)

    def require(self, url: str, where: str) -> None:
        """Raise InputError that names ``where`` if a webhook may not lead to an address."""
        try:
            self._reach.check(url)
        except ForbiddenAddressError as error:
            raise InputError.of([Problem(where, str(error), _CURE, "forbidden_address")]) from None

    def follow(
        self, job: str, *, owner: str, url: str, events: Collection[str], form: str, context: Mapping[str, Any]
    ) -> None:
        """Add a webhook that hears of one job alone, as ``Ledger.follow``; its address has been checked."""
        self._ledger.follow(owner, job, url=url, events=events, form=form, context=context)

    def secret_of_requests(self, *, owner: str) -> str:
        """Return the secret that the webhooks of an owner's requests share."""
        return self._ledger.secret_of_requests(owner)
