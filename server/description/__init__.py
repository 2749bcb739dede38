"""Describe the API, its errors and the fields of `[[models]]` for people and machines.

In: routes, answer types, error classes and settings, read from the code itself.
Out: the OpenAPI document and the tables of the documentation.
"""
