"""What can go wrong with users, passwords and sessions."""

from __future__ import annotations


class AccountError(Exception):
    """Something about a workshop's users; the message says what happened and what to do."""


class NameRefused(AccountError):
    """This is no name that a user can have."""


class UserExists(AccountError):
    """There is a user of this name already."""


class UserUnknown(AccountError):
    """There is no user of this name."""


class PasswordRefused(AccountError):
    """This is no password that a user can have."""


class SignInFailed(AccountError):
    """The name or the password is wrong; which of them is not told."""


class Busy(AccountError):
    """So many people sign in that this one has to wait; nothing was checked."""


class TooManyFailures(AccountError):
    """Too many sign-ins have failed; `seconds` is how long to wait."""

    def __init__(self, seconds: int) -> None:
        super().__init__(f"Too many sign-ins have failed. Try again in {seconds} s.")
        self.seconds = seconds
