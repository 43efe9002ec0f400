"""How workers on all hosts divide tenants' rates among themselves: through Redis, by demand."""

import secrets
from collections.abc import Mapping

import redis.asyncio as redis
from prometheus_client import Counter
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from storage.breaker import Breaker
from storage.config import RedisCacheConfig
from storage.exceptions import Unavailable

ROUNDS = Counter(
    "penchant_quota_rounds", "Rounds in which a worker asked for its shares of rates.", ["outcome"]
)
"""Outcomes: ok, error."""

_PREFIX = "penchant:rate:"
_AT_ONCE = 100
_PATIENCE_SECS = 0.5

# A hash a tenant, a field a worker: when it asked last (ms), what it wants, its share. Where more
# is wanted than there is, each gets the same part of what it wants; otherwise what it wants and an
# equal part of the rest, of which parts are left for this host's workers that are silent. But no
# more than the others' shares leave: so the shares never make more than one, even while they
# shift. A worker that does not ask for the life of an entry has given its share up.
_SCRIPT = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local me, life, least = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local shares = {}
for i, key in ipairs(KEYS) do
  local rate, wanted = tonumber(ARGV[2 * i + 2]), tonumber(ARGV[2 * i + 3])
  local total, taken, workers = wanted, 0, 1
  local fields = redis.call('HGETALL', key)
  for j = 1, #fields, 2 do
    if fields[j] ~= me then
      local at, w, s = string.match(fields[j + 1], '^(%S+) (%S+) (%S+)$')
      if not at or math.abs(now - tonumber(at)) > life then
        redis.call('HDEL', key, fields[j])
      else
        total, taken, workers = total + tonumber(w), taken + tonumber(s), workers + 1
      end
    end
  end
  local fair
  if total >= rate then
    fair = wanted / total
  else
    fair = (wanted + (rate - total) / math.max(workers, least)) / rate
  end
  local share = string.format('%.9f', math.max(0, math.min(fair, 1 - taken)))
  redis.call('HSET', key, me, string.format('%.0f %.9g %s', now, wanted, share))
  redis.call('PEXPIRE', key, life)
  shares[i] = share
end
return shares
"""


class RedisRates:
    """The shares of one worker.

    Args:
        config: where Redis is.
        workers: on this host.
        life_secs: a worker that is silent for so long has given up its shares. Must be longer than
            it uses one itself.
    """

    def __init__(self, config: RedisCacheConfig, workers: int, *, life_secs: float = 3.0) -> None:
        if config.url is None:
            raise ValueError("RedisCacheConfig.url is not set")
        self._redis = redis.Redis.from_url(
            config.url.get_secret_value(),
            # Nobody waits for a round, and one that is given up costs more than a late one.
            socket_timeout=max(_PATIENCE_SECS, config.operation_timeout_ms / 1000),
            socket_connect_timeout=max(_PATIENCE_SECS, config.connect_timeout_ms / 1000),
            retry=Retry(NoBackoff(), 0),
            health_check_interval=0,
        )
        self._script = self._redis.register_script(_SCRIPT)
        self._breaker = Breaker("redis rates")
        self._life_ms = int(life_secs * 1000)
        self._workers = workers
        self._worker = secrets.token_hex(8)

    async def shares(self, wanted: Mapping[str, tuple[float, float]]) -> dict[str, float]:
        """This worker's shares (0 to 1) of tenants' rates.

        Args:
            wanted: by tenant its rate, and what this worker's callers want of it, both a second.

        Raises:
            Unavailable: Redis does not answer in time, or is left alone after failures.
        """
        if not self._breaker.closed and not self._breaker.try_due():
            raise Unavailable("Redis is left alone.")
        found: dict[str, float] = {}
        names = list(wanted)
        try:
            for start in range(0, len(names), _AT_ONCE):
                some = names[start : start + _AT_ONCE]
                numbers = [number for name in some for number in wanted[name]]
                answer = await self._script(
                    keys=[f"{_PREFIX}{name}" for name in some],
                    args=[self._worker, self._life_ms, self._workers, *numbers],
                )
                found |= {name: float(share) for name, share in zip(some, answer, strict=True)}
        except (RedisError, OSError, TimeoutError, ValueError, TypeError) as error:
            # The last two are answers of something that is not this script.
            ROUNDS.labels("error").inc()
            self._breaker.failed(error)
            raise Unavailable("Redis does not divide the rates.") from error
        ROUNDS.labels("ok").inc()
        self._breaker.succeeded()
        return found

    async def close(self) -> None:
        """Closes the connections."""
        await self._redis.aclose()
