"""The bundled PostgreSQL and Redis, for whoever brings none: real servers, private to one user."""

from storage.embedded.servers import EmbeddedServers

__all__ = ["EmbeddedServers"]
