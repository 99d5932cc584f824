"""Receivers of alerts by URL, and that their secrets stay out of messages and logs."""

import pytest
from pydantic import SecretStr

from nightshift.errors import ConfigurationError
from nightshift.io.alerts import receivers, usable_receivers
from support.errors import raises_code

SLACK = "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ"
MAIL = "mailto://night:pa55word@example.com?to=a@example.com,b@example.com"


@pytest.mark.parametrize("urls", [None, SecretStr(""), SecretStr(" \n")])
def test_no_receivers(urls):
    assert receivers(urls) == []


@pytest.mark.parametrize("separator", [" ", ", ", ",", "\n"])
def test_several_receivers(separator):
    found = receivers(SecretStr(separator.join((f"{SLACK}/#night", MAIL, "json://127.0.0.1:1/x"))))
    assert [one.kind for one in found] == ["Slack", "E-Mail", "JSON"]
    assert found[1].service.targets == [(False, "a@example.com"), (False, "b@example.com")]


def test_two_channels_of_one_account_are_two_receivers_and_the_same_url_is_one():
    night, day = receivers(SecretStr(f"{SLACK}/#night {SLACK}/#day {SLACK}/#night"))
    assert night.receiver_id != day.receiver_id
    assert receivers(SecretStr(f"{SLACK}/#night"))[0].receiver_id == night.receiver_id


def test_a_url_that_is_not_supported_is_named_by_number_and_the_others_are_used(caplog):
    urls = SecretStr("pigeon://s3cr3t/path json://127.0.0.1:1/s3cr3t json://")
    with raises_code(ConfigurationError, "NS-ALERT-001", "1, 3"):
        receivers(urls)
    assert [one.kind for one in usable_receivers(urls)] == ["JSON"]
    assert "NS-ALERT-001" in caplog.text
    assert "s3cr3t" not in caplog.text


def test_a_receiver_that_is_not_there_is_logged_without_its_secret(caplog):
    caplog.set_level("DEBUG")
    (receiver,) = receivers(SecretStr("json://ann:pa55word@127.0.0.1:1/s3cr3t?cto=1"))
    assert receiver.send("title", "text") is False
    assert "JSON did not accept the message: text" in caplog.text
    assert "s3cr3t" not in caplog.text
    assert "pa55word" not in caplog.text
