"""Serve the owner's page of models: what each deployment has and lacks, and how it does.

In: the catalog and the health of its deployments.
Out: the page, from which each deployment can be tried.
"""
