//! TLS on both sides: clients to the router, the router to its shards, with certificates that are checked.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair, SanType};
use tokio_postgres::config::SslMode;
use tokio_postgres_rustls::MakeRustlsConnect;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use keyway::demo::cluster::{Auth, Cluster, ClusterOptions};

use crate::gate::Gate;
use crate::harness::{PASSWORD, Router, eventually};

const SHARD_PASSWORD: &str = "shard secret";

pub(crate) struct Certificate {
    pub(crate) chain: String,
    pub(crate) key: String,
    der: CertificateDer<'static>,
}

/// One that signs itself, for this machine.
pub(crate) fn certificate() -> Certificate {
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
    let here = IpAddr::V4(Ipv4Addr::LOCALHOST);
    params.subject_alt_names.push(SanType::IpAddress(here));
    let key = KeyPair::generate().expect("a key");
    let certificate = params.self_signed(&key).expect("a certificate");
    Certificate {
        chain: certificate.pem(),
        key: key.serialize_pem(),
        der: certificate.der().clone(),
    }
}

struct Secured {
    _cluster: Cluster,
    gate: Gate,
    router: Router,
    certificate: Certificate,
    _files: tempfile::TempDir,
}

fn secured() -> Secured {
    let certificate = certificate();
    let cluster = Cluster::start(&ClusterOptions {
        settings: &[("ssl", "on")],
        auth: Auth::Scram {
            password: SHARD_PASSWORD,
        },
        files: &[
            ("server.crt", certificate.chain.as_bytes()),
            ("server.key", certificate.key.as_bytes()),
        ],
        ..Default::default()
    })
    .expect("a shard with TLS");
    let gate = Gate::in_front_of(cluster.port());
    let files = tempfile::tempdir().expect("a directory");
    let path = |name: &str, text: &str| {
        let path = files.path().join(name);
        std::fs::write(&path, text).expect("write");
        path.to_string_lossy().into_owned()
    };
    let (chain, key) = (
        path("chain.pem", &certificate.chain),
        path("key.pem", &certificate.key),
    );
    let router = Router::start(&format!(
        "workers = 1\nserver_ca = \"{chain}\"\n[tls]\nmode = \"require\"\ncert = \"{chain}\"\nkey = \"{key}\"\n\
         [users.app]\npassword = \"{PASSWORD}\"\n\
         [shards.only]\nprimary = \"postgres://postgres:{}@127.0.0.1:{}/postgres?sslmode=verify-full\"\n\
         [databases.app]\nkeyspaces = [\"main\"]\n[keyspaces.main]\nshards = [\"only\"]\n[pool]\nsize = 2\n",
        SHARD_PASSWORD.replace(' ', "%20"),
        gate.port
    ));
    Secured {
        _cluster: cluster,
        gate,
        router,
        certificate,
        _files: files,
    }
}

async fn connect(
    secured: &Secured,
    trusted: &Certificate,
    mode: SslMode,
) -> Result<tokio_postgres::Client, tokio_postgres::Error> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.der.clone()).expect("a root");
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let (client, connection) = tokio_postgres::Config::new()
        .host("127.0.0.1")
        .port(secured.router.port)
        .user("app")
        .password(PASSWORD)
        .dbname("app")
        .ssl_mode(mode)
        .connect(MakeRustlsConnect::new(tls))
        .await?;
    tokio::spawn(connection);
    Ok(client)
}

/// Bytes that the kernel holds on their way to this port of this machine.
fn on_their_way_to(port: u16) -> u64 {
    let table = std::fs::read_to_string("/proc/net/tcp").expect("the kernel's table");
    table
        .lines()
        .skip(1)
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let (_, remote) = fields.get(2)?.split_once(':')?;
            let (waiting, _) = fields.get(4)?.split_once(':')?;
            (u16::from_str_radix(remote, 16) == Ok(port))
                .then(|| u64::from_str_radix(waiting, 16).ok())?
        })
        .sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_sides_are_encrypted_and_checked() {
    let secured = secured();
    let client = connect(&secured, &secured.certificate, SslMode::Require)
        .await
        .expect("a login by TLS and SCRAM with channel binding");
    let row = client
        .query_one(
            "select ssl, version from pg_stat_ssl where pid = pg_backend_pid()",
            &[],
        )
        .await
        .expect("a row");
    assert!(row.get::<_, bool>(0), "the way to the shard is encrypted");
    // Another certificate is not trusted, and without TLS nobody gets in.
    assert!(
        connect(&secured, &certificate(), SslMode::Require)
            .await
            .is_err()
    );
    assert!(
        connect(&secured, &secured.certificate, SslMode::Disable)
            .await
            .is_err()
    );
    // Much in both directions.
    let large = "x".repeat(20_000_000);
    let row = client
        .query_one("select length($1), $1", &[&large])
        .await
        .expect("a large value");
    assert_eq!(row.get::<_, i32>(0), 20_000_000);
    assert!(row.get::<_, String>(1) == large, "the value comes back");
}

/// The last part of a request is inside TLS when the socket takes no more: it must go as soon as the socket does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_stops_reading_gets_the_rest_later() {
    let secured = secured();
    let client = connect(&secured, &secured.certificate, SslMode::Require)
        .await
        .expect("a login");
    client
        .simple_query("select 1")
        .await
        .expect("a server at hand");
    for length in [3_900_000, 4_000_000, 4_100_000, 4_260_000, 6_000_000] {
        secured.gate.hold_requests();
        let text = format!("select length('{}')", "x".repeat(length));
        let answer = client.simple_query(&text);
        let gate = &secured.gate;
        let stalls = async {
            tokio::task::block_in_place(|| {
                let mut last = 0;
                eventually("the router can send no more", || {
                    let waiting = on_their_way_to(gate.port);
                    let stalled = waiting > 0 && waiting == last;
                    last = waiting;
                    stalled.then_some(())
                });
                gate.release();
            });
        };
        let (answer, ()) = tokio::join!(answer, stalls);
        let rows = answer.expect("the rest was sent");
        let told = rows.iter().any(|m| match m {
            tokio_postgres::SimpleQueryMessage::Row(row) => {
                row.get(0) == Some(length.to_string().as_str())
            }
            _ => false,
        });
        assert!(told, "{length} bytes");
    }
}
