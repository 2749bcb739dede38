"""The request handlers of the API, one file per resource."""
