"""Serve the live page: running and waiting requests, which the owner can stop.

The page works without scripts. Its script fetches it again every two seconds and replaces what has
changed.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from urllib.parse import quote

from server.answers.job_access import find_job
from server.identity.authentication import XSRF_HEADER
from server.shapes.live_object import live_everywhere
from webui.live.live_rows import is_dark, model_row, node_row, rows_of, tiles_of
from webui.shell.figures import exact_moment
from webui.shell.pages import SMALL_FORM_BYTES, PageHandler
from webui.shell.peer_requests import asked_by
from workers.errors import NotFound, Stopped


class LivePageHandler(PageHandler):
    """The page at `/live`."""

    access = "owner"
    section = "live"
    translated = True
    script_texts = ("live",)

    async def get(self) -> None:
        """Show the state of this moment."""
        live, now = await live_everywhere(self.services, asked_by(self)), time.time()
        models, language = live.models, self.language()
        self.show(
            "live.html",
            rows=rows_of(models, language),
            models=[model_row(model, language) for model in sorted(models, key=is_dark)],
            left_out=sum(model.jobs_left_out for model in models),
            away=live.away,
            tiles=tiles_of(live, language),
            nodes=[node_row(node, language) for node in live.nodes] if len(live.nodes) > 1 else [],
            idle=not any(model.jobs for model in models),
            now=f"{datetime.fromtimestamp(now, UTC):%H:%M:%S}",
            now_exact=exact_moment(now),
        )


class StopHandler(PageHandler):
    """The button "Stop", for browsers without scripts."""

    access = "owner"
    section = "live"
    translated = True
    body_limit = SMALL_FORM_BYTES

    async def post(self, job_id: str) -> None:
        """Stop a request; if it has just ended, do nothing."""
        self.take_form()
        assert self.principal is not None
        services = self.services
        try:
            job, _ = find_job(services.engine, services.answers, self.principal, job_id)
        except NotFound:
            await self._stop_elsewhere(job_id)
        else:
            if job is not None:
                job.close("cancelled", Stopped())
        self.redirect_to("/live")

    async def _stop_elsewhere(self, job_id: str) -> None:
        """Have the process that has the request stop it. Raises NodeUnavailable."""
        peer = await self.services.peers.find(job_id, nodes=True)
        if peer is None:
            return
        asked = asked_by(self)
        headers = dict(asked.headers) | {
            XSRF_HEADER: self.xsrf({}),
            "Sec-Fetch-Site": "same-origin",
        }
        target = f"/api/v1/jobs/{quote(job_id, safe='')}"
        await self.services.passing.ask(peer, "DELETE", target, headers, asked.passed_on())
