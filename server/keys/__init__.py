"""Hold the API keys: look-up, changes, secrets and the readable export.

In: secrets that clients present, and the owner's changes.
Out: keys, the answers of the keys API, and `api-keys.json`.
"""
