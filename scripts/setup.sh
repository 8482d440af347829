#!/usr/bin/env bash
# Installs what the tests, the demo and the benchmark need and this machine lacks: PostgreSQL's server and client
# programs, Redis, PgBouncer, and the PostgreSQL drivers for Python and Node.js (below tests/drivers).
# Says what it does; says and does nothing when all is there. Starts no service.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf 'setup: %s\n' "$*" >&2; }
has() { command -v "$1" >/dev/null 2>&1; }

# The directory of PostgreSQL's server programs, looked for where src/demo/binaries.rs looks.
postgres_directory() {
    local directory
    for directory in "${KEYWAY_PG_BIN:-}" \
        "$(dirname "$(readlink -f "$(command -v initdb || true)")" 2>/dev/null)" \
        "$(pg_config --bindir 2>/dev/null || true)" \
        /usr/lib/postgresql/*/bin /usr/pgsql-*/bin \
        /opt/homebrew/opt/postgresql*/bin /usr/local/opt/postgresql*/bin \
        /Applications/Postgres.app/Contents/Versions/*/bin; do
        if [ -n "$directory" ] && [ -x "$directory/initdb" ] && [ -x "$directory/postgres" ]; then
            printf '%s\n' "$directory"
            return
        fi
    done
}

missing=()  # what is missing, in words of our own
postgres=$(postgres_directory)
[ -n "$postgres" ] || missing+=(postgresql)
for program in psql pgbench; do
    has "$program" || [ -x "$postgres/$program" ] || missing+=("$program")
done
has redis-server || missing+=(redis)
has pgbouncer || [ -x /usr/sbin/pgbouncer ] || missing+=(pgbouncer)
python3 -c 'import ensurepip, venv' >/dev/null 2>&1 || missing+=(python3)
has node || missing+=(node)
has npm || missing+=(npm)

# The packages for the missing things, each once.
packages() {
    local thing
    for thing in "${missing[@]}"; do
        case "$1/$thing" in
        apt/postgresql) echo postgresql ;;
        apt/psql) echo postgresql-client ;;
        # Debian packs pgbench with the server.
        apt/pgbench) echo postgresql ;;
        apt/redis) echo redis-server ;;
        apt/python3) echo python3 python3-venv ;;
        apt/node) echo nodejs ;;
        brew/postgresql | brew/psql | brew/pgbench) echo postgresql@17 ;;
        */*) echo "$thing" ;;
        esac
    done | tr ' ' '\n' | sort -u
}

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

# Runs a command whose output matters only when it fails.
quietly() {
    local log
    log=$(mktemp)
    if ! "$@" </dev/null >"$log" 2>&1; then
        cat "$log" >&2
        rm -f "$log"
        say "this failed: $*"
        return 1
    fi
    rm -f "$log"
}

# Debian starts what it installs. These two files tell it not to, while we install; a policy that is there already is
# somebody's wish and stays.
policy=/usr/sbin/policy-rc.d
no_cluster=/etc/postgresql-common/createcluster.d/keyway-setup.conf
install_with_apt() {
    local wanted added=()
    wanted=$(packages apt | tr '\n' ' ')
    say "apt-get install $wanted"
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
        as_root chmod 755 "$policy"
        added+=("$policy")
    fi
    as_root mkdir -p "$(dirname "$no_cluster")"
    echo 'create_main_cluster = false' | as_root tee "$no_cluster" >/dev/null
    added+=("$no_cluster")
    # shellcheck disable=SC2064  # the list as it is now
    trap "as_root rm -f ${added[*]}" EXIT
    quietly as_root apt-get update
    # shellcheck disable=SC2086  # a list of words
    quietly as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $wanted
    # Nor at the next boot: whoever wants these services on this machine turns them on.
    if has systemctl; then
        for service in redis-server pgbouncer; do
            case " $wanted " in
            *" $service "*) as_root systemctl disable --quiet "$service" >/dev/null 2>&1 || true ;;
            esac
        done
    fi
    as_root rm -f "${added[@]}"
    trap - EXIT
}

if [ ${#missing[@]} -gt 0 ]; then
    say "missing: ${missing[*]}"
    if has apt-get; then
        if [ "$(id -u)" != 0 ] && ! has sudo; then
            say "run this as root, or install sudo, or install: $(packages apt | tr '\n' ' ')"
            exit 1
        fi
        install_with_apt
    elif has brew; then
        wanted=$(packages brew | tr '\n' ' ')
        say "brew install $wanted"
        # shellcheck disable=SC2086  # a list of words
        quietly brew install $wanted
    else
        say "neither apt-get nor brew is here: install them with your package manager, then run this again"
        exit 1
    fi
fi

# The drivers. A copy of what was asked for is kept beside what was installed, so that a change installs anew.
drivers=tests/drivers
if ! cmp -s "$drivers/requirements.txt" "$drivers/.venv/requirements.installed"; then
    say "installing Python drivers into $drivers/.venv: $(grep -v '^#' "$drivers/requirements.txt" | tr '\n' ' ')"
    rm -rf "$drivers/.venv"
    python3 -m venv "$drivers/.venv"
    quietly "$drivers/.venv/bin/python" -m pip install --disable-pip-version-check --no-input \
        --requirement "$drivers/requirements.txt"
    cp "$drivers/requirements.txt" "$drivers/.venv/requirements.installed"
fi
if ! cmp -s "$drivers/package-lock.json" "$drivers/node_modules/package-lock.installed"; then
    say "installing the Node.js driver into $drivers/node_modules"
    quietly npm ci --prefix "$drivers" --no-audit --no-fund --no-update-notifier
    cp "$drivers/package-lock.json" "$drivers/node_modules/package-lock.installed"
fi
