"""Data Docs: Great Expectations' page of a validation result, safe to show in a browser.

Great Expectations' templates put delivered values into the page as markup, and load styles and scripts from other
servers. Here every value is escaped, the frame of the page (`data_docs_templates/`) needs nothing from elsewhere, and
a policy in the page, which also holds for a copy on disk, forbids scripts, forms and frames.
"""

from __future__ import annotations

import html
import re
from functools import cache
from pathlib import Path
from typing import Any

from great_expectations.core import ExpectationSuiteValidationResult
from great_expectations.render.renderer.page_renderer import ValidationResultsPageRenderer
from great_expectations.render.view.view import DefaultJinjaPageView
from jinja2 import ChoiceLoader, FileSystemLoader, pass_context

TEMPLATES = Path(__file__).parent / "data_docs_templates"
POLICY = "default-src 'none'; style-src 'unsafe-inline'; form-action 'none'; base-uri 'none'"
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


def page(result: ExpectationSuiteValidationResult) -> str:
    """The Data Docs page of a validation result. Equal results give equal text."""
    document = ValidationResultsPageRenderer().render(result)
    text: str = _view().render(document, policy=POLICY)  # type: ignore[no-untyped-call]
    # Rendering generates random element ids.
    return _UUID.sub("0", text)


class _EscapingView(DefaultJinjaPageView):
    """Great Expectations' view with the project's frame, in which a value never becomes markup.

    Its own view escapes parameters of string templates, and neither cells of tables nor tooltips.
    """

    _template = "page.html.j2"

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        # Templates of the same name replace those of Great Expectations.
        self.env.loader = ChoiceLoader([FileSystemLoader(TEMPLATES), self.env.loader or ChoiceLoader([])])

    @pass_context
    def render_content_block(
        self,
        jinja_context: Any,
        content_block: Any,
        index: Any = None,
        content_block_id: Any = None,
        render_to_markdown: bool = False,
    ) -> Any:
        """As Great Expectations', with texts escaped."""
        if isinstance(content_block, list):
            content_block = [_escaped(one) for one in content_block]
        elif not isinstance(content_block, dict):
            return _escaped(content_block)
        elif "content_block_type" not in content_block:
            return html.escape(str(content_block))
        return super().render_content_block(jinja_context, content_block, index, content_block_id, render_to_markdown)

    def render_string_template(self, template: Any) -> Any:
        """As Great Expectations', with its own text escaped, which has names of columns in it, and its tooltip."""
        if not isinstance(template, dict):
            return _escaped(template)
        template = template | {"template": html.escape(template.get("template", ""), quote=False)}
        if "tooltip" in template:
            tooltip = template["tooltip"]
            template = template | {"tooltip": tooltip | {"content": html.escape(str(tooltip["content"]))}}
        return super().render_string_template(template)  # type: ignore[no-untyped-call]

    @staticmethod
    def _escape_template_param_value(value: Any) -> Any:
        return _escaped(value)

    def render_styling(self, styling: Any) -> str:
        """As Great Expectations', with values of attributes escaped, and without links to pages that there are not."""
        declared = (styling.get("attributes") or {}).items()
        attributes = {name: html.escape(str(value)) for name, value in declared if name != "href"}
        text: str = super().render_styling({**styling, "attributes": attributes})
        return text


def _escaped(value: Any) -> Any:
    """A text or scalar as text of a page; components of Great Expectations as they are."""
    return value if value is None or isinstance(value, dict | list) else html.escape(str(value))


@cache
def _view() -> _EscapingView:
    # One object for all pages: compiling its templates takes ten times as long as filling them.
    return _EscapingView()
