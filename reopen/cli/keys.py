"""Owns ``reopen keys``: which keys a vault has, changing them, and trying the recovery key before it is needed."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from reopen.cli.consent import YesOption, consent
from reopen.cli.face import Answer, CommandGroup, Face, VaultOption, command
from reopen.cli.text import count_text, duration_text, instant_text, make_table, plain
from reopen.errors import EXIT_NEGATIVE, EXIT_OK, InvalidInput, NotFound, Refused, ReopenError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from reopen.protect.keys.change import AddedKey
    from reopen.protect.keys.ending import EndKeyResult
    from reopen.protect.keys.trial import KeyTestResult
    from reopen.vault import Vault
    from reopen.vault.keydocs import Certificate

PANEL = "Set up"
NO_REVOCATION = (
    "This takes nothing back: whoever has the key file keeps what it opens and knows. A recovery key goes on opening "
    "every pack that was sealed to it, any other key the names, sizes and profiles of all files."
)

KeysOption = Annotated[
    Path | None,
    typer.Option(
        "--keys", metavar="FOLDER", help="Use the key files of this folder.", show_default="`keys` of the settings"
    ),
]
WithoutOption = Annotated[
    list[str] | None,
    typer.Option(
        "--without",
        metavar="SITE",
        help="Do not read this site's vault: what only it still has is believed no more. May be repeated.",
    ),
]
StolenOption = Annotated[
    bool, typer.Option("--stolen", help="Somebody else may have it: wait for nothing, believe nothing later.")
]


class AddableRole(StrEnum):
    """A role that keys can be added for."""

    WRITER = "writer"
    VERIFIER = "verifier"
    RETENTION = "retention"
    RECOVERY = "recovery"


class RotatableRole(StrEnum):
    """A role whose key can be followed by a new one."""

    WRITER = "writer"
    VERIFIER = "verifier"
    RETENTION = "retention"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(
        cls=CommandGroup,
        help="Show, change and try the keys of a vault.",
        no_args_is_help=True,
        epilog="Example: reopen keys list",
    )
    app.add_typer(group, name="keys", rich_help_panel=PANEL)
    command(group, "list", group="keys", example="reopen keys list")(list_keys)
    command(group, "add", group="keys", example="reopen keys add --role recovery --to /media/safe")(add)
    command(group, "remove", group="keys", example="reopen keys remove 3fa1b2c4d5e6f708 --stolen")(remove)
    command(group, "rotate", group="keys", example="reopen keys rotate --role writer")(rotate)
    command(group, "reseal", group="keys", example="reopen keys reseal --keys /media/safe")(reseal)
    command(group, "test", group="keys", example="reopen keys test --keys /media/safe --vault standby")(try_keys)
    from reopen.cli import passphrases

    passphrases.register_below(group)


def list_keys(face: Face, keys: KeysOption = None, vault: VaultOption = None) -> Answer:
    """Show every key of the vault.

    What it may do, what became of it, and whether its file is here.

    Changes: nothing.
    Needs: any key of the vault.
    """
    from reopen.protect.keys import listing as keylist

    opened = opened_with(face, keys, vault)
    rows = keylist.list_keys(opened)
    cells = [
        (
            row.id,
            row.role,
            "all" if row.datasets == ("*",) else ", ".join(row.datasets),
            instant_text(row.created_at),
            row.state if row.ended_at is None else f"{row.state} {instant_text(row.ended_at)}",
            "in use" if row.used else "here" if row.here else "",
            "yes" if row.passphrase else "",
        )
        for row in rows
    ]
    trust = opened.trust
    value = {
        "vault": opened.id,
        "trust_statement": trust.number,
        "metadata_key": trust.metadata_key,
        "keys": [plain(row) for row in rows],
    }
    columns = ("key", "role", "datasets", "made", "state", "file", "passphrase")
    about = f"trust statement {trust.number}; new tables are encrypted with metadata key {trust.metadata_key}"
    return Answer(value=value, show=[make_table(columns, cells), "", about])


def add(
    face: Face,
    role: Annotated[AddableRole, typer.Option("--role", help="What the key may do.")],
    to: Annotated[Path, typer.Option("--to", metavar="FOLDER", help="The folder for the key's file.")],
    datasets: Annotated[
        list[str] | None, typer.Option("--dataset", metavar="DATASET", help="Only for this one; may be repeated.")
    ] = None,
    keys: KeysOption = None,
    vault: VaultOption = None,
) -> Answer:
    """Make a key, and let it count.

    One that was begun in that folder is finished. After adding a recovery key, `reopen keys reseal` lets it open what
    is older.

    Changes: writes the key's file; adds the key to the vault.
    Needs: the root key.
    """
    from reopen.protect.keys.change import execute_add_key, plan_add_key

    opened = opened_with(face, keys, vault)
    added = execute_add_key(plan_add_key(opened, role.value, to, datasets=datasets or ()))
    show: list[RenderableType] = [f"{added.role} key {added.id} counts from now on: {added.path}"]
    if role is AddableRole.RECOVERY:
        show.append(
            "What is stored from now on opens with it. For what was stored before, run `reopen keys reseal` where an "
            "older recovery key and the root key are, then `reopen keys test`."
        )
    return Answer(value={"vault": opened.id, **_added(added)}, show=show)


def remove(
    face: Face,
    key_id: Annotated[str, typer.Argument(metavar="KEY_ID", help="Its id; `reopen keys list` shows it.")],
    stolen: StolenOption = False,
    still_needed: Annotated[
        bool,
        typer.Option("--still-needed", help="Seal nothing more to it, though some packs open with it alone."),
    ] = False,
    relist_it: Annotated[
        bool,
        typer.Option(
            "--relist", help="Of a key that has ended: make the list of what it signed anew, from what is there."
        ),
    ] = False,
    without: WithoutOption = None,
    keys: KeysOption = None,
    yes: YesOption = False,
    vault: VaultOption = None,
) -> Answer:
    """Let a key count no more.

    What it signed before stays believed. What it can read it can read for ever: a recovery key goes on opening what was
    sealed to it.

    Changes: adds to the vault that the key has ended, and what it had signed.
    Needs: the root key; the vaults of all sites in reach.
    Exit 3: something is still under way with it, or what it signed meanwhile is not believed.
    """
    from reopen.protect.keys.ending import execute_end_key, plan_end_key, relist

    opened = opened_with(face, keys, vault)
    if key_id in opened.key_documents.recipients:
        return _remove_recipient(face, opened, key_id, still_needed=still_needed, yes=yes)
    others = _other_vaults(face, opened, without or ())
    if relist_it:
        again = relist(opened, key_id, others=others, progress=face.progress())
        value = {"vault": opened.id, "key": key_id, "role": opened.certificates[key_id].role, "end": plain(again)}
        return Answer(value=value, show=_end_lines(key_id, again))
    plan = plan_end_key(opened, key_id, reason="stolen" if stolen else "removed", others=others)
    shown = _what_ends(plan.certificate, plan.reason, plan.others)
    consent(face, lambda: shown, yes=yes, kept="the key still counts")
    end = execute_end_key(plan, progress=face.progress())
    value = {"vault": opened.id, "key": key_id, "role": plan.certificate.role, "end": plain(end)}
    return Answer(value=value, show=[*_end_lines(key_id, end), NO_REVOCATION], exit_code=_end_code(end))


def rotate(
    face: Face,
    role: Annotated[RotatableRole | None, typer.Option("--role", help="Which kind of key to replace.")] = None,
    metadata: Annotated[
        bool, typer.Option("--metadata", help="Instead: encrypt new tables with the next metadata key.")
    ] = False,
    key: Annotated[
        str | None, typer.Option("--key", metavar="KEY_ID", help="Which key, where there are several.")
    ] = None,
    to: Annotated[
        Path | None,
        typer.Option("--to", metavar="FOLDER", help="The folder for the key's file.", show_default="beside the others"),
    ] = None,
    stolen: StolenOption = False,
    without: WithoutOption = None,
    keys: KeysOption = None,
    yes: YesOption = False,
    vault: VaultOption = None,
) -> Answer:
    """Replace a key by a new one, and end the old one.

    What the old one signed stays believed. Something that is under way with it may end; nothing new begins with it. Run
    it again then, to end it.

    Changes: writes the new key's file; adds it to the vault, and that the old one has ended.
    Needs: the root key; the vaults of all sites in reach.
    Exit 3: something is still under way with the old key.
    """
    from reopen.protect.keys.change import execute_rotate, plan_rotate, rotate_metadata_key

    if (role is None) is not metadata:
        raise InvalidInput("name either a role or --metadata.", hint="For example: reopen keys rotate --role writer")
    opened = opened_with(face, keys, vault)
    if role is None:
        number = rotate_metadata_key(opened)
        value: dict[str, Any] = {"vault": opened.id, "metadata_key": number}
        return Answer(
            value=value,
            show=[f"new tables are encrypted with metadata key {number}; old ones stay readable with theirs."],
        )
    others = _other_vaults(face, opened, without or ())
    folder = to or face.session.keys_folder
    plan = plan_rotate(opened, role.value, folder, key_id=key, stolen=stolen, others=others)
    consent(face, lambda: _what_ends(plan.old, plan.reason, others), yes=yes, kept="the key still counts")
    result = execute_rotate(plan, progress=face.progress())
    value = {"vault": opened.id, "old": result.old, "new": _added(result.new), "end": plain(result.end)}
    show = [
        f"{role.value} key {result.new.id} follows {result.old}: {result.new.path or 'its file was saved elsewhere'}",
        *_end_lines(result.old, result.end),
        NO_REVOCATION,
    ]
    return Answer(value=value, show=show, exit_code=_end_code(result.end))


def reseal(
    face: Face,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be sealed, and write nothing.")] = False,
    keys: KeysOption = None,
    vault: VaultOption = None,
) -> Answer:
    """Let a recovery key that was added later open old packs.

    Without it a new recovery key opens only what is stored from then on.

    Changes: adds to the vault; no pack is rewritten.
    Needs: an older recovery key and the root key.
    Exit 3: some packs open with none of the recovery keys here.
    """
    from reopen.protect.keys.reseal import execute_reseal, plan_reseal

    opened = opened_with(face, keys, vault)
    plan = plan_reseal(opened, progress=face.progress())
    value: dict[str, Any] = {
        "vault": opened.id,
        "dry_run": dry_run,
        "packs": plan.packs,
        "missing": {key: len(slots) for key, slots in plan.missing.items()},
        "damaged": list(plan.damaged),
    }
    show = [f"{count_text(plan.packs, 'pack')} lacked a recovery key; {count_text(plan.grants, 'content key')} to seal"]
    show += [f"damaged, its slots cannot be read: pack {pack}" for pack in plan.damaged]
    if dry_run:
        return Answer(value=value, show=show)
    result = execute_reseal(plan, progress=face.progress())
    value["result"] = plain(result)
    show.append(f"sealed {count_text(result.granted, 'content key')} in {count_text(result.documents, 'document')}")
    if result.unopened:
        show.append(f"{count_text(result.unopened, 'content key')} open with no recovery key that is here")
    bad = result.unopened or plan.damaged
    return Answer(value=value, show=show, exit_code=EXIT_NEGATIVE if bad else EXIT_OK)


def try_keys(
    face: Face,
    sample: Annotated[int, typer.Option("--sample", metavar="N", min=1, help="How many packs to try.")] = 16,
    every: Annotated[bool, typer.Option("--all", help="Try every pack.")] = False,
    keys: KeysOption = None,
    vault: VaultOption = None,
) -> Answer:
    """Try whether the recovery keys here open the vault.

    Some packs are opened with each, or every one with --all. Do it on a schedule, from where the key is kept, and at
    the replica too.

    Changes: nothing, and signs nothing.
    Needs: a recovery key, and the store or a replica of it.
    Exit 3: a pack opens with none of them.
    """
    from reopen.protect.keys.trial import try_recovery_keys

    opened = opened_with(face, keys, vault)
    result = try_recovery_keys(opened, sample=None if every else sample, progress=face.progress())
    value = {"vault": opened.id, "store": opened.store.url, "ok": result.ok, **_tested(result)}
    cells = [
        (
            tried.key,
            tried.roots,
            f"{tried.opened} of {len(tried.packs)}",
            "ok" if tried.works else "failed",
            next((pack.detail for pack in tried.packs if pack.detail), ""),
        )
        for tried in result.keys
    ]
    amount = f"tried {len(result.tried)} of {count_text(result.packs, 'pack')} in {duration_text(result.seconds)}"
    show: list[RenderableType] = [
        make_table(("recovery key", "roots", ">packs opened", "", ""), cells),
        "",
        amount if result.packs else "there is no pack yet: only the roots were tried",
        *(f"opened by no key here: pack {pack}" for pack in result.unopened),
    ]
    return Answer(value=value, show=show, exit_code=EXIT_OK if result.ok else EXIT_NEGATIVE)


def opened_with(face: Face, keys: Path | None, site: str | None) -> Vault:
    """A site's vault, opened with the key files of a folder, else with those of the settings."""
    session = face.session
    if keys is not None:
        session.keys_folder = keys
    return session.vault(site)


def _other_vaults(face: Face, opened: Vault, without: Sequence[str]) -> list[Vault]:
    """The vaults of the other sites: what an ended key had signed is looked for in all of them."""
    session = face.session
    for name in without:
        session.site(name)
    others = []
    for name, site in session.settings.sites.items():
        if name in without or session.site(name).vault == opened.store.url:
            continue
        try:
            other = session.vault(name)
        except NotFound:
            face.note(f"{name} has no vault yet at {site.vault}.")
            continue
        except ReopenError as error:
            raise Refused(
                f"the vault of {name} cannot be read: {error.message}",
                hint="What only it still has would be believed no more. Bring it up to date (`reopen replicate`), "
                f"mend it, or accept that: --without {name}.",
            ) from error
        if other.store.url != opened.store.url:
            others.append(other)
    return others


def _what_ends(old: Certificate, reason: str, others: Sequence[Vault]) -> list[str]:
    """The end of a signing key, as it is asked about."""
    places = "in the vault that is read" if not others else f"in the {1 + len(others)} vaults that are read"
    return [
        f"{old.role} key {old.id} ends for ever ({reason}):",
        f"    what it signed {places} stays believed; what only another one has is not",
        *(["    nothing is waited for: what is under way with it fails"] if reason == "stolen" else []),
    ]


def _remove_recipient(face: Face, opened: Vault, key_id: str, *, still_needed: bool, yes: bool) -> Answer:
    from reopen.protect.keys.change import remove_recipient
    from reopen.protect.keys.reseal import packs_lost_without

    alone = packs_lost_without(opened, key_id, progress=face.progress())
    if alone and not still_needed:
        raise Refused(
            f"{count_text(alone, 'pack')} open with recovery key {key_id} alone.",
            hint="Run `reopen keys reseal` first; or keep its file for ever, and say --still-needed.",
            key=key_id,
        )
    warning = f"nothing more is sealed to recovery key {key_id}; {count_text(alone, 'pack')} open with it alone"
    consent(face, lambda: (warning,), yes=yes, kept="the key still counts")
    number = remove_recipient(opened, key_id)
    value = {"vault": opened.id, "key": key_id, "role": "recovery", "trust_number": number, "packs_alone": alone}
    show = [f"nothing more is sealed to recovery key {key_id}", NO_REVOCATION]
    if alone:
        show.insert(1, f"Keep its file: {count_text(alone, 'pack')} open with it alone.")
    return Answer(value=value, show=show)


def _added(added: AddedKey) -> dict[str, Any]:
    return {
        "key": added.id,
        "role": added.role,
        "file": None if added.path is None else str(added.path),
        "trust_number": added.trust_number,
    }


def _end_lines(key_id: str, end: EndKeyResult) -> list[str]:
    if not end.ended:
        return [
            f"{key_id} begins nothing new; {count_text(len(end.waiting), 'snapshot')} with it still under way:",
            *(f"    {name}" for name in end.waiting),
            "Run the same command again when they are done; --stolen does not wait.",
        ]
    kept = f"{count_text(end.signed, 'document')} of it and {count_text(end.packs, 'pack')}"
    lines = [f"{key_id} has ended: {kept} stay believed, and nothing later. Replicate soon: the other sites must know."]
    lines += [f"not believed, do it again with the new key: {name}" for name in end.late]
    return lines + [f"could not be read, so it is believed no more if it was its: {name}" for name in end.unreadable]


def _end_code(end: EndKeyResult) -> int:
    return EXIT_OK if end.ended and not end.late and not end.unreadable else EXIT_NEGATIVE


def _tested(result: KeyTestResult) -> dict[str, Any]:
    return {
        "packs": result.packs,
        "tried": len(result.tried),
        "unopened": list(result.unopened),
        "keys": [
            {"key": tried.key, "roots": tried.roots, "opened": tried.opened, "packs": [plain(p) for p in tried.packs]}
            for tried in result.keys
        ],
    }
