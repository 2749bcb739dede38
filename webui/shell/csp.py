"""The headers that protect every page: browsers may load only files of this server.

Trusted Types are required and no policy may be created (W3C Trusted Types, `trusted-types 'none'`),
so scripts cannot turn text into markup: what a model writes becomes DOM text nodes.
"""

from __future__ import annotations

DIRECTIVES = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self' data: blob:",
    "font-src": "'self'",
    "connect-src": "'self'",
    "form-action": "'self'",
    "base-uri": "'none'",
    "frame-ancestors": "'none'",
    "manifest-src": "'self'",
    "require-trusted-types-for": "'script'",
    "trusted-types": "'none'",
}
POLICY = "; ".join(f"{name} {value}" for name, value in DIRECTIVES.items())

PAGE_HEADERS = {
    "Content-Type": "text/html; charset=utf-8",
    "Content-Security-Policy": POLICY,
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}
SECURE_HEADERS = {"Cross-Origin-Opener-Policy": "same-origin"}
"""Browsers obey this header over HTTPS only and print a warning about it over HTTP."""
