"""The engine: wire types, errors, catalog, jobs, fair queues, worker pools, transport, providers."""
