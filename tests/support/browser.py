"""Debian's Chromium, driven by Playwright, and Airflow's own sign-in."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright

from support.local_stack import LocalStack

NAMES = ("chromium", "chromium-browser", "google-chrome")
PATIENCE_MS = 60_000
SERIOUS = ("serious", "critical")


@contextmanager
def chromium() -> Iterator[Browser]:
    """A headless browser. Skips the test where there is none."""
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        pytest.skip(f"no {' or '.join(NAMES)} on PATH: install Debian's chromium")
    with sync_playwright() as playwright:
        # Root has no user namespace to put the sandbox in.
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=path, args=arguments)
        yield browser
        browser.close()


def signed_in(browser: Browser, stack: LocalStack, **context: Any) -> Page:
    """A page of a new context in which the stack's user has signed in through Airflow's form."""
    page = browser.new_context(base_url=stack.environment["AIRFLOW_API_URL"], **context).new_page()
    page.set_default_timeout(PATIENCE_MS)
    page.goto("/auth/login")
    page.fill("input[name=username]", stack.environment["NIGHTSHIFT_UI_USER"])
    page.fill("input[name=password]", stack.environment["NIGHTSHIFT_UI_PASSWORD"])
    page.click("button[type=submit]")
    page.wait_for_url(lambda url: "/auth/login" not in url)
    return page


def violations(page: Page) -> list[str]:
    """What axe finds serious or critical on a page: rule and elements."""
    found = Axe().run(page).response["violations"]
    return [
        f"{one['id']}: {[node['target'] for node in one['nodes']][:3]}" for one in found if one["impact"] in SERIOUS
    ]
