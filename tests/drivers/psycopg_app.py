"""An ordinary psycopg 3 application, on the database that KEYWAY_URL names. Leaves 0 when everything held."""

import os
import socket
import sys
import threading
import uuid

import psycopg
from psycopg import errors
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

URL = os.environ["KEYWAY_URL"]
IDS = range(1000, 1040)


def expect(got, wanted, what):
    if got != wanted:
        raise AssertionError(f"{what}: got {got!r}, wanted {wanted!r}")


def plain_statements(conn):
    with conn.cursor() as cur:
        for i in IDS:
            cur.execute("insert into accounts (id, name, balance, opened, data, token, raw, tags) values (%s, %s, %s, %s, %s, %s, %s, %s)",
                        (i, f"n{i}", i * 2, "2024-01-02", Jsonb({"i": i}), uuid.UUID(int=i), bytes([i % 256, 0, 255]), ["a", f"b{i}"]))
            expect(cur.rowcount, 1, "rows inserted")
        cur.execute("select name, balance, opened, data, token, raw, tags from accounts where id = %s", (1003,))
        name, balance, opened, data, token, raw, tags = cur.fetchone()
        expect((name, balance, str(opened), data, token, raw, tags),
               ("n1003", 2006, "2024-01-02", {"i": 1003}, uuid.UUID(int=1003), bytes([1003 % 256, 0, 255]), ["a", "b1003"]), "a whole row")
        cur.execute("select id from accounts where id = any(%s) order by id", ([1001, 1005, 7],))
        expect([r[0] for r in cur], [1001, 1005], "= any")
        cur.execute("select count(*) from accounts where id >= %s and id < %s", (1000, 1040))
        expect(cur.fetchone()[0], 40, "count over all shards")
        cur.execute("select id, name from accounts where id between 1000 and 1039 order by id desc limit %s offset %s", (3, 2))
        expect(cur.fetchall(), [(1037, "n1037"), (1036, "n1036"), (1035, "n1035")], "limit and offset as parameters")
        cur.execute("update accounts set balance = balance + 1 where id = %s returning balance", (1003,))
        expect(cur.fetchone()[0], 2007, "update returning")
        expect([d.name for d in cur.description], ["balance"], "column names")
        expect(cur.description[0].type_code, 23, "column type")


def binary(conn):
    with conn.cursor(binary=True) as cur:
        cur.execute("select id, name, balance, token, raw, opened from accounts where id = %b", (1004,))
        row = cur.fetchone()
        expect(row[:5], (1004, "n1004", 2008, uuid.UUID(int=1004), bytes([1004 % 256, 0, 255])), "a binary row")
        cur.execute("select id, balance from accounts where id >= %b and id < %b order by balance desc limit %b", (1000, 1040, 2))
        expect(cur.fetchall(), [(1039, 2078), (1038, 2076)], "a binary merge")
        cur.execute("select count(*), sum(balance), min(id), max(opened) from accounts where id >= %b and id < %b", (1010, 1020))
        count, total, low, day = cur.fetchone()
        expect((count, total, low, str(day)), (10, sum(2 * i for i in range(1010, 1020)), 1010, "2024-01-02"), "binary aggregates")


def prepared(conn):
    for turn in range(12):  # the sixth execution prepares
        with conn.cursor() as cur:
            cur.execute("select name from accounts where id = %s", (1000 + turn,))
            expect(cur.fetchone()[0], f"n{1000 + turn}", "automatic preparation")
            cur.execute("select name from accounts where id = %s", (1010 + turn,), prepare=True)
            expect(cur.fetchone()[0], f"n{1010 + turn}", "explicit preparation")
    with conn.cursor() as cur:
        cur.executemany("insert into entries (account_id, line, amount) values (%s, %s, %s) returning line",
                        [(1000, n, n * 1.5) for n in range(20)], returning=True)
        got = []
        while True:
            got.append(cur.fetchone()[0])
            if not cur.nextset():
                break
        expect(got, list(range(20)), "executemany with returning")


def pipelines(conn):
    with conn.pipeline() as pipeline:
        cursors = [conn.execute("select name from accounts where id = %s", (i,)) for i in IDS]
        pipeline.sync()
        expect([c.fetchone()[0] for c in cursors], [f"n{i}" for i in IDS], "a pipeline over all shards")
    with psycopg.connect(URL, autocommit=True) as other:
        cursors = []
        try:
            with other.pipeline() as pipeline:
                cursors.append(other.execute("select name from accounts where id = %s", (1001,)))
                cursors.append(other.execute("select 1 / (id - 1002) from accounts where id = %s", (1002,)))
                cursors.append(other.execute("select name from accounts where id = %s", (1003,)))
                pipeline.sync()
        except errors.DivisionByZero:
            pass
        else:
            raise AssertionError("the error in the middle of a pipeline is lost")
        expect(cursors[0].fetchone()[0], "n1001", "what came before the error")
        expect(other.execute("select name from accounts where id = %s", (1004,)).fetchone()[0], "n1004", "after the pipeline")


def transactions():
    with psycopg.connect(URL) as conn:
        conn.execute("update accounts set balance = 1 where id = 1006")
        try:
            with conn.transaction():
                conn.execute("update accounts set balance = 2 where id = 1006")
                conn.execute("insert into accounts (id, name) values (1006, 'twice')")
        except errors.UniqueViolation as error:
            expect(error.diag.constraint_name, "accounts_pkey", "the constraint's name")
        else:
            raise AssertionError("no unique violation")
        expect(conn.execute("select balance from accounts where id = 1006").fetchone()[0], 1, "after the savepoint")
        with conn.transaction(force_rollback=True):
            conn.execute("update accounts set balance = 3 where id = 1006")
        expect(conn.execute("select balance from accounts where id = 1006").fetchone()[0], 1, "a forced rollback")
        conn.rollback()
        expect(conn.execute("select balance from accounts where id = 1006").fetchone()[0], 2012, "after the rollback")
    with psycopg.connect(URL) as conn:
        conn.execute("select name from accounts where id = 1007")
        try:
            conn.execute("select nope from accounts where id = 1007")
        except errors.UndefinedColumn:
            pass
        try:
            conn.execute("select 1")
        except errors.InFailedSqlTransaction:
            pass
        else:
            raise AssertionError("a failed transaction goes on")
        conn.rollback()
        expect(conn.execute("select name from accounts where id = 1007").fetchone()[0], "n1007", "after the failure")


def cursors():
    with psycopg.connect(URL) as conn:
        with conn.cursor("named", row_factory=dict_row) as cur:
            cur.itersize = 7
            cur.execute("select line, amount from entries where account_id = %s order by line", (1000,))
            lines = [row["line"] for row in cur]
            expect(lines, list(range(20)), "a server-side cursor")
        with conn.cursor("scrolling", scrollable=True) as cur:
            cur.execute("select line from entries where account_id = %s order by line", (1000,))
            expect(cur.fetchmany(3), [(0,), (1,), (2,)], "fetchmany")
            cur.scroll(-1)
            expect(cur.fetchone(), (2,), "scroll back")
        with conn.cursor() as cur:
            got = list(cur.stream("select g from accounts, generate_series(1, 3000) g where id = %s order by g", (1000,)))
            expect(len(got), 3000, "single-row mode")


def copies(conn):
    with conn.cursor() as cur:
        with cur.copy("copy activity_psycopg (id, what) from stdin") as copy:
            for i in range(500):
                copy.write_row((i, f"tab\there {i}"))
        expect(cur.rowcount, 500, "rows copied in")
        with cur.copy("copy activity_psycopg (id, what) from stdin (format binary)") as copy:
            copy.set_types(["int4", "text"])
            for i in range(500, 600):
                copy.write_row((i, "binary"))
        with cur.copy("copy (select id, what from activity_psycopg where id < 502 order by id) to stdout") as copy:
            rows = list(copy.rows())
        expect((len(rows), rows[3], rows[501]), (502, ("3", "tab\there 3"), ("501", "binary")), "rows copied out")
        with cur.copy("copy (select line, note from entries where account_id = 1000 order by line) to stdout") as copy:
            expect(len(list(copy.rows())), 20, "copy out of one shard")
        try:
            with cur.copy("copy activity_psycopg (id, what) from stdin") as copy:
                copy.write_row((10_000, "never"))
                raise RuntimeError("the application changes its mind")
        except RuntimeError:
            pass
        cur.execute("select count(*) from activity_psycopg where id = 10000")
        expect(cur.fetchone()[0], 0, "an abandoned copy")
        cur.execute("delete from activity_psycopg")


def cancels(conn):
    over = threading.Event()

    def ask():  # until it is over: what comes before the query has no effect
        while not over.wait(0.3):
            conn.cancel_safe()

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        conn.execute("select pg_sleep(60) from accounts where id = 1000")
    except errors.QueryCanceled:
        pass
    else:
        raise AssertionError("not cancelled")
    finally:
        over.set()
        asking.join()
    expect(conn.execute("select name from accounts where id = 1000").fetchone()[0], "n1000", "after a cancel")


def leaves_in_the_middle():
    for _ in range(8):
        other = psycopg.connect(URL)
        other.execute("update accounts set balance = -1 where id = 1008")
        other.pgconn.send_query(b"select pg_sleep(0.5) from accounts where id = 1008")
        other.pgconn.flush()
        handle = socket.socket(fileno=os.dup(other.fileno()))
        handle.shutdown(socket.SHUT_RDWR)
        handle.close()
        other.pgconn.finish()
    with psycopg.connect(URL, options="-c lock_timeout=15s") as fresh:
        expect(fresh.execute("update accounts set balance = balance where id = 1008 returning balance").fetchone()[0], 2016,
               "the update of a client that left")


def settings(conn):
    with psycopg.connect(URL, autocommit=True, options="-c timezone=Asia/Tokyo") as other:
        expect(other.execute("select current_setting('timezone') from accounts where id = 1000").fetchone()[0], "Asia/Tokyo", "an option")
        expect(other.info.parameter_status("TimeZone"), "Asia/Tokyo", "ParameterStatus")
        other.execute("set timezone = 'UTC'")
        expect(other.info.parameter_status("TimeZone"), "UTC", "ParameterStatus after SET")
    notices = []
    conn.add_notice_handler(lambda diag: notices.append(diag.sqlstate))
    conn.execute("drop table if exists no_such_table_here")
    expect(notices, ["00000"], "notices")


def main():
    with psycopg.connect(URL, autocommit=True) as conn:
        for table in ("entries", "accounts"):
            key = "account_id" if table == "entries" else "id"
            for i in IDS:
                conn.execute(f"delete from {table} where {key} = {i}")
        plain_statements(conn)
        binary(conn)
        prepared(conn)
        pipelines(conn)
        transactions()
        cursors()
        copies(conn)
        cancels(conn)
        settings(conn)
        leaves_in_the_middle()
        for i in IDS:
            conn.execute("delete from entries where account_id = %s", (i,))
            conn.execute("delete from accounts where id = %s", (i,))
    print("psycopg: all held")


if __name__ == "__main__":
    try:
        main()
    except Exception as error:  # one clear sentence, then the place
        print(f"psycopg: {type(error).__name__}: {error}", file=sys.stderr)
        raise
