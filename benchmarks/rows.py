"""The rows of the speed table, a line each."""

from benchmarks import rows_gorse, rows_growth, rows_ingest, rows_recommend
from benchmarks.bench import Row

ROWS = (
    Row("hot", "Recommend, hot", "echo of the same bytes", rows_recommend.hot),
    Row("redis", "Recommend, hot, Redis only", "one Redis GET", rows_recommend.redis),
    Row("cold", "Recommend, cold", "one HNSW query", rows_recommend.cold),
    Row("matrix", "Recommend, cold, model, gowalla", "one HNSW query", rows_recommend.matrix),
    Row("batch", "BatchRecommend of 100", "100 calls", rows_recommend.batch),
    Row("ingest", "IngestInteraction, 64 callers", "echo of the ack", rows_ingest.unary),
    Row("stream", "IngestInteractions, batches of 1,000", "binary COPY", rows_ingest.stream),
    Row("workers", "two workers", "one worker", rows_growth.workers),
    Row("gorse", "ml-100k, two workers", "Gorse 0.5.11, recorded", rows_gorse.gorse),
    Row("tenants", "2,000 tenants", "10 tenants", rows_growth.tenants),
    Row("sizes", "1,000,000 entities", "10,000 entities", rows_growth.sizes),
)
BY_NAME = {row.name: row for row in ROWS}
