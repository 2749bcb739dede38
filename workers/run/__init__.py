"""Carry admitted requests upstream: scheduler, workers, clocks and the channel to the client.

In: jobs with a lease and a longest wait.
Out: frames in each job's channel and exactly one outcome per job.
"""
