"""POST documents: the text of a file."""

from __future__ import annotations

from server.accounting.admission import MAX_FILE_BYTES
from server.api.base import BaseHandler
from server.shapes.document_object import document_object
from workers.errors import InvalidRequest


class DocumentHandler(BaseHandler):
    """The text of a document: PDF, DOCX, XLSX, PPTX, ODT, ODS, ODP, RTF, EPUB or a text file.

    The body is the file as it is, at most 10 MiB. Nothing of it is stored. A guest's
    documents have a limit of their own.
    """

    body_limit = MAX_FILE_BYTES

    async def post(self) -> None:
        """Return the text of a file, with marks where its pages, sheets or slides begin."""
        assert self.principal is not None
        services = self.services
        data = self.take_body()
        if not data:
            raise InvalidRequest("Send the file as the body of the request.")
        lane = self.principal.lane
        services.documents.check_room(lane)
        await services.admission.count_document(self.principal)
        extract = await services.documents.read(data, lane, lambda: self.left)
        if not self.left:
            self.reply_json(document_object(extract))
