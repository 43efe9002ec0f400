"""The client of the Penchant recommendation service.

`Client` is for asyncio, `SyncClient` for everything else; both have the same calls. The generated
messages and stubs live in `penchant.v1`.
"""
