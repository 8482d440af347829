"""Many clients that log in, ask one thing and then do nothing, in PostgreSQL's protocol without a driver."""

import asyncio
import base64
import hashlib
import hmac
import os
import struct

import peers

# Logins at a time.
LOGINS = 50


class Refused(Exception):
    """The server answered with an error."""


async def hold(peer, count):
    """Opens `count` clients, one query each, and returns the process's resident kilobytes while they are idle."""
    turn = asyncio.Semaphore(LOGINS)

    async def one(number):
        async with turn:
            client = await Client.connect(peer.port)
            await client.query(f"SELECT abalance FROM pgbench_accounts WHERE aid = {number + 1}")
            return client

    clients = await asyncio.gather(*(one(number) for number in range(count)))
    kilobytes = peer.resident_kilobytes()
    for client in clients:
        client.close()
    return kilobytes


class Client:
    """One connection."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer

    @classmethod
    async def connect(cls, port):
        self = cls(*await asyncio.open_connection("127.0.0.1", port))
        fields = f"user\0{peers.USER}\0database\0{peers.DATABASE}\0\0".encode()
        self.writer.write(struct.pack("!II", len(fields) + 8, 196608) + fields)
        await self.log_in()
        await self.until_ready()
        return self

    async def query(self, text):
        self.send(b"Q", text.encode() + b"\0")
        await self.until_ready()

    def close(self):
        self.send(b"X", b"")
        self.writer.close()

    def send(self, kind, body):
        self.writer.write(kind + struct.pack("!I", len(body) + 4) + body)

    async def message(self):
        kind, length = struct.unpack("!cI", await self.reader.readexactly(5))
        body = await self.reader.readexactly(length - 4)
        if kind == b"E":
            raise Refused(body.replace(b"\0", b" ").decode(errors="replace"))
        return kind, body

    async def until_ready(self):
        while (await self.message())[0] != b"Z":
            pass

    async def log_in(self):
        scram = None
        while True:
            kind, body = await self.message()
            if kind != b"R":
                raise Refused(f"{kind!r} in place of an authentication request")
            asked, rest = struct.unpack("!I", body[:4])[0], body[4:]
            if asked == 0:
                return
            if asked == 3:
                self.send(b"p", peers.PASSWORD.encode() + b"\0")
            elif asked == 5:
                once = hashlib.md5((peers.PASSWORD + peers.USER).encode()).hexdigest()
                self.send(b"p", b"md5" + hashlib.md5(once.encode() + rest).hexdigest().encode() + b"\0")
            elif asked == 10:
                scram = Scram()
                first = scram.first()
                self.send(b"p", b"SCRAM-SHA-256\0" + struct.pack("!I", len(first)) + first)
            elif asked == 11:
                self.send(b"p", scram.final(rest))
            elif asked != 12:
                raise Refused(f"authentication request {asked}")


class Scram:
    """The client's side of RFC 5802 with SHA-256, without channel binding."""

    def first(self):
        self.bare = b"n=,r=" + base64.b64encode(os.urandom(18))
        return b"n,," + self.bare

    def final(self, server_first):
        fields = dict(field.split(b"=", 1) for field in server_first.split(b","))
        salted = hashlib.pbkdf2_hmac(
            "sha256", peers.PASSWORD.encode(), base64.b64decode(fields[b"s"]), int(fields[b"i"])
        )
        client_key = hmac.digest(salted, b"Client Key", "sha256")
        without_proof = b"c=biws,r=" + fields[b"r"]
        signed = b",".join([self.bare, server_first, without_proof])
        signature = hmac.digest(hashlib.sha256(client_key).digest(), signed, "sha256")
        proof = bytes(left ^ right for left, right in zip(client_key, signature))
        return without_proof + b",p=" + base64.b64encode(proof)
