"""Schedule the jobs of all processes of one gateway: one queue, one set of slots.

In: tickets of the children, and how their attempts went.
Out: grants, places in the queue and refusals.
"""
