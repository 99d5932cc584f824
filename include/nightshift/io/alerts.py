"""Alerts to people, by webhook."""

from __future__ import annotations

import json
import logging
import urllib.error
import urllib.request

from pydantic import SecretStr

log = logging.getLogger(__name__)

TIMEOUT_SECONDS = 10


def send_alert(webhook: SecretStr | None, text: str) -> bool:
    """POST `{"text": text}` as JSON, the format of chat webhooks; do nothing if `webhook` is None.

    A delivery error is logged and not raised: the same facts are in the warehouse and in the log.
    Returns whether the message was delivered.
    """
    if webhook is None:
        return False
    body = json.dumps({"text": text}).encode()
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(webhook.get_secret_value(), body, headers, method="POST")  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS):  # noqa: S310
            return True
    except (urllib.error.URLError, OSError, ValueError) as error:
        # The URL holds the secret: name the kind of failure only.
        log.error("the alert webhook did not accept the message (%s): %s", type(error).__name__, text)
        return False
