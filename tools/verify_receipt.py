"""Verifies a receipt of an erasure, and that nothing of who was erased is left in the database.

It needs no part of Penchant: the public key, an SQL connection, and the packages cryptography and
asyncpg. What it finds it prints as JSON; it exits with 0 where all is as the receipt says, else 1.

    python tools/verify_receipt.py --public-key key.pem --database-url postgresql://... \
        --receipt RECEIPT_ID [--tenant TENANT_ID] [--user USER_ID] [--ignore TABLE.COLUMN ...]

A user is looked for in every table that has a column tenant_id: in columns named user_id, as an
entity of the type user, and as a whole value of any other text or in JSON. Ids of 8 bytes or more
are also looked for within longer texts and bytes. Where the id of a user is also the id of
something else, such as a number, --ignore names the column. Of a tenant, every table must be empty.

Whoever connects as neither a superuser nor penchant_maintenance sees one tenant's rows: --tenant
says which. Who may not read a table is told so by an error.
"""

import argparse
import asyncio
import hashlib
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_public_key,
)

KEPT = ("erased_users", "erasure_receipts", "tenants")
"""Tables that outlive an erasure: keyed hashes, the receipts, and the name, never used again."""

KEPT_OF_TENANT = (*KEPT, "audit_events")
"""And who administrated what, of a tenant that is gone; of a user it may hold nothing."""

COLUMNS = """
SELECT c.relname AS table_name, a.attname AS column_name, format_type(a.atttypid, NULL) AS kind
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p')
    AND NOT c.relispartition AND EXISTS (
        SELECT 1 FROM pg_attribute o
        WHERE o.attrelid = c.oid AND o.attname = 'tenant_id' AND NOT o.attisdropped
    )
ORDER BY c.relname, a.attnum
"""
"""Every column of the tables of tenants; partitions are read through their parents."""

LONG_ENOUGH = 8
TEXTS = {"text", "character varying", "character"}


@dataclass
class Receipt:
    """A receipt as it stands in the database."""

    tenant_id: str
    payload: bytes
    signature: bytes
    told: dict[str, Any]


def quoted(name: str) -> str:
    """A name as an identifier of SQL."""
    return '"' + name.replace('"', '""') + '"'


async def read_receipt(
    connection: "asyncpg.Connection[asyncpg.Record]", receipt_id: str
) -> Receipt | None:
    """The receipt of that id; None when there is none, or it is not to be seen."""
    row = await connection.fetchrow(
        "SELECT tenant_id, payload, signature FROM erasure_receipts WHERE receipt_id = $1",
        receipt_id,
    )
    if row is None:
        return None
    told = json.loads(row["payload"])
    return Receipt(row["tenant_id"], row["payload"], row["signature"], told)


def check_receipt(
    receipt: Receipt, public_key: bytes, receipt_id: str, user_id: str | None
) -> list[str]:
    """What is wrong with a receipt; empty: nothing."""
    key = load_pem_public_key(public_key)
    if not isinstance(key, Ed25519PublicKey):
        return ["the public key is none of Ed25519"]
    try:
        key.verify(receipt.signature, receipt.payload)
    except InvalidSignature:
        return ["the signature does not fit the payload and this key"]
    told = receipt.told
    wrong = []
    if (told["receipt_id"], told["tenant_id"]) != (receipt_id, receipt.tenant_id):
        wrong.append("the payload is that of another receipt")
    raw = key.public_bytes(Encoding.Raw, PublicFormat.Raw)
    if told["key_id"] != hashlib.sha256(raw).hexdigest()[:16]:
        wrong.append("the payload names another key")
    if (told["subject"] == "user") != (user_id is not None):
        wrong.append(f"the receipt is of a {told['subject']}")
    elif user_id is not None:
        salt = bytes.fromhex(told["salt"])
        hashed = hashlib.scrypt(user_id.encode(), salt=salt, n=2**14, r=8, p=1)
        if hashed.hex() != told["user_scrypt"]:
            wrong.append("the receipt is of another user")
    return wrong


def conditions(columns: dict[str, str], user_id: str) -> dict[str, str]:
    """By column, what must hold where a row is of the user: $2 their id."""
    found = {}
    long_enough = len(user_id.encode()) >= LONG_ENOUGH
    for name, kind in columns.items():
        column = quoted(name)
        if name in {"tenant_id", "tenant_no"} or (name == "entity_id" and "entity_type" in columns):
            continue
        if kind in TEXTS:
            within = name != "user_id" and long_enough
            found[name] = f"strpos({column}, $2) > 0" if within else f"{column} = $2"
        elif kind.endswith("[]"):
            found[name] = f"$2 = ANY ({column}::text[])"
        elif kind in {"json", "jsonb"}:
            found[name] = (
                f"jsonb_path_exists({column}::jsonb, '$.** ? (@ == $who)',"
                " jsonb_build_object('who', $2::text))"
                f" OR {column}::jsonb ? $2"
            )
        elif kind == "bytea" and long_enough:
            found[name] = f"position(convert_to($2, 'UTF8') IN {column}) > 0"
    if {"entity_type", "entity_id"} <= columns.keys():
        found["entity_id"] = "entity_type = 'user' AND entity_id = $2"
    return found


async def search(
    connection: "asyncpg.Connection[asyncpg.Record]",
    tenant_id: str,
    user_id: str | None,
    ignored: set[str],
) -> tuple[dict[str, int], int]:
    """Rows that are left, by table.column (of a tenant by table), and how many tables there are."""
    tables: dict[str, dict[str, str]] = {}
    for row in await connection.fetch(COLUMNS):
        tables.setdefault(row["table_name"], {})[row["column_name"]] = row["kind"]
    left: dict[str, int] = {}
    searched = tables.keys() - set(KEPT_OF_TENANT if user_id is None else KEPT)
    for table in sorted(searched):
        wanted = {"": "true"} if user_id is None else conditions(tables[table], user_id)
        for column, condition in wanted.items():
            name = f"{table}.{column}" if column else table
            if name in ignored:
                continue
            arguments = [tenant_id] if user_id is None else [tenant_id, user_id]
            count = await connection.fetchval(
                f"SELECT count(*) FROM {quoted(table)} WHERE tenant_id = $1 AND ({condition})",  # noqa: S608 - names of the catalogue, quoted
                *arguments,
            )
            if count:
                left[name] = count
    return left, len(searched)


async def set_tenant(connection: "asyncpg.Connection[asyncpg.Record]", tenant_id: str) -> None:
    """Shows the rows of a tenant to those who see one tenant at a time."""
    await connection.execute("SELECT set_config('penchant.tenant_id', $1, false)", tenant_id)


async def verify(options: argparse.Namespace) -> dict[str, Any]:
    """All that was found, as it is printed."""
    connection = await asyncpg.connect(options.database_url)
    try:
        await set_tenant(connection, options.tenant)
        receipt = await read_receipt(connection, options.receipt)
        if receipt is None:
            return {"verified": False, "wrong": ["there is no such receipt to be seen"]}
        wrong = check_receipt(
            receipt, options.public_key.read_bytes(), options.receipt, options.user
        )
        if wrong:
            return {"verified": False, "wrong": wrong}
        await set_tenant(connection, receipt.tenant_id)
        left, tables = await search(
            connection, receipt.tenant_id, options.user, set(options.ignore)
        )
    finally:
        await connection.close()
    return {
        "verified": not left,
        "wrong": [],
        "left": left,
        "tables_searched": tables,
        "receipt": receipt.told,
    }


def main() -> int:
    """Reads the arguments, verifies and prints."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--public-key", type=Path, required=True, help="PEM, of GetReceiptKey")
    parser.add_argument("--database-url", required=True, help="postgresql:// URL")
    parser.add_argument("--receipt", required=True, help="the receipt's id")
    parser.add_argument("--tenant", default="", help="the tenant's id")
    parser.add_argument("--user", help="the user's id; session:ID of a session; none: the tenant")
    parser.add_argument("--ignore", action="append", default=[], help="TABLE.COLUMN not to search")
    found = asyncio.run(verify(parser.parse_args()))
    sys.stdout.write(json.dumps(found, indent=2, sort_keys=True) + "\n")
    return 0 if found["verified"] else 1


if __name__ == "__main__":
    sys.exit(main())
