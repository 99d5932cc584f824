"""Takes the pictures of the app in docs/images from a running stack, or from the app alone.

    eval "$(make -s env)"; python docs/take_screenshots.py
    python docs/take_screenshots.py --app http://127.0.0.1:8000

Needs chromium on PATH. With a stack, it signs in and takes the app inside of Airflow's frame; with --app, the app that
runs at that address without access control.
"""

from __future__ import annotations

import argparse
import os
import shutil
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

IMAGES = Path(__file__).parent / "images"
WIDE, PHONE = {"width": 1280, "height": 1080}, {"width": 390, "height": 844}
PICTURES = (
    ("app_overview", "", WIDE, "light"),
    ("app_drift", "/drift?days=180", WIDE, "dark"),
    ("app_performance", "/performance?days=180", WIDE, "light"),
    ("app_phone", "", PHONE, "light"),
)
"""File, page of the use case, window, theme."""


def main() -> None:
    """Take all pictures."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--app", help="address of the app without Airflow")
    arguments.add_argument("--use-case", default="flight_delay")
    chosen = arguments.parse_args()
    with sync_playwright() as playwright:
        path = shutil.which("chromium")
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"] if os.geteuid() == 0 else [])
        for name, page, window, theme in PICTURES:
            _take(browser, chosen.app, f"{chosen.use_case}{page}", IMAGES / f"{name}.png", window, theme)
        browser.close()


def _take(browser: Browser, app: str | None, path: str, file: Path, window: dict[str, int], theme: str) -> None:
    page = browser.new_context(viewport=window, color_scheme=theme).new_page()
    if app:
        page.goto(f"{app}/{path}")
    else:
        _sign_in(page)
        page.goto(f"{os.environ['AIRFLOW_API_URL']}/plugin/nightshift/nightshift/{path}")
        page.frame_locator("iframe").locator("main").wait_for()
    page.wait_for_timeout(1500)
    page.screenshot(path=file)


def _sign_in(page: Page) -> None:
    page.goto(f"{os.environ['AIRFLOW_API_URL']}/auth/login")
    page.fill("input[name=username]", os.environ["NIGHTSHIFT_UI_USER"])
    page.fill("input[name=password]", os.environ["NIGHTSHIFT_UI_PASSWORD"])
    page.click("button[type=submit]")
    page.wait_for_url(lambda url: "/auth/login" not in url)


if __name__ == "__main__":
    main()
