"""Run the `roxy` command.

In: command-line arguments and the environment.
Out: a running gateway, tables on the terminal, or one line that says what to do.
"""
