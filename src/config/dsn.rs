//! `postgres://user:password@host:port/database?sslmode=…` as a [`Dsn`].

use crate::config::values::{Dsn, Secret, ServerTls};
use percent_encoding::percent_decode_str;

/// The names of libpq's sslmode that are understood.
pub(super) const TLS_MODES: [(&str, ServerTls); 5] = [
    ("disable", ServerTls::Disable),
    ("prefer", ServerTls::Prefer),
    ("require", ServerTls::Require),
    ("verify-ca", ServerTls::VerifyCa),
    ("verify-full", ServerTls::VerifyFull),
];

/// Reads a DSN; `tls` is what its shard says, which `sslmode` must not contradict. Errors never repeat the DSN, since
/// it may hold a password.
pub(super) fn parse(text: &str, tls: Option<ServerTls>) -> Result<Dsn, String> {
    let rest = text
        .strip_prefix("postgres://")
        .or_else(|| text.strip_prefix("postgresql://"))
        .ok_or("a URL such as \"postgres://user:password@host:5432/database\" is wanted here")?;
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
    let (login, place) = authority
        .rsplit_once('@')
        .ok_or("the URL names no user: postgres://USER:password@host:5432/database")?;
    let (user, password) = match login.split_once(':') {
        Some((user, password)) => (decode(user)?, Some(decode(password)?)),
        None => (decode(login)?, None),
    };
    let (mut host, port) = host_and_port(place)?;
    let mut port = port;
    let mut sslmode = None;
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair
            .split_once('=')
            .ok_or("a parameter after `?` has no value")?;
        let value = decode(value)?;
        match key {
            "sslmode" => {
                let mode = TLS_MODES
                    .iter()
                    .find(|(name, _)| *name == value)
                    .map(|(_, mode)| *mode);
                sslmode =
                    Some(mode.ok_or(
                        "sslmode is one of disable, prefer, require, verify-ca, verify-full",
                    )?);
            }
            "host" => host = value,
            "port" => port = parse_port(&value)?,
            other => {
                return Err(format!(
                    "parameter {other:?} is not understood; allowed: sslmode, host, port (certificate authorities: server_ca)"
                ));
            }
        }
    }
    if host.is_empty() {
        return Err("the URL names no host".into());
    }
    if host.contains(',') {
        return Err("the URL names several hosts; list replicas under `replicas`".into());
    }
    if user.is_empty() {
        return Err("the URL names no user".into());
    }
    let database = if database.is_empty() {
        user.clone()
    } else {
        decode(database)?
    };
    for (what, text) in [("user", &user), ("database", &database), ("host", &host)] {
        if text.contains('\0') {
            return Err(format!("the {what} holds a zero byte"));
        }
    }
    let tls = match (sslmode, tls) {
        (Some(mode), Some(said)) if mode != said => {
            return Err("sslmode contradicts the shard's `tls`".into());
        }
        (Some(mode), _) | (None, Some(mode)) => mode,
        (None, None) => ServerTls::default(),
    };
    if host.starts_with('/')
        && matches!(
            tls,
            ServerTls::Require | ServerTls::VerifyCa | ServerTls::VerifyFull
        )
    {
        return Err("a unix socket has no TLS".into());
    }
    Ok(Dsn {
        host,
        port,
        database,
        user,
        password: password.map(Secret::new),
        tls,
    })
}

fn decode(text: &str) -> Result<String, String> {
    let decoded = percent_decode_str(text)
        .decode_utf8()
        .map_err(|_| "the URL is not UTF-8 after percent-decoding")?;
    Ok(decoded.into_owned())
}

fn host_and_port(place: &str) -> Result<(String, u16), String> {
    if let Some(rest) = place.strip_prefix('[') {
        let (host, after) = rest.split_once(']').ok_or("the URL's `[` is not closed")?;
        let port = match after.strip_prefix(':') {
            Some(port) => parse_port(port)?,
            None if after.is_empty() => 5432,
            None => return Err("the URL goes on after `]`".into()),
        };
        return Ok((host.to_owned(), port));
    }
    match place.rsplit_once(':') {
        Some((host, port)) => Ok((decode(host)?, parse_port(port)?)),
        None => Ok((decode(place)?, 5432)),
    }
}

fn parse_port(text: &str) -> Result<u16, String> {
    text.parse()
        .ok()
        .filter(|port| *port != 0)
        .ok_or_else(|| "the port is a number from 1 to 65535".into())
}
