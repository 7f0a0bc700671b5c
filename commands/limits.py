"""`comfyume limits`: what people may use of a workshop, what they have used, and credits for who needs more."""

from __future__ import annotations

import argparse
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import redis.asyncio

from ..accounts.activity import COMMAND_LINE, ActivityLog
from ..accounts.users import Users
from ..job_queue.allowances import COUNTED, LIMIT_NAMES, USUAL, Allowances, Change, Limits
from ..job_queue.keys import Keys
from . import workshop_store
from .errors import CommandError
from .names import known_names

#: What a person reads of each limit.
WORDS = {
    "per_person": "prompts in the queue",
    "per_minute": "prompts queued within a minute",
    "gpu_day": "GPU minutes within 24 hours",
    "gpu_workshop": "GPU minutes in all",
    "credits_hour": "credits that each hour brings; one is a GPU minute",
    "disk": "GiB that their files may take",
}
LARGEST = 1e9


@dataclass(frozen=True)
class Workshop:
    """What the actions work on."""

    users: Users
    allowances: Allowances
    activity: ActivityLog


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the actions and their options."""
    workshop_store.add_arguments(parser)
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)

    actions.add_parser("show", help="show the limits of all, and what each person has used")

    setting = actions.add_parser("set", help="set limits of all, or of the people who are named")
    setting.add_argument("names", nargs="*", metavar="NAME", help="a user, or a range such as user001..user020")
    for name, words in WORDS.items():
        setting.add_argument(
            f"--{name.replace('_', '-')}",
            metavar="N",
            help=f"{words}; `none` for no limit, `usual` for that of all",
        )

    grant = actions.add_parser("grant", help="give people credits")
    grant.add_argument("credits", type=float, help="how many; a negative number takes some back")
    grant.add_argument("names", nargs="+", metavar="NAME", help="a user, or a range such as user001..user020")


def run(options: argparse.Namespace) -> int:
    """Do what was asked for."""

    async def work(client: redis.asyncio.Redis, keys: Keys) -> None:
        workshop = Workshop(Users(client, keys), Allowances(client, keys), ActivityLog(client, keys))
        await ACTIONS[options.action](options, workshop)
        await workshop.activity.flush()

    return workshop_store.run_on_store(options, work)


async def _show(_options: argparse.Namespace, workshop: Workshop) -> None:
    limits = await workshop.allowances.limits()
    print("Each person may use, unless it is said otherwise below:")
    for name, words in WORDS.items():
        most = getattr(limits, name)
        print(f"  {'no limit' if most is None else f'{most:g}':>10}  {words}")
    users = list(await workshop.users.all())
    for user, allowance in (await workshop.allowances.of(users)).items():
        used = [
            f"{allowance.gpu_workshop:.1f} GPU minutes, {allowance.gpu_day:.1f} of them within 24 hours",
            f"{allowance.queued} prompts in the queue",
        ]
        if allowance.credits is not None:
            used.append(f"{allowance.credits:.1f} credits left")
        print(f"{user:<24} {', '.join(used)}{_own(allowance.limits, allowance.own)}")


def _own(limits: Limits, own: frozenset[str]) -> str:
    told = [f"{name.replace('_', '-')} {_shown(getattr(limits, name))}" for name in LIMIT_NAMES if name in own]
    return f"; own limits: {', '.join(told)}" if told else ""


def _shown(most: float | None) -> str:
    return "none" if most is None else f"{most:g}"


async def _set(options: argparse.Namespace, workshop: Workshop) -> None:
    changes = {
        name: _change(name, getattr(options, name)) for name in LIMIT_NAMES if getattr(options, name) is not None
    }
    if not changes:
        raise CommandError(f"Say which limit: {', '.join('--' + name.replace('_', '-') for name in LIMIT_NAMES)}.")
    told = ", ".join(f"{name.replace('_', '-')} {_shown_change(value)}" for name, value in changes.items())
    if not options.names:
        of_all = {name: value for name, value in changes.items() if value != USUAL and not isinstance(value, str)}
        if len(of_all) < len(changes):
            raise CommandError("`usual` is for the people who are named.")
        await workshop.allowances.set_limits(of_all)
        workshop.activity.note(COMMAND_LINE, "limits", limits=of_all)
        print(f"For everybody: {told}.")
        return
    names = await known_names(options.names, workshop.users)
    for name in names:
        await workshop.allowances.set_own_limits(name, changes)
        workshop.activity.note(COMMAND_LINE, "limits", user=name, limits=changes)
    print(f"For {', '.join(names)}: {told}.")


def _shown_change(value: Change) -> str:
    return value if isinstance(value, str) else _shown(value)


def _change(name: str, text: str) -> Change:
    if text == "none":
        return None
    if text == USUAL:
        return USUAL
    try:
        amount = float(text)
    except ValueError:
        amount = -1.0
    if not 0 <= amount <= LARGEST or (name in COUNTED and not amount.is_integer()):
        raise CommandError(f"--{name.replace('_', '-')} {text}: write a number, `none`, or `usual` for a person.")
    return amount


async def _grant(options: argparse.Namespace, workshop: Workshop) -> None:
    if not -LARGEST <= options.credits <= LARGEST:
        raise CommandError("Write how many credits as a number.")
    names = await known_names(options.names, workshop.users)
    for name in names:
        await workshop.allowances.grant(name, options.credits)
        workshop.activity.note(COMMAND_LINE, "grant", user=name, credits=options.credits)
    for name, allowance in (await workshop.allowances.of(names)).items():
        left = "" if allowance.credits is None else f" and has {allowance.credits:.1f} now"
        print(f"{name} was given {options.credits:g} credits{left}.")
        if allowance.credits is None:
            print("Credits are not counted yet: comfyume limits set --credits-hour N")


ACTIONS: dict[str, Callable[[argparse.Namespace, Workshop], Awaitable[None]]] = {
    "show": _show,
    "set": _set,
    "grant": _grant,
}
