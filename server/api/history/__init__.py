"""Handle the routes of the chat history: conversations, files, settings, search, links.

In: requests of the owner and of key holders, as the page or a program sends them.
Out: JSON answers and files, each of the caller's own history.
"""
