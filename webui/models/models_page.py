"""Serve the page at `/models`: every model of the catalog with each of its deployments."""

from __future__ import annotations

from server.shapes.health_object import health_everywhere
from webui.models.deployment_rows import model_view
from webui.shell.pages import LostClientHandler
from webui.shell.peer_requests import asked_by


class ModelsPageHandler(LostClientHandler):
    """The page at `/models`."""

    access = "owner"
    section = "models"
    script_texts = ("health", "models")
    translated = True

    def refuse_head(self) -> None:
        """Refuse API clients, whose base URL lacks the path of the API."""
        self.refuse_clients()
        super().refuse_head()

    async def get(self) -> None:
        """Show the models that can be used first, in the order of the catalog."""
        report = await health_everywhere(self.services, asked_by(self))
        health = {one.id: one for one in report.models}
        catalog = sorted(self.services.catalog, key=lambda model: not model.live_deployments())
        language = self.language()
        models = [
            model_view(number, model, health[model.id], language)
            for number, model in enumerate(catalog, 1)
        ]
        configured = sum(bool(model.live_deployments()) for model in catalog)
        self.show(
            "models/page.html",
            models=models,
            configured=language.figures.count(configured),
        )
