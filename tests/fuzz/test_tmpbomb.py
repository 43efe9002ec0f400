import asyncio, time
from tests.fuzz.floods import *
from tests.fuzz.processes import *
from tests.rpc.conftest import service, settings
async def test_bomb(service, capsys):
    def go(size):
        t=time.monotonic()
        with Connection(service.port) as c:
            h=bomb(c,size)
        at=h.find(b"grpc-status")
        return size, time.monotonic()-t, len(h), h[at:at+80] if at>0 else h[-60:]
    with capsys.disabled():
        for s in (64,256,1024,2048,3500,4095):
            print(await asyncio.to_thread(go,s), len(gzip_of_zeros(s<<20)))
