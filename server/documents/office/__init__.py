"""Read documents that are ZIP files with XML parts: Office, OpenDocument and EPUB.

In: the parts of a ZIP file, unpacked within limits.
Out: their text, written into a collector, or Unreadable.
"""
