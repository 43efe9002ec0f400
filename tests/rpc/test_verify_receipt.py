"""tools/verify_receipt.py, run as a stranger would: with a public key and an SQL connection."""

import asyncio
import sys
from pathlib import Path
from typing import Any

import asyncpg
import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from penchant.v1 import admin_pb2, privacy_pb2

from tests.rpc.conftest import Service

SCRIPT = Path(__file__).parents[2] / "tools" / "verify_receipt.py"
USER = "ada-lovelace-1815"


class Stranger:
    """Who has the database's URL and the public key, and no part of Penchant."""

    def __init__(self, database_url: str, folder: Path, public_key_pem: str) -> None:
        self.database_url = database_url
        self.folder = folder
        self.key = folder / "key.pem"
        self.key.write_text(public_key_pem)

    async def verify(
        self, receipt_id: str, user_id: str | None = USER, *more: str
    ) -> tuple[int | None, dict[str, Any]]:
        """The exit code, and what was printed."""
        words = ["--receipt", receipt_id, "--public-key", str(self.key), *more]
        words += ["--database-url", self.database_url]
        if user_id is not None:
            words += ["--user", user_id]
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-I",  # neither this directory nor PYTHONPATH: the script stands alone
            str(SCRIPT),
            *words,
            cwd=self.folder,
            stdout=asyncio.subprocess.PIPE,
        )
        out, _ = await process.communicate()
        return process.returncode, orjson.loads(out)

    async def execute(self, sql: str, *arguments: object) -> None:
        """Tampers with the database."""
        connection = await asyncpg.connect(self.database_url)
        try:
            await connection.execute(sql, *arguments)
        finally:
            await connection.close()


@pytest.fixture
async def stranger(service: Service, database_url: str, tmp_path: Path) -> Stranger:
    key = await service.call("GetReceiptKey", privacy_pb2.GetReceiptKeyRequest())
    return Stranger(database_url, tmp_path, key.public_key_pem)


async def erased(service: Service, user_id: str = USER) -> str:
    await service.did(user_id, "b00")
    await service.recommend(user_id)
    request = privacy_pb2.EraseUserRequest(user_id=user_id)
    receipt = (await service.call("EraseUser", request)).receipt
    assert isinstance(receipt.receipt_id, str)
    return receipt.receipt_id


async def test_receipt_is_verified(service: Service, stranger: Stranger) -> None:
    receipt_id = await erased(service)
    code, told = await stranger.verify(receipt_id)
    assert (code, told["verified"], told["left"]) == (0, True, {})
    assert told["tables_searched"] >= 20
    assert told["receipt"]["counts"]["interactions"] == 1


async def test_plain_role_sees_what_it_needs(service: Service, stranger: Stranger) -> None:
    receipt_id = await erased(service)
    await stranger.execute("CREATE ROLE penchant_test_auditor LOGIN")
    await stranger.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO penchant_test_auditor")
    superuser = stranger.database_url
    try:
        scheme, _, place = superuser.partition("://")
        stranger.database_url = f"{scheme}://penchant_test_auditor@{place.rpartition('@')[2]}"
        assert (await stranger.verify(receipt_id))[0] == 1
        assert (await stranger.verify(receipt_id, USER, "--tenant", "a"))[0] == 0
    finally:
        stranger.database_url = superuser
        await stranger.execute("DROP OWNED BY penchant_test_auditor")
        await stranger.execute("DROP ROLE penchant_test_auditor")


@pytest.mark.parametrize(
    "change",
    [
        "payload = convert_to(replace(convert_from(payload, 'UTF8'), '\"interactions\":1',"
        " '\"interactions\":2'), 'UTF8')",
        "signature = set_byte(signature, 3, 255 - get_byte(signature, 3))",
        "receipt_id = 'other'",
    ],
    ids=["payload", "signature", "id"],
)
async def test_doctored_receipt_is_refused(
    service: Service, stranger: Stranger, change: str
) -> None:
    receipt_id = await erased(service)
    await stranger.execute(f"UPDATE erasure_receipts SET {change}")
    code, told = await stranger.verify("other" if "receipt_id" in change else receipt_id)
    assert (code, told["verified"]) == (1, False)
    assert told["wrong"]


async def test_other_key_other_user_and_no_receipt_are_refused(
    service: Service, stranger: Stranger
) -> None:
    receipt_id = await erased(service)
    for wanted, user_id in ((receipt_id, "bob"), (receipt_id, None), ("none", USER)):
        code, told = await stranger.verify(wanted, user_id)
        assert (code, bool(told["wrong"])) == (1, True)
    other = Ed25519PrivateKey.generate().public_key()
    stranger.key.write_bytes(other.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    assert (await stranger.verify(receipt_id))[0] == 1


@pytest.mark.parametrize(
    ("table", "sql"),
    [
        (
            "user_profiles.user_id",
            "INSERT INTO user_profiles (tenant_id, user_id, landmark) VALUES ('a', $1, now())",
        ),
        (
            "entities.entity_id",
            "INSERT INTO entities (placement, tenant_id, entity_type, entity_id)"
            " VALUES (0, 'a', 'user', $1)",
        ),
        (
            "entities.attributes",
            "INSERT INTO entities (placement, tenant_id, entity_type, entity_id, attributes)"
            " VALUES (0, 'a', 'book', 'b', jsonb_build_object('by', jsonb_build_array($1::text)))",
        ),
        (
            "prediction_cache.cache_key",
            "INSERT INTO prediction_cache (tenant_id, cache_key, predictions, expires_at)"
            " VALUES ('a', 'recs:' || $1::text || ':10', '', now() + interval '1 hour')",
        ),
        (
            "ml_models.model_data",
            "INSERT INTO ml_models (tenant_id, model_name, version, model_data, content_hash,"
            " size_bytes) VALUES ('a', 'm', '1', convert_to('x' || $1::text, 'UTF8'), '', 0)",
        ),
    ],
    ids=["column", "entity", "json", "within", "bytes"],
)
async def test_row_left_behind_is_found(
    service: Service, stranger: Stranger, table: str, sql: str
) -> None:
    receipt_id = await erased(service)
    await stranger.execute(sql, USER)
    code, told = await stranger.verify(receipt_id)
    assert (code, told["left"]) == (1, {table: 1})
    assert (await stranger.verify(receipt_id, USER, "--ignore", table))[0] == 0


async def test_erased_tenant_is_verified(service: Service, stranger: Stranger) -> None:
    await service.did(USER, "b00")
    await service.call("DeleteTenant", admin_pb2.DeleteTenantRequest(tenant_id="a"))
    await service.run_jobs()
    wanted = privacy_pb2.GetTenantErasureReceiptRequest(tenant_id="a")
    receipt = (await service.call("GetTenantErasureReceipt", wanted, None)).receipt
    code, told = await stranger.verify(receipt.receipt_id, None)
    assert (code, told["left"]) == (0, {})
    await stranger.execute(
        "INSERT INTO user_profiles (tenant_id, user_id, landmark) VALUES ('a', 'x', now())"
    )
    assert await stranger.verify(receipt.receipt_id, None) == (
        1,
        told | {"verified": False, "left": {"user_profiles": 1}},
    )
