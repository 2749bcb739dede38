"""Resolve the configuration once, at the start.

In: defaults, `roxy.toml`, environment variables, command-line flags.
Out: one frozen `Config` and the table of settings, or a ConfigError that says what to change.
"""
