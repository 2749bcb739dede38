"""The engine: wire types, errors, catalog, jobs, queues, worker pools, transport, providers."""
