"""An ordinary asyncpg application, on the database that KEYWAY_URL names. Leaves 0 when everything held."""

import asyncio
import datetime
import os
import sys
import uuid

import asyncpg

URL = os.environ["KEYWAY_URL"]
IDS = range(2000, 2040)


def expect(got, wanted, what):
    if got != wanted:
        raise AssertionError(f"{what}: got {got!r}, wanted {wanted!r}")


async def statements(conn):
    for i in IDS:
        tag = await conn.execute("insert into accounts (id, name, balance, opened, token, raw, tags) values ($1, $2, $3, $4, $5, $6, $7)",
                                 i, f"n{i}", i * 2, datetime.date(2024, 1, 2), uuid.UUID(int=i), bytes([0, 255]), ["a", None, f"b{i}"])
        expect(tag, "INSERT 0 1", "a command tag")
    row = await conn.fetchrow("select * from accounts where id = $1", 2003)
    expect((row["id"], row["name"], row["opened"], row["token"], row["raw"], row["tags"]),
           (2003, "n2003", datetime.date(2024, 1, 2), uuid.UUID(int=2003), bytes([0, 255]), ["a", None, "b2003"]), "a whole row")
    expect(await conn.fetchval("select count(*) from accounts where id >= $1 and id < $2", 2000, 2040), 40, "a count over all shards")
    rows = await conn.fetch("select id from accounts where id >= $1 and id < $2 order by balance desc, id limit $3 offset $4", 2000, 2040, 3, 1)
    expect([r["id"] for r in rows], [2038, 2037, 2036], "a merge with a hidden column, binary")
    rows = await conn.fetch("select id from accounts where id = any($1::bigint[]) order by id", [2001, 2030, 5])
    expect([r["id"] for r in rows], [2001, 2030], "= any")
    total, low, high = await conn.fetchrow("select sum(balance), min(opened), max(id) from accounts where id >= $1 and id < $2", 2000, 2010)
    expect((total, low, high), (sum(2 * i for i in range(2000, 2010)), datetime.date(2024, 1, 2), 2009), "aggregates, binary")
    statement = await conn.prepare("select name from accounts where id = $1")
    expect([str(p.name) for p in statement.get_parameters()], ["int8"], "a parameter's type")
    expect([(a.name, a.type.name) for a in statement.get_attributes()], [("name", "text")], "a column's type")
    for i in IDS:
        expect(await statement.fetchval(i), f"n{i}", "a prepared statement")
    await conn.executemany("insert into entries (account_id, line, amount, note) values ($1, $2, $3, $4)",
                           [(2000, n, n, f"note {n}") for n in range(50)])
    expect(await conn.fetchval("select count(*) from entries where account_id = 2000"), 50, "executemany")


async def failures(conn):
    for sql, error in [
        ("select nope from accounts where id = 2000", asyncpg.UndefinedColumnError),
        ("insert into accounts (id, name) values (2000, 'again')", asyncpg.UniqueViolationError),
        ("selec 1", asyncpg.PostgresSyntaxError),
        ("update accounts set id = 3 where id = 2000", asyncpg.FeatureNotSupportedError if "KEYWAY_PLAIN" not in os.environ else None),
    ]:
        if error is None:
            continue
        try:
            await conn.execute(sql)
        except error:
            pass
        else:
            raise AssertionError(f"{sql}: no {error.__name__}")
    expect(await conn.fetchval("select name from accounts where id = 2000"), "n2000", "after the failures")


async def transactions(conn):
    async with conn.transaction():
        await conn.execute("update accounts set balance = 1 where id = 2001")
        try:
            async with conn.transaction():
                await conn.execute("update accounts set balance = 2 where id = 2001")
                await conn.execute("insert into accounts (id, name) values (2001, 'twice')")
        except asyncpg.UniqueViolationError:
            pass
        expect(await conn.fetchval("select balance from accounts where id = 2001"), 1, "after a savepoint")
    transaction = conn.transaction()
    await transaction.start()
    await conn.execute("update accounts set balance = 9 where id = 2001")
    await transaction.rollback()
    expect(await conn.fetchval("select balance from accounts where id = 2001"), 1, "after a rollback")
    async with conn.transaction(isolation="repeatable_read", readonly=True):
        expect(await conn.fetchval("select balance from accounts where id = 2001"), 1, "a repeatable read on one shard")


async def cursors(conn):
    async with conn.transaction():
        got = []
        async for row in conn.cursor("select line from entries where account_id = $1 order by line", 2000, prefetch=7):
            got.append(row["line"])
        expect(got, list(range(50)), "a cursor by portals")
        cursor = await conn.cursor("select line from entries where account_id = $1 order by line", 2000)
        expect([r["line"] for r in await cursor.fetch(3)], [0, 1, 2], "fetch")
        await cursor.forward(5)
        expect((await cursor.fetchrow())["line"], 8, "forward")


async def copies(conn):
    tag = await conn.copy_records_to_table("activity_asyncpg", records=[(i, f"r{i}") for i in range(300)], columns=["id", "what"])
    expect(tag, "COPY 300", "binary records in")
    out = bytearray()

    async def sink(data):
        out.extend(data)

    await conn.copy_from_query("select id, what from activity_asyncpg where id < $1 order by id", 3, output=sink, format="csv")
    expect(bytes(out), b"0,r0\n1,r1\n2,r2\n", "a query copied out")
    await conn.execute("delete from activity_asyncpg")


async def cancels(conn):
    try:
        await conn.execute("select pg_sleep(30) from accounts where id = 2000", timeout=0.3)
    except asyncio.TimeoutError:
        pass
    else:
        raise AssertionError("no timeout")
    expect(await conn.fetchval("select name from accounts where id = 2000"), "n2000", "after a timeout, which cancels")
    task = asyncio.create_task(conn.fetchval("select pg_sleep(30) from accounts where id = 2000"))
    await asyncio.sleep(0.3)
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        pass
    expect(await conn.fetchval("select name from accounts where id = 2001"), "n2001", "after a cancelled task")


async def pools():
    async with asyncpg.create_pool(URL, min_size=4, max_size=12) as pool:

        async def one(i):
            async with pool.acquire() as conn:
                for turn in range(5):
                    k = 2000 + (i + turn) % 40
                    expect(await conn.fetchval("select name from accounts where id = $1", k), f"n{k}", "a pooled row")

        await asyncio.gather(*(one(i) for i in range(100)))


async def leaves_in_the_middle():
    for _ in range(8):
        conn = await asyncpg.connect(URL)
        await conn.execute("begin")
        await conn.execute("update accounts set balance = balance where id = 2005")
        task = asyncio.create_task(conn.execute("select pg_sleep(0.5) from accounts where id = 2005"))
        await asyncio.sleep(0.05)
        conn.terminate()
        try:
            await task
        except (asyncpg.PostgresError, asyncpg.InterfaceError, ConnectionError, asyncio.CancelledError):
            pass
    conn = await asyncpg.connect(URL)
    await conn.execute("set lock_timeout = '15s'")
    expect(await conn.execute("update accounts set balance = 4010 where id = 2005"), "UPDATE 1", "a row that a lost client had locked")
    await conn.close()


async def notifications():
    a, b = await asyncpg.connect(URL), await asyncpg.connect(URL)
    heard = asyncio.get_running_loop().create_future()
    await a.add_listener("drivers_news", lambda _c, _pid, channel, payload: heard.done() or heard.set_result((channel, payload)))
    await b.execute("select pg_notify('drivers_news', 'hello')")
    expect(await asyncio.wait_for(heard, 60), ("drivers_news", "hello"), "a notification")
    await a.close()
    await b.close()


async def main():
    conn = await asyncpg.connect(URL)
    for i in IDS:
        await conn.execute("delete from entries where account_id = $1", i)
        await conn.execute("delete from accounts where id = $1", i)
    await statements(conn)
    await failures(conn)
    await transactions(conn)
    await cursors(conn)
    await copies(conn)
    await cancels(conn)
    await pools()
    await leaves_in_the_middle()
    await notifications()
    for i in IDS:
        await conn.execute("delete from entries where account_id = $1", i)
        await conn.execute("delete from accounts where id = $1", i)
    await conn.close()
    print("asyncpg: all held")


if __name__ == "__main__":
    try:
        asyncio.run(asyncio.wait_for(main(), 300))
    except Exception as error:  # one clear sentence, then the place
        print(f"asyncpg: {type(error).__name__}: {error}", file=sys.stderr)
        raise
