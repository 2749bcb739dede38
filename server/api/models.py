"""Handle `models` and `models/{id}`: the catalog as OpenAI's clients expect it."""

from __future__ import annotations

from server.accounting.admission import Admission
from server.api.base import BaseHandler
from server.identity.authentication import Principal
from server.shapes.model_object import ModelList, ModelObject, model_object
from workers.catalog.catalog import Model
from workers.errors import Forbidden, InvalidRequest, ModelNotFound


def model_for(admission: Admission, principal: Principal, model: Model) -> ModelObject:
    """Return a model as the API shows it to a caller."""
    return model_object(
        model,
        priced=principal.sees_costs,
        max_output_tokens=admission.max_output_tokens(principal, model),
    )


class ModelsHandler(BaseHandler):
    """The list of models the caller may use.

    Clients offer all of them to their users, so models without a live deployment are left out.
    """

    def get(self) -> None:
        """List the usable models in the catalog's order; with `all`, the owner gets every model."""
        assert self.principal is not None
        every = self._asks_for_all()
        if every and not self.principal.is_owner:
            raise Forbidden("Only the owner can list the models that cannot be used now.")
        may_use = self.services.admission.may_use
        self.reply_json(
            ModelList(
                object="list",
                data=[
                    model_for(self.services.admission, self.principal, model)
                    for model in self.services.catalog
                    if may_use(self.principal, model.id) and (every or model.live_deployments())
                ],
            )
        )

    def _asks_for_all(self) -> bool:
        text = self.get_query_argument("all", "false")
        if text not in ("true", "false"):
            raise InvalidRequest("'all' must be true or false.", param="all")
        return text == "true"


class ModelHandler(BaseHandler):
    """One model; its id may contain slashes, plain or as %2F."""

    def get(self, model_id: str) -> None:
        """Return the model, if the caller may use it."""
        assert self.principal is not None
        model = self.services.catalog.find(model_id)
        if not self.services.admission.may_use(self.principal, model.id):
            raise ModelNotFound  # not Forbidden: a key learns only of the models it may use
        self.reply_json(model_for(self.services.admission, self.principal, model))
