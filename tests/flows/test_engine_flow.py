import uuid
from datetime import UTC, datetime

import pytest

from engine.catalogue import Catalogue
from engine.drafts import EntityDraft, InteractionDraft
from engine.ingest import InteractionLog
from engine.recommender import Recommender
from engine.requests import RecommendQuery
from engine.tenants import TenantDirectory
from storage.entities import EntityStore
from storage.interactions import InteractionStore
from storage.queries import all_statements
from storage.tenants import TenantStore
from storage.users import UserStore
from storage.vector_store import VectorStore


async def test_flow(database, maintenance_database):
    async with maintenance_database.connection(None) as c:
        bad = []
        for name, text in all_statements():
            try:
                await c.prepare(text)
            except Exception as e:
                bad.append((name, repr(e)))
        assert bad == []
    store = TenantStore(database, maintenance_database)
    t = await store.create("a")
    tenants = TenantDirectory(store)
    entities = EntityStore(database)
    cat = Catalogue(tenants, entities)
    log = InteractionLog(tenants, InteractionStore(database))
    rec = Recommender(tenants=tenants, entities=entities, users=UserStore(database), vectors=VectorStore(database), cache=None)
    t = await tenants.resolve(None)
    r = await cat.upsert(t, [EntityDraft("book", f"b{i}", {"genres": ["sf" if i % 2 else "crime"], "title": f"Book {i}"}) for i in range(60)])
    assert all(x.created for x in r)
    got = await cat.get(t, "book", "b1")
    assert got.feature_vector is not None
    a = await rec.recommend(t, RecommendQuery(user_id="u1", page_size=10))
    assert len(a.items) == 10 and a.items[0].reasons[0].source == "newest"
    acks = await log.ingest(t, [InteractionDraft("u1", "book", f"b{i}", "like") for i in (1, 3, 5)])
    print(acks)
    a = await rec.recommend(t, RecommendQuery(user_id="u1", page_size=10, explain=True))
    for i in a.items:
        print(i)
    assert all("sf" in i.attributes for i in a.items)
    a = await rec.recommend(t, RecommendQuery(user_id="u1", page_size=10, diversity=0.5))
    print(a.items[0])
