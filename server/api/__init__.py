"""Handle the routes of the API, one module per resource.

In: HTTP requests, and the services that the composition root has built.
Out: JSON answers, event streams, and errors in OpenAI's shape.
"""
