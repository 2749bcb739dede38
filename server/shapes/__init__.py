"""Declare the JSON objects that the API answers with, each with the function that builds it.

In: domain objects: keys, models, jobs, usage rows.
Out: structs that handlers send as JSON and that the OpenAPI document is made of.
"""
