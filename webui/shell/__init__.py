"""Provide what all pages share: layout, sign-in, assets, security headers, figures and charts.

In: page requests and the values a page shows.
Out: HTML pages, static files, and errors as pages.
"""
