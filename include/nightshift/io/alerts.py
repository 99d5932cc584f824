"""Receivers of alerts: mail, chats, pagers and webhooks, by their Apprise URLs."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from typing import Any

from pydantic import SecretStr

from nightshift.artifact import sha256_hex
from nightshift.errors import ConfigurationError

log = logging.getLogger(__name__)

SEND_SECONDS = 60
"""How long a receiver may take for a message, with all addresses of its URL: its alerts are locked meanwhile."""

# Debug messages, and urllib3's warnings about headers that it cannot read, have the whole URL, secrets included.
logging.getLogger("apprise").setLevel(logging.INFO)
for http in ("urllib3.connection", "urllib3.connectionpool"):
    logging.getLogger(http).setLevel(logging.ERROR)


@dataclass(frozen=True)
class Receiver:
    """One receiver. `receiver_id` identifies it without its secrets, `kind` is the name of its service."""

    receiver_id: str
    kind: str
    service: Any

    def send(self, title: str, text: str) -> bool:
        """Send one message (plain text). Returns whether it was accepted; a failure is logged and not raised.

        Apprise waits four seconds for a connection and four for more of an answer, unless the URL states `cto` and
        `rto`. After SEND_SECONDS the message counts as not accepted, although it may still be.
        """
        import apprise

        receiver = apprise.Apprise()
        receiver.add(self.service)
        accepted = bool(
            receiver.notify(
                body=text,
                title=title,
                notify_type=apprise.NotifyType.WARNING,
                body_format=apprise.NotifyFormat.TEXT,
                timeout=SEND_SECONDS,
            )
        )
        if not accepted:
            log.error("%s did not accept the message: %s", self.kind, text)
        return accepted


def receivers(urls: SecretStr | None) -> list[Receiver]:
    """The receivers with these Apprise URLs, which are separated by spaces or commas.

    Raises ConfigurationError for a URL that Apprise does not support.
    """
    if urls is None or not urls.get_secret_value().strip():
        return []
    found, unusable = _parse(urls)
    if unusable:
        raise ConfigurationError(
            "NS-ALERT-001",
            f"NIGHTSHIFT_ALERT_URLS: not URLs of services that Apprise supports: number {', '.join(unusable)}. "
            "See https://appriseit.com/services for how to write them.",
        )
    return found


def usable_receivers(urls: SecretStr | None) -> list[Receiver]:
    """The same, without those that cannot be used, which are logged."""
    try:
        return receivers(urls)
    except ConfigurationError as error:
        log.error("%s", error)
        return _parse(urls)[0]


def _parse(urls: SecretStr | None) -> tuple[list[Receiver], list[str]]:
    """The different receivers with usable URLs, and the places of the other URLs, from 1."""
    import apprise

    found: dict[str, Receiver] = {}
    unusable = []
    service: Any
    each = re.split(r"[\s,;]+(?=\w+://)", urls.get_secret_value().strip()) if urls else []
    for place, url in enumerate(each, start=1):
        collection = apprise.Apprise()
        if not collection.add(url):
            unusable.append(str(place))
        for service in collection:
            # Neither has the secrets, the first is of the account, the second has what it is sent to.
            address = f"{service.url_id()} {service.url(privacy=True)}"
            receiver_id = sha256_hex(address.encode())[:12]
            found[receiver_id] = Receiver(receiver_id, str(service.service_name), service)
    return list(found.values()), unusable
