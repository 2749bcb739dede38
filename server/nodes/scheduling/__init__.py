"""Give the jobs of all processes of one gateway their turns and slots from one scheduler.

In: tickets of the children, and how their attempts went.
Out: grants, places in the queue and refusals.
"""
