"""Keep the conversations of people who signed in.

In: conversations, messages and files as the browser has them, each of one person.
Out: what has changed since a cursor, conflicts, search hits, exports and read-only links.
"""
