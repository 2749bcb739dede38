"""Read the text of documents, in a child process with limits of time, memory and output.

In: the bytes of one file: PDF, office formats, text in any common encoding.
Out: its text with page, sheet or slide marks, or the reason why it cannot be read.
"""
