"""What the commands raise when they cannot go on."""


class CommandError(Exception):
    """The command cannot go on; the message is a sentence that says what to do."""
