"""The pages' routes; the last one takes everything that is not there."""

from __future__ import annotations

from server.handlers.base import BaseHandler
from webui.pages import HomeHandler, NoSuchPageHandler, StyleHandler


def page_rules(services: object) -> list[tuple[str, type[BaseHandler], dict[str, object]]]:
    """Give Tornado's rules for the pages."""
    given = {"services": services}
    return [
        (r"/", HomeHandler, given),
        (r"/static/site.css", StyleHandler, given),
        (r".*", NoSuchPageHandler, given),
    ]
