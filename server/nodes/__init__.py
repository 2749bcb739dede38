"""Connect the processes of one gateway: what a serving process asks of the keeper of its data.

In: calls of a child to its keeper, and changes that the keeper sends to its children.
Out: the store and the counters of the keeper, as a child uses them.
"""
