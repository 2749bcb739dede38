"""Declare each operation of the chat history as steps, without I/O.

In: a person, ids, changes and limits.
Out: generators that yield SQL for SQLite and PostgreSQL alike and return the result.
"""
