//! Password exchanges, against the RFCs' examples and against clients that are not ours.

use crate::config::ScramVerifier;
use crate::wire::auth::{
    ITERATIONS, Looks, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramChallenge, ScramError, ScramServer,
    Verifier, md5_matches, md5_response, md5_stored, mechanisms, tls_server_end_point,
};
use crate::wire::error::{ClientError, SqlState};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{ChannelBinding, ScramSha256};
use sha2::{Digest, Sha256, Sha384};

const NONCE: [u8; 18] = *b"eighteen bytes now";

fn verifier() -> Verifier {
    Verifier::from_password(b"secret", b"0123456789abcdef", ITERATIONS)
}

/// Lets a client that is not ours log in.
fn log_in(
    verifier: Verifier,
    password: &[u8],
    mechanism: &str,
    client: ChannelBinding,
    server: Option<&[u8]>,
) -> Result<(), ScramError> {
    let mut client = ScramSha256::new(password, client);
    let server = ScramServer::new(verifier, NONCE, server);
    let challenge = server.first(mechanism, client.message())?;
    client.update(challenge.message()).unwrap();
    let outcome = challenge.finish(client.message())?;
    client.finish(&outcome).unwrap();
    Ok(())
}

#[test]
fn the_example_of_rfc_7677() {
    let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
    let verifier = Verifier::from_password(b"pencil", &salt, 4096);
    let server = ScramServer::with_nonce_text(verifier, "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0");
    let challenge = server
        .first(SCRAM_SHA_256, b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO")
        .unwrap();
    assert_eq!(
        challenge.message(),
        b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
    );
    let outcome = challenge.finish(
        b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
    );
    assert_eq!(
        outcome.unwrap(),
        b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
    );
}

#[test]
fn the_right_password_lets_in_and_a_wrong_one_does_not() {
    let none = ChannelBinding::unsupported;
    assert_eq!(
        log_in(verifier(), b"secret", SCRAM_SHA_256, none(), None),
        Ok(())
    );
    let wrong = log_in(verifier(), b"Secret", SCRAM_SHA_256, none(), None);
    assert_eq!(wrong, Err(ScramError::WrongPassword));
    assert_eq!(
        ScramError::WrongPassword.sqlstate(),
        SqlState::INVALID_PASSWORD
    );
    // The client could bind, and we truly cannot.
    let unrequested = ChannelBinding::unrequested();
    assert_eq!(
        log_in(verifier(), b"secret", SCRAM_SHA_256, unrequested, None),
        Ok(())
    );
}

#[test]
fn passwords_are_normalised_where_they_can_be() {
    // A no-break space is a space; the ligature ﬁ is fi.
    let verifier = || Verifier::from_password("\u{fb01}x\u{a0}y".as_bytes(), b"salt", 2);
    for password in ["fix y", "\u{fb01}x\u{a0}y"] {
        let client = ChannelBinding::unsupported();
        let outcome = log_in(verifier(), password.as_bytes(), SCRAM_SHA_256, client, None);
        assert_eq!(outcome, Ok(()), "{password}");
    }
    // What cannot be is taken as it is: a control character, bytes that are no UTF-8.
    for password in [&b"a\x07b"[..], b"\xff\xfe"] {
        let verifier = Verifier::from_password(password, b"salt", 2);
        let client = ChannelBinding::unsupported();
        assert_eq!(
            log_in(verifier, password, SCRAM_SHA_256, client, None),
            Ok(())
        );
    }
}

#[test]
fn a_verifier_of_postgres_lets_in() {
    let text = postgres_protocol::password::scram_sha_256(b"secret");
    let read = ScramVerifier::parse(&text).unwrap();
    let verifier = Verifier::new(read.iterations, read.salt, read.stored_key, read.server_key);
    assert_eq!(format!("{verifier:?}"), "Verifier { iterations: 4096, .. }");
    let client = ChannelBinding::unsupported();
    assert_eq!(
        log_in(verifier, b"secret", SCRAM_SHA_256, client, None),
        Ok(())
    );
}

#[test]
fn nobody_is_led_through_the_same_conversation() {
    let message = b"n,,n=,r=abc";
    let first = |verifier: Verifier| {
        let server = ScramServer::new(verifier, NONCE, None);
        server.first(SCRAM_SHA_256, message).unwrap()
    };
    let asked = |user| {
        first(Verifier::mock(b"our secret", user, &[]))
            .message()
            .to_vec()
    };
    // The same salt every time one asks, another for another name, and the same form as for a user.
    assert_eq!(asked("ann"), asked("ann"));
    assert_ne!(asked("ann"), asked("bob"));
    assert_eq!(asked("ann").len(), first(verifier()).message().len());
    let client = ChannelBinding::unsupported();
    let mock = Verifier::mock(b"our secret", "ann", &[]);
    let outcome = log_in(mock, b"anything", SCRAM_SHA_256, client, None);
    assert_eq!(outcome, Err(ScramError::WrongPassword));
}

#[test]
fn nobody_looks_like_one_of_the_users() {
    let users = [
        Verifier::from_password(b"secret", b"salt", 7),
        Verifier::from_password(b"secret", &[1; 100], 2),
        verifier(),
    ];
    let looks = users.each_ref().map(Verifier::looks);
    let mock = |name: &str| Verifier::mock(b"our secret", name, &looks);
    let names: Vec<String> = (0..300).map(|n| format!("user {n}")).collect();
    for looks in looks {
        let alike = names.iter().filter(|name| mock(name).looks() == looks);
        assert!((60..140).contains(&alike.count()), "{looks:?}");
    }
    assert!(names.iter().all(|name| looks.contains(&mock(name).looks())));
    assert_eq!(Verifier::mock(b"s", "ann", &[]).looks(), Looks::default());
}

#[test]
fn channel_binding_holds_client_and_certificate_together() {
    let bound = |hash: &[u8]| ChannelBinding::tls_server_end_point(hash.to_vec());
    let ours = Some(&b"our hash"[..]);
    assert_eq!(mechanisms(ours), [SCRAM_SHA_256_PLUS, SCRAM_SHA_256]);
    assert_eq!(mechanisms(None), [SCRAM_SHA_256]);
    let log_in =
        |mechanism, client, server| log_in(verifier(), b"secret", mechanism, client, server);
    assert_eq!(log_in(SCRAM_SHA_256_PLUS, bound(b"our hash"), ours), Ok(()));
    // A client that has no channel binding may still come in without.
    assert_eq!(
        log_in(SCRAM_SHA_256, ChannelBinding::unsupported(), ours),
        Ok(())
    );
    // Somebody sits in between, with another certificate, or hides that we can bind.
    let between = log_in(SCRAM_SHA_256_PLUS, bound(b"their hash"), ours);
    assert_eq!(between, Err(ScramError::ChannelBindingMismatch));
    let hidden = log_in(SCRAM_SHA_256, ChannelBinding::unrequested(), ours);
    assert_eq!(hidden, Err(ScramError::ChannelBindingNegotiation));
    // The mechanism and what the message says of it must agree, and must have been offered.
    let malformed = |outcome| matches!(outcome, Err(ScramError::Malformed { .. }));
    assert!(malformed(log_in(SCRAM_SHA_256, bound(b"our hash"), ours)));
    assert!(malformed(log_in(
        SCRAM_SHA_256_PLUS,
        ChannelBinding::unsupported(),
        ours
    )));
    let unoffered = log_in(SCRAM_SHA_256_PLUS, bound(b"our hash"), None);
    assert_eq!(unoffered, Err(ScramError::Mechanism));
    let unknown = log_in("SCRAM-SHA-1", ChannelBinding::unsupported(), ours);
    assert_eq!(unknown, Err(ScramError::Mechanism));
}

#[test]
fn bad_first_messages_are_refused() {
    fn check(message: &[u8], sqlstate: SqlState) {
        let server = ScramServer::new(verifier(), NONCE, None);
        let error = server.first(SCRAM_SHA_256, message).err().unwrap();
        assert_eq!(error.sqlstate(), sqlstate, "{error:?}");
    }
    for malformed in [
        &b""[..],
        b"n",
        b"n,",
        b"n,,",
        b"n,,n=",
        b"n,,r=abc",
        b"n,,n=,r=",
        b"n,,n=,r=a b",
        b"n,,n=,r=\xc3\xa4",
        b"n,,n=,r=a\xff",
        b"n,,n=,r=abc\0",
        b"n,,n=,r=abc,",
        b"n,,n=,r=abc,x",
        b"n,b=x,n=,r=abc",
        b"x,,n=,r=abc",
        b"p=tls-unique,,n=,r=abc",
    ] {
        check(malformed, SqlState::PROTOCOL_VIOLATION);
    }
    check(b"n,a=ann,n=,r=abc", SqlState::FEATURE_NOT_SUPPORTED);
    check(b"n,,m=x,n=,r=abc", SqlState::FEATURE_NOT_SUPPORTED);
    let server = ScramServer::new(verifier(), NONCE, None);
    assert!(
        server
            .first(SCRAM_SHA_256, b"n,,n=whoever,r=abc,x=1,y=2")
            .is_ok()
    );
    let server = ScramServer::new(verifier(), NONCE, Some(b"hash"));
    let tls_unique = server
        .first(SCRAM_SHA_256_PLUS, b"p=tls-unique,,n=,r=abc")
        .err();
    assert_eq!(tls_unique, Some(ScramError::ChannelBindingType));
}

#[test]
fn bad_last_messages_are_refused() {
    fn challenge() -> ScramChallenge {
        let server = ScramServer::new(verifier(), NONCE, None);
        server.first(SCRAM_SHA_256, b"n,,n=,r=abc").unwrap()
    }
    fn check(message: &str, error: ScramError) {
        assert_eq!(
            challenge().finish(message.as_bytes()),
            Err(error),
            "{message}"
        );
    }
    let nonce = format!("abc{}", STANDARD.encode(NONCE));
    let proof = STANDARD.encode([0; 32]);
    check(
        &format!("c=biws,r={nonce},p={proof}"),
        ScramError::WrongPassword,
    );
    check(
        &format!("c=biws,r={nonce},x=1,p={proof}"),
        ScramError::WrongPassword,
    );
    check(&format!("c=biws,r=abc,p={proof}"), ScramError::Nonce);
    check(&format!("c=biws,r={nonce}x,p={proof}"), ScramError::Nonce);
    check(
        &format!("c=eSws,r={nonce},p={proof}"),
        ScramError::ChannelBindingChanged,
    );
    for malformed in [
        String::new(),
        "c=biws".to_owned(),
        format!("c=biws,r={nonce}"),
        format!("c=?,r={nonce},p={proof}"),
        format!("r={nonce},c=biws,p={proof}"),
        format!("c=biws,r={nonce},?,p={proof}"),
        format!("c=biws,r={nonce},p=c2hvcnQ="),
        format!("c=biws,r={nonce},p={proof},x=1"),
        format!("c=biws,r={nonce},p={proof}\0"),
    ] {
        let error = challenge().finish(malformed.as_bytes()).unwrap_err();
        assert!(matches!(error, ScramError::Malformed { .. }), "{malformed}");
        assert!(error.detail().is_some());
    }
}

#[test]
fn md5_answers_are_those_of_other_clients() {
    let stored = md5_stored("ann", b"secret");
    assert_eq!(stored, postgres_protocol::password::md5(b"secret", "ann"));
    let answer = md5_hash(b"ann", b"secret", *b"salt");
    assert_eq!(md5_response(&stored, *b"salt"), answer);
    assert!(md5_matches(&stored, *b"salt", answer.as_bytes()));
    assert!(!md5_matches(&stored, *b"tlas", answer.as_bytes()));
    assert!(!md5_matches(&stored, *b"salt", b""));
    assert!(!md5_matches(
        &stored,
        *b"salt",
        md5_hash(b"ann", b"other", *b"salt").as_bytes()
    ));
}

fn certificate(algorithm: &'static rcgen::SignatureAlgorithm) -> Vec<u8> {
    let key = rcgen::KeyPair::generate_for(algorithm).unwrap();
    let names = vec!["localhost".to_owned()];
    let certificate = rcgen::CertificateParams::new(names)
        .unwrap()
        .self_signed(&key)
        .unwrap();
    certificate.der().to_vec()
}

#[test]
fn certificates_are_hashed_with_the_function_of_their_signature() {
    let sha256 = certificate(&rcgen::PKCS_ECDSA_P256_SHA256);
    assert_eq!(
        tls_server_end_point(&sha256),
        Some(Sha256::digest(&sha256).to_vec())
    );
    let sha384 = certificate(&rcgen::PKCS_ECDSA_P384_SHA384);
    assert_eq!(
        tls_server_end_point(&sha384),
        Some(Sha384::digest(&sha384).to_vec())
    );
    assert_eq!(
        tls_server_end_point(&certificate(&rcgen::PKCS_ED25519)),
        None
    );
    for end in 0..sha256.len() {
        assert_eq!(tls_server_end_point(&sha256[..end]), None);
    }
    assert_eq!(tls_server_end_point(b"\x30\x84\xff\xff\xff\xff"), None);
}
