"""A tenant for the tests of stores that write a tenant's rows."""

import pytest

from storage.database import Database
from storage.tenants import Tenant, TenantStore


@pytest.fixture
def tenants(database: Database, maintenance_database: Database) -> TenantStore:
    """The tenants of the test's database."""
    return TenantStore(database, maintenance_database)


@pytest.fixture
async def shop(tenants: TenantStore) -> Tenant:
    """A tenant without rows."""
    return await tenants.create("shop")
