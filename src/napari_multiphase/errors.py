"""The one error a user is meant to read."""


class UserError(Exception):
    """Something the user can act on, as one sentence: what is wrong, where, and what to do.

    The command line prints it and exits with 2; the window shows it without a traceback. Anything else that is
    raised is a defect of this package.
    """


class Cancelled(Exception):
    """The user stopped the work. Not an error: nothing is reported and nothing is left half-written."""
