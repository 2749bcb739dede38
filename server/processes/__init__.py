"""Run a gateway in several processes: the keeper of the data and the children that serve requests.

In: a resolved configuration; signals, a service manager's sockets, requests to reload.
Out: serving processes that are started, watched, replaced and stopped.
"""
