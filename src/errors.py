"""The one exception that is the user's to mend."""


class UserError(Exception):
    """A mistake in input, configuration or order of steps.

    The message names the file, the cause and the remedy; scripts print it as one line and exit with 1.
    """
