"""What is compared: a PostgreSQL of our own, and the proxies in front of it."""

import contextlib
import os
import pwd
import random
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

USER = DATABASE = PASSWORD = "bench"
NAMES = ["direct", "pgbouncer", "keyway-1", "keyway-1-cached", "keyway-1-strict", "keyway-1-one-worker", "keyway-2"]
# What shows the result cache: every answer kept already, or none ever asked for twice.
CACHE_SCRIPTS = ["hot-1", "hot-100", "cold"]
# How long a process may take to listen, or to leave.
PATIENCE_SECONDS = 30
TICKS = os.sysconf("SC_CLK_TCK")


class Bench:
    """A directory, a PostgreSQL cluster with pgbench's tables, and the peers. Leaves nothing behind."""

    def __init__(self, options):
        self.options, self.scale = options, options.scale
        self.peers = []

    def __enter__(self):
        with contextlib.ExitStack() as undo:
            # PostgreSQL and PgBouncer refuse root.
            self.account = unprivileged()
            self.directory = Path(tempfile.mkdtemp(prefix="keyway-bench-", dir="/tmp"))
            undo.callback(shutil.rmtree, self.directory, ignore_errors=True)
            self.give(self.directory)
            self.postgres = Postgres(self)
            undo.callback(self.postgres.stop)
            self.postgres.start()
            makers = {maker.name: maker for maker in (Direct, PgBouncer, KeywayOne, KeywayCached, KeywayStrict, KeywayOneWorker, KeywayTwo)}
            for name in self.options.peers:
                peer = makers[name](self)
                undo.callback(peer.stop)
                peer.start()
                self.peers.append(peer)
            self.undo = undo.pop_all()
        return self

    def __exit__(self, *_):
        # A second signal must not keep us from cleaning up after the first.
        for name in (signal.SIGINT, signal.SIGTERM):
            signal.signal(name, signal.SIG_IGN)
        self.undo.close()

    def give(self, path):
        if self.account:
            os.chown(path, self.account.pw_uid, self.account.pw_gid)

    def spawn(self, command, log, as_account):
        """Starts a process of its own group, so that Ctrl-C reaches us alone and we stop it in order."""
        who = {}
        if as_account and self.account:
            who = {"user": self.account.pw_uid, "group": self.account.pw_gid, "extra_groups": []}
        with open(self.directory / log, "ab") as out:
            return subprocess.Popen(
                [str(word) for word in command], cwd=self.directory, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                start_new_session=True, env=dict(os.environ, LC_ALL="C"), **who,
            )

    def pgbouncer_version(self):
        return next((peer.version for peer in self.peers if isinstance(peer, PgBouncer)), None)

    def pgbouncer_prepares(self):
        return any(peer.prepares for peer in self.peers if isinstance(peer, PgBouncer))


class Process:
    """Something that listens on a port."""

    name, log, as_account = "", "", False
    # The signal that asks it to leave at once.
    leave = signal.SIGTERM

    def __init__(self, bench):
        self.bench, self.process, self.port = bench, None, free_port()

    def command(self):
        raise NotImplementedError

    def start(self):
        self.process = self.bench.spawn(self.command(), self.log, self.as_account)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not self.answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                said = (self.bench.directory / self.log).read_text(errors="replace")[-3000:]
                raise SystemExit(f"{self.name} does not start:\n{said}")
            time.sleep(0.02)

    def answers(self):
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=5):
                return True
        except OSError:
            return False

    def stop(self):
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(self.leave)
        try:
            self.process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def restart(self):
        self.stop()
        self.start()

    def can(self, script, protocol):
        """Whether this peer answers such a run at all."""
        return True

    def is_proxy(self):
        return True

    def cpu_seconds(self):
        """User and system time of the whole process; None where the system does not tell."""
        stat = Path(f"/proc/{self.process.pid}/stat")
        if not stat.exists():
            return None
        fields = stat.read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def resident_kilobytes(self):
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1])


class Postgres(Process):
    """A throwaway cluster with pgbench's tables in the databases bench and bench2."""

    name, log, as_account, leave = "PostgreSQL", "postgres.log", True, signal.SIGQUIT

    def __init__(self, bench):
        super().__init__(bench)
        self.programs = find_postgres()
        self.data = bench.directory / "data"

    def program(self, name):
        """In the server's directory, or where the client programs are."""
        here = self.programs / name
        return here if here.exists() else shutil.which(name) or missing(name)

    def version(self):
        return subprocess.run([self.program("postgres"), "-V"], capture_output=True, text=True, check=True).stdout.strip()

    def command(self):
        settings = {
            "port": self.port, "listen_addresses": "127.0.0.1", "unix_socket_directories": self.bench.directory,
            "max_connections": 400, "shared_buffers": "512MB", "max_wal_size": "4GB",
            "fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "autovacuum": "off",
        }
        words = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        return [self.program("postgres"), "-D", self.data, *words]

    def start(self):
        initdb = [self.program("initdb"), "-D", self.data, "-U", "postgres", "-A", "trust", "-E", "UTF8",
                  "--locale=C", "--no-sync"]
        self.run(self.bench.spawn(initdb, self.log, True), "initdb")
        super().start()
        self.sql("postgres", f"CREATE ROLE {USER} LOGIN PASSWORD '{PASSWORD}'", f"CREATE DATABASE {DATABASE} OWNER {USER}")
        load = [self.program("pgbench"), "-h", self.bench.directory, "-p", self.port, "-U", USER, "-i", "-q",
                "-s", self.bench.scale, DATABASE]
        self.run(self.bench.spawn(load, self.log, True), "pgbench -i")
        # The two shards of keyway-2. Both hold all accounts, and each answers for the keys that are its own: loading
        # by key would change nothing that is measured.
        for shard in (f"{DATABASE}_s0", f"{DATABASE}_s1"):
            self.sql("postgres", f"CREATE DATABASE {shard} TEMPLATE {DATABASE} OWNER {USER}")

    def answers(self):
        ready = [self.program("psql"), "-h", self.bench.directory, "-p", str(self.port),
                 "-U", "postgres", "-c", "SELECT 1"]
        return subprocess.run(ready, stdin=subprocess.DEVNULL, capture_output=True, check=False).returncode == 0

    def sql(self, database, *statements):
        words = [word for statement in statements for word in ("-c", statement)]
        psql = [self.program("psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1", "-h", self.bench.directory,
                "-p", self.port, "-U", "postgres", "-d", database, *words]
        self.run(self.bench.spawn(psql, self.log, True), "psql")

    def run(self, process, what):
        if process.wait() != 0:
            said = (self.bench.directory / self.log).read_text(errors="replace")[-3000:]
            raise SystemExit(f"{what} stops:\n{said}")

    def dsn(self, database):
        return f"postgres://postgres@127.0.0.1:{self.port}/{database}?sslmode=disable"


class Direct(Process):
    """No proxy."""

    name = "direct"

    def __init__(self, bench):
        self.bench, self.process, self.port = bench, None, bench.postgres.port

    def start(self):
        pass

    def is_proxy(self):
        return False

    def cpu_seconds(self):
        return None


class PgBouncer(Process):
    """In transaction mode."""

    # What SIGTERM and SIGINT wait for differs between versions; it has nothing to put in order.
    name, log, as_account, leave = "pgbouncer", "pgbouncer.log", True, signal.SIGKILL

    def __init__(self, bench):
        super().__init__(bench)
        target = bench.options.keyway.parent.parent
        candidates = [os.environ.get("KEYWAY_PGBOUNCER"), target / "pgbouncer/bin/pgbouncer", shutil.which("pgbouncer"),
                      "/usr/sbin/pgbouncer"]
        found = [path for path in candidates if path and os.access(path, os.X_OK)]
        # A copy, because the account that it runs as may not reach the original.
        self.program = bench.directory / "pgbouncer"
        shutil.copy(found[0] if found else missing("pgbouncer"), self.program)
        said = subprocess.run([self.program, "--version"], capture_output=True, text=True, check=True).stdout
        self.version = said.splitlines()[0].strip()
        major, minor = re.search(r"(\d+)\.(\d+)", self.version).groups()
        self.prepares = (int(major), int(minor)) >= (1, 21)

    def can(self, script, protocol):
        return protocol != "prepared" or self.prepares

    def command(self):
        settings = {
            "listen_addr": "127.0.0.1", "listen_port": self.port, "unix_socket_dir": "", "auth_type": "trust",
            "auth_file": self.bench.directory / "users.txt", "pool_mode": "transaction",
            "default_pool_size": self.bench.options.pool, "max_client_conn": 5000, "server_tls_sslmode": "disable",
            "log_connections": 0, "log_disconnections": 0, "stats_period": 3600,
            "ignore_startup_parameters": "extra_float_digits,options",
        }
        if self.prepares:
            settings["max_prepared_statements"] = 200
        text = f"[databases]\n{DATABASE} = host=127.0.0.1 port={self.bench.postgres.port} dbname={DATABASE}\n[pgbouncer]\n"
        text += "".join(f"{name} = {value}\n" for name, value in settings.items())
        for file, content in (("users.txt", f'"{USER}" "{PASSWORD}"\n'), ("pgbouncer.ini", text)):
            path = self.bench.directory / file
            path.write_text(content)
            self.bench.give(path)
        return [self.program, self.bench.directory / "pgbouncer.ini"]


class Keyway(Process):
    """The router, with `databases` as its shards."""

    databases = ()
    # 0: one per core.
    workers = 0

    def __init__(self, bench):
        super().__init__(bench)
        self.log = f"{self.name}.log"
        if not os.access(bench.options.keyway, os.X_OK):
            raise SystemExit(f"{bench.options.keyway} is not there: cargo build --release")

    def command(self):
        file = self.bench.directory / f"{self.name}.toml"
        shards = "".join(
            f'[shards.s{number}]\nprimary = "{self.bench.postgres.dsn(database)}"\n'
            for number, database in enumerate(self.databases)
        )
        names = ", ".join(f'"s{number}"' for number in range(len(self.databases)))
        file.write_text(f"""listen = "127.0.0.1:{self.port}"
http = "off"
workers = {self.workers}
[auth]
method = "trust"
[users.{USER}]
password = "{PASSWORD}"
server_user = "{USER}"
server_password = "{PASSWORD}"
{shards}
[databases.{DATABASE}]
keyspaces = ["main"]
default = "main"
[keyspaces.main]
shards = [{names}]
{self.tables()}
[pool]
size = {self.bench.options.pool}
[log]
level = "warn"
""")
        return [self.bench.options.keyway, "serve", "-c", file]

    def tables(self):
        return ""


class KeywayOne(Keyway):
    """One shard holds all: the price of standing in between."""

    name, databases = "keyway-1", (DATABASE,)

    def tables(self):
        tables = ("accounts", "branches", "tellers", "history")
        return "[keyspaces.main.tables]\n" + "".join(f"pgbench_{table} = {{}}\n" for table in tables)


class KeywayCached(KeywayOne):
    """With kept answers."""

    name = "keyway-1-cached"

    def can(self, script, protocol):
        return script in CACHE_SCRIPTS

    def tables(self):
        return super().tables() + "[cache]\nenabled = true\n"


class Redis(Process):
    """Where versions are shared."""

    name, log = "redis", "redis.log"

    def command(self):
        program = shutil.which("redis-server") or missing("redis-server")
        return [program, "--port", self.port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]


class KeywayStrict(KeywayCached):
    """With kept answers whose versions are asked of Redis each time, as if there were more Keyways."""

    name = "keyway-1-strict"

    def __init__(self, bench):
        super().__init__(bench)
        self.redis = Redis(bench)

    def start(self):
        if self.redis.process is None:
            self.redis.start()
        super().start()

    def stop(self):
        super().stop()
        self.redis.stop()
        self.redis.process = None

    def tables(self):
        shared = f'urls = ["redis://127.0.0.1:{self.redis.port}"]\nsecret = "only of this benchmark"\nlease = "1s"\n'
        return super().tables() + 'consistency = "strict"\n[cache.redis]\n' + shared


class KeywayOneWorker(KeywayOne):
    """On one core, as PgBouncer is."""

    name, workers = "keyway-1-one-worker", 1

    def can(self, script, protocol):
        return script not in CACHE_SCRIPTS


class KeywayTwo(Keyway):
    """Two shards, every query routed by its key."""

    name, databases = "keyway-2", (f"{DATABASE}_s0", f"{DATABASE}_s1")

    def can(self, script, protocol):
        # TPC-B writes tables with other keys: more than one shard in a transaction.
        return script == "select"

    def tables(self):
        return '[keyspaces.main.tables]\npgbench_accounts = { key = "aid" }\n'


def unprivileged():
    """The account for what refuses root; None when we are not root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise SystemExit("PostgreSQL refuses to run as root, and there is neither a user postgres nor nobody")


def find_postgres():
    """As src/demo/binaries.rs does."""
    chosen = os.environ.get("KEYWAY_PG_BIN")
    linked = shutil.which("initdb")
    patterns = [("/usr/lib/postgresql", "*/bin"), ("/usr", "pgsql-*/bin"), ("/opt/homebrew/opt", "postgresql*/bin"),
                ("/usr/local/opt", "postgresql*/bin"), ("/Applications/Postgres.app/Contents/Versions", "*/bin")]
    versions = [path for parent, pattern in patterns for path in Path(parent).glob(pattern)]
    versions.sort(key=lambda path: [int(number) for number in re.findall(r"\d+", str(path))], reverse=True)
    candidates = [Path(chosen)] if chosen else []
    candidates += [Path(linked).resolve().parent] if linked else []
    for directory in candidates + versions:
        if (directory / "initdb").exists() and (directory / "postgres").exists():
            return directory
    return missing("PostgreSQL's server")


def missing(what):
    raise SystemExit(f"{what} is not installed: run scripts/setup.sh")


def free_port():
    """Below the range of outgoing connections, so that a peer that restarts finds it free."""
    while True:
        port = random.randrange(15000, 32000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return port
