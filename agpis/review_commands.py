"""The commands `agpis review` (the review pages) and `agpis reviewers` (their accounts)."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agpis.errors import SettingsError

if TYPE_CHECKING:
    from agpis.store import Store

StoreOption = Annotated[
    str | None,
    typer.Option("--store", help="Database: a SQLite file, or postgresql://... [default: reviews.db in the folder]"),
]
AccountStore = Annotated[
    str, typer.Option("--store", help="Database: a SQLite file, or postgresql://...", show_default=True)
]

reviewers = typer.Typer(
    help="Accounts of the review pages: add, list, disable, new password.", no_args_is_help=True, add_completion=False
)


def review(
    sources: Annotated[
        list[Path] | None, typer.Argument(help="Output folders of `agpis generate`, or the file of a store.")
    ] = None,
    store: StoreOption = None,
    open: Annotated[
        bool, typer.Option("--open", help="One person on this machine, without accounts; not reachable from others.")
    ] = False,
    host: Annotated[str, typer.Option("--host", help="Address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0: any that is free.")] = 8765,
    rulebook: Annotated[
        str, typer.Option("--rulebook", help="default, amazon, google, walmart, ebay, or your own YAML.")
    ] = "default",
    double: Annotated[
        float, typer.Option("--double", help="Share of sequences that two reviewers judge, 0 to 1.")
    ] = 0.0,
    blind: Annotated[bool, typer.Option("--blind", help="Show nobody the model's opinion.")] = False,
    base: Annotated[
        str | None,
        typer.Option("--base", help="Folder or URL of relative photos. [default: where the catalogue lies]"),
    ] = None,
    https: Annotated[
        bool, typer.Option("--https", help="Behind a proxy with https: cookies are sent over https only.")
    ] = False,
    proxies: Annotated[
        str, typer.Option("--proxies", help="Addresses of proxies whose X-Forwarded-* headers are believed.")
    ] = "",
) -> None:
    """Serve the review pages: reviewers accept or reject sequences, with rule, photo, box and words."""
    import getpass

    from agpis.review import make_app, serve
    from agpis.review_desk import Options
    from agpis.rulebook import load_rulebook

    options = Options(open=open, reviewer=getpass.getuser() if open else "me", double=double, blind=blind, https=https)
    rules = load_rulebook(rulebook)
    folders, where = _store_of(sources or [], store)
    with _opened(where) as opened:
        for folder in folders:
            _add(opened, folder, base)
        if not open and not opened.reviewers():
            sys.stderr.write(f"There are no accounts yet: agpis reviewers add NAME --admin --store {where}\n")

        def ready(number: int) -> None:
            name = f"[{host}]" if ":" in host else host
            print(f"Review pages: http://{name}:{number}/ (store: {_shown(where)}; Ctrl-C stops)", flush=True)

        serve(make_app(opened, rules, options), host=host, port=port, proxies=proxies, ready=ready)


def _store_of(sources: list[Path], store: str | None) -> tuple[list[Path], str]:
    """Folders to add, and the store: named, or a file among the sources, or beside a single folder's decisions."""
    folders = [source for source in sources if source.is_dir()]
    files = [source for source in sources if not source.is_dir()]
    for file in files:
        if not file.is_file():
            raise SettingsError("bad_store", f"Found no folder and no store at {file}; --store makes a new one.")
    if len(files) + (store is not None) > 1:
        raise SettingsError("bad_store", f"Found {len(files) + (store is not None)} stores; one is served at a time.")
    if store is not None or files:
        return folders, store if store is not None else str(files[0])
    if len(folders) != 1:
        raise SettingsError("bad_store", "Name a store with --store, or give one output folder: it then lies in it.")
    return folders, str(folders[0] / "reviews.db")


def _opened(where: str) -> Store:
    from agpis.store import open_store

    return open_store(where)


def _shown(where: str) -> str:
    """A database URL without its password."""
    from urllib.parse import urlsplit

    parts = urlsplit(where)
    return where.replace(f":{parts.password}@", ":***@") if "://" in where and parts.password else where


def _add(store: Store, folder: Path, base: str | None) -> None:
    from agpis.output_folder import open_output

    output = open_output(folder)
    root = output.base if base is None else base
    if "://" not in root:
        root = str(Path(root).resolve())
    if "://" not in root and not Path(root).is_dir():
        raise SettingsError(
            "no_base",
            f"The photos of {folder} are relative to {root}, which is no folder here. Start where `agpis generate` was"
            " started, or name it with --base.",
        )
    added = store.add(output.decisions(), base=root)
    changed = f", {added.changed} of them changed since and left as they were" if added.changed else ""
    print(f"{folder}: {added.new} decisions added, {added.known} known{changed}", flush=True)


@reviewers.command("add")
def add(
    name: Annotated[str, typer.Argument(help="Name to sign in with.")],
    store: AccountStore = "reviews.db",
    admin: Annotated[bool, typer.Option("--admin", help="May manage accounts, and sees figures by reviewer.")] = False,
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read the password from standard input.")
    ] = False,
) -> None:
    """Make an account; asks for its password."""
    from agpis.accounts import Accounts

    with _opened(store) as opened:
        made = Accounts(opened).add(name, _password(password_stdin), admin=admin)
    print(f"{made.name} can sign in{' as an administrator' if made.admin else ''}.")


@reviewers.command("list")
def show(store: AccountStore = "reviews.db") -> None:
    """Print the accounts."""
    with _opened(store) as opened:
        for each in opened.reviewers():
            marks = [word for word, applies in (("admin", each.admin), ("disabled", each.disabled)) if applies]
            print(each.name + (f" ({', '.join(marks)})" if marks else ""))


@reviewers.command("disable")
def disable(
    name: Annotated[str, typer.Argument(help="Whose account.")],
    store: AccountStore = "reviews.db",
    undo: Annotated[bool, typer.Option("--undo", help="Let the reviewer in again.")] = False,
) -> None:
    """Shut an account: its sessions end, what it holds is given back, its verdicts stay."""
    with _opened(store) as opened:
        opened.disable(name, not undo)
    print(f"{name} can {'sign in again' if undo else 'no longer sign in'}.")


@reviewers.command("password")
def password(
    name: Annotated[str, typer.Argument(help="Whose password.")],
    store: AccountStore = "reviews.db",
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read the password from standard input.")
    ] = False,
) -> None:
    """Set a new password; the reviewer is signed out everywhere."""
    from agpis.accounts import Accounts

    with _opened(store) as opened:
        Accounts(opened).set_password(name, _password(password_stdin))
    print(f"{name} has a new password.")


def _password(from_stdin: bool) -> str:
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    return str(typer.prompt("Password", hide_input=True, confirmation_prompt=True))


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command()(review)
    app.add_typer(reviewers, name="reviewers")
