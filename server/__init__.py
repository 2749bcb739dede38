"""The door: configuration, authentication, keys, limits, store, ledger and the API handlers."""
