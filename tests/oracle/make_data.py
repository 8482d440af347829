#!/usr/bin/env python3
"""Writes data.sql: one row a statement, the same on every run. Run it after changing the schema."""

import datetime

out = []


def text(v):
    if v is None:
        return "NULL"
    if isinstance(v, bool):
        return "true" if v else "false"
    if isinstance(v, (int, float)):
        return str(v)
    return "'" + str(v).replace("'", "''") + "'"


def row(table, *values):
    out.append(f"INSERT INTO {table} VALUES ({', '.join(map(text, values))});")


names = ["Ada", "Bo", "Cy", "Dee", "Eve", "Fay", "Gus", "Hal", "Ivy", "Jo", "Kim", "Lea", "Mo", "Ned", "Ola", "Pia", "Quin", "Rae",
         "Sam", "Tess", "Ugo", "Vi", "Wes", "Xia", "Yan", "Zoe", "ada", "Émile", "Ñandú", "Øyvind", "zed", "Zed", "O'Neil", "", "李", "a b",
         "Ann", "Ben", "Cas", "Dan"]
countries = [("DE", "Germany", "Europe"), ("FR", "France", "Europe"), ("JP", "Japan", "Asia"), ("BR", "Brazil", "South America"),
             ("KE", "Kenya", "Africa"), ("NZ", "New Zealand", "Oceania")]
day0 = datetime.date(2024, 1, 1)
moods = ["sad", "ok", "happy", None]

out.append("-- Written by make_data.py. Reference rows go to every shard; all others are one row on one shard.")
out.append("-- reference")
for c in countries:
    row("countries", *c)
for c in [("EUR", "1"), ("USD", "1.0850"), ("JPY", "161.2")]:
    out.append(f"INSERT INTO currencies VALUES ('{c[0]}', {c[1]});")
out.append("-- rows")
for i in range(1, 41):
    n = names[i - 1]
    tags = None if i % 7 == 0 else "{" + ",".join(f"t{j}" for j in range(i % 4)) + "}"
    row("users", i, n, None if i % 9 == 0 else f"u{i}@example.com", None if i % 8 == 0 else countries[i % 6][0], None if i % 10 == 0 else 10 + (i * 7) % 60,
        None if i % 6 == 0 else (i * 37 % 101) / 8, None if i % 11 == 0 else f"{(i * 1237) % 5000}.{i % 100:02}", i % 3 != 0,
        day0 - datetime.timedelta(days=9000 + i * 97), f"2024-03-{i % 28 + 1:02} 10:{i:02}:00.5", f"2024-03-{i % 28 + 1:02} 10:{i:02}:00+02",
        f"00000000-0000-4000-8000-{i:012}", None if i % 5 == 0 else f"\\x{i:02x}ff00", moods[i % 4], tags,
        None if i % 4 == 0 else '{"n": %d, "deep": {"a": [%d, null]}}' % (i, i % 3), None if i % 6 == 0 else f'("Main St, {i}",{i},{10000 + i})',
        None if i % 5 == 0 else str(10000 + i), None if i % 3 == 0 else "{happy,sad}")
for i in range(1, 41):
    for j in range(1, i % 5 + 1):
        row("posts", i, j, f"title {i}.{j}", None if (i + j) % 4 == 0 else f"body of {i} {j}", (i * j * 7) % 23, f"2024-0{j}-{i % 28 + 1:02} 0{j}:00:00")
    for j in range(1, i % 4 + 1):
        row("follows", i, (i * j + 3) % 40 + 1, day0 + datetime.timedelta(days=i * j))
    for j in range(1, i % 3 + 2):
        row("timelines", i, (i + j) % 40 + 1, j, f"2024-05-{(i + j) % 28 + 1:02} 1{j}:00:00+00")
    for j in range(1, i % 3 + 1):
        row("orders", i, j, f"{(i * j * 113) % 900}.{i:02}", day0 + datetime.timedelta(days=i + j * 30), ["new", "paid", "sent"][(i + j) % 3])
        for k in range(1, (i + j) % 3 + 2):
            row("order_items", i, j, k, f"sku{(i * k) % 9}", (i + k) % 5 + 1, f"{(i * k * 31) % 200}.50")
fruit = ["Banana", "apple", "zeta", "cherry", "Äpfel", "date", "Fig", "élan", None, "grape"]
for i in range(60):
    row("t", i, i % 20, i % 5, (i * 37) % 61, fruit[i % 10])
for k in range(1, 31):
    f8 = ["NaN", "Infinity", "-Infinity", "-0", "0", "1.5", "1e300", "-1e-300", None, "0.1"][k % 10]
    f4 = ["NaN", "Infinity", "-Infinity", "-0", "0", "1.5", "1e30", "3.14159", None, "16777217"][(k + 3) % 10]
    n = ["NaN", "Infinity", "-Infinity", "0", "0.00", "1.50", "1.5", "99999999999999999999.0000000001", None, "-12345.678"][(k + 5) % 10]
    q = [None, 5, -5, 0, 32767, -32768][k % 6]
    row("kinds", k, [True, False, None][k % 3], q, None if k % 7 == 0 else (k * 91) % 17 - 8, [None, 9223372036854775807, -9223372036854775808, 0, 42][k % 5],
        f4, f8, n, [None, "2024-02-29", "0044-03-15 BC", "infinity", "-infinity", "1999-12-31"][k % 6],
        [None, "2024-02-29 12:00:00.123456", "infinity", "-infinity", "1970-01-01 00:00:00"][k % 5],
        [None, "2024-02-29 12:00:00+00", "2024-02-29 12:00:00+05:30", "infinity", "1970-01-01 00:00:00-08"][(k + 1) % 5],
        [None, "00:00:00", "23:59:59.999999", "24:00:00", "12:34:56"][k % 5], None if k % 4 == 0 else f"{k % 6:08x}-0000-4000-8000-{(k * 7919) % 1000:012}",
        [None, "\\x", "\\x00", "\\xff", "\\x00ff", "\\xdeadbeef"][k % 6], [None, "", "a", "A", "ab", "é", "z", "Z"][k % 8],
        [None, "", "x", "X ", "xy"][k % 5], [None, "a", "b  ", "B"][k % 4],
        [None, "1 day", "24:00:00", "1 mon", "30 days", "-3 days 04:05:06", "1 year 2 mons"][k % 7])
for i, w in enumerate(["alpha", "Beta", "gamma", "", "a b", "123", "007", "7", "O'Hara", "ünï", "null", "NULL", "x" * 200, "back\\slash", "-1", "true"]):
    row("words", w, i)
for i, w in enumerate(["123", "0123", "a", "A", "a ", "1e3", "2024-01-01"]):
    row("codes", w, i)
for i, w in enumerate(["ab", "abc", "AB", "x  y", "123"]):
    row("chars", w, i)
for i in range(1, 13):
    row("tokens", f"{i:08x}-1111-4111-8111-1234567890ab", f"note {i % 4}")
    row("days", day0 + datetime.timedelta(days=i * 29), i)
    row("stamps", f"2024-01-{i:02} 0{i % 10}:30:00.{i}", i)
    row("moments", f"2024-01-{i:02} 0{i % 10}:30:00+0{i % 9}", i)
    row("blobs", f"\\x{i:02x}{'00' * (i % 3)}", i)
    row("smalls", i - 3, f"s{i}")
    row("pairs", i % 4, f"b{i}", i)
    row("maybes", None if i % 4 == 0 else i % 5, i)
    row("defaults", i, i * 2, None if i % 3 == 0 else f"n{i}")
    row("events", i % 6 + 1, day0 + datetime.timedelta(days=i * 50), ["login", "logout", "buy"][i % 3])
    row('"Odd Table"', i, f"sel{i % 3}", i * i % 7)
    row("other.t", 100 + i, i % 6, f"other {i}")
for v in [(True, 1), (False, 2), (True, 3), (False, None), (True, 5)]:
    row("flags", *v)
for i in range(1, 31):
    row("user_activities", i, i % 10 + 1, ["view", "click", "scroll"][i % 3], f"2024-06-{i:02} 08:00:00+00")
for i, k in enumerate(["view", "click", "scroll", "never"]):
    row("activity_kinds", k, i * 10)
for i in range(1, 21):
    row("user_settings", i, ["dark", "light", None][i % 3], None if i % 4 == 0 else '{"lang": "%s"}' % ["en", "de"][i % 2])
with open("data.sql", "w", encoding="utf-8") as f:
    f.write("\n".join(out) + "\n")
