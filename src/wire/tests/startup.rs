//! What a connection begins with.

use crate::wire::backend::NegotiateProtocolVersion;
use crate::wire::error::{ClientError, SqlState};
use crate::wire::frame::next_frame;
use crate::wire::frontend;
use crate::wire::startup::{
    Startup, StartupError, key_len, negotiate, negotiate_protocol_version, parameter,
    parse_options, starts_tls,
};
use bytes::{BufMut, Bytes, BytesMut};
use postgres_protocol::message::frontend as theirs;

fn packet(code: u32, rest: &[u8]) -> BytesMut {
    let mut packet = BytesMut::new();
    packet.put_u32(u32::try_from(8 + rest.len()).unwrap());
    packet.put_u32(code);
    packet.put_slice(rest);
    packet
}

const V3: u32 = 3 << 16;

#[test]
fn requests_there_and_back() {
    let mut ssl = BytesMut::new();
    frontend::ssl_request(&mut ssl);
    let mut expected = BytesMut::new();
    theirs::ssl_request(&mut expected);
    assert_eq!(ssl, expected);
    assert_eq!(Startup::parse(&ssl), Ok(Some((Startup::Ssl, 8))));
    assert_eq!(
        Startup::parse(&packet(80_877_104, b"")),
        Ok(Some((Startup::Gss, 8)))
    );

    let mut cancel = BytesMut::new();
    frontend::cancel_request(&mut cancel, 7, &9u32.to_be_bytes());
    let mut expected = BytesMut::new();
    theirs::cancel_request(7, 9, &mut expected);
    assert_eq!(cancel, expected);
    let key = Bytes::from_static(b"\0\0\0\x09");
    assert_eq!(
        Startup::parse(&cancel),
        Ok(Some((Startup::Cancel { pid: 7, key }, 16)))
    );
}

#[test]
fn cancel_keys_have_4_to_256_bytes() {
    for (length, good) in [
        (0, false),
        (3, false),
        (4, true),
        (32, true),
        (256, true),
        (257, false),
    ] {
        let mut cancel = BytesMut::new();
        frontend::cancel_request(&mut cancel, 7, &vec![9; length]);
        let read = Startup::parse(&cancel);
        assert_eq!(read.is_ok(), good, "{length}");
        assert!(!format!("{read:?}").contains('9'));
    }
}

#[test]
fn startups_there_and_back() {
    let parameters = [
        ("user", "ann"),
        ("database", "app"),
        ("application_name", ""),
    ];
    let mut ours = BytesMut::new();
    frontend::startup(&mut ours, 0, parameters).unwrap();
    let (start, length) = Startup::parse(&ours).unwrap().unwrap();
    assert_eq!(length, ours.len());
    let Startup::Start {
        minor: 0,
        parameters: read,
    } = &start
    else {
        panic!("not a startup")
    };
    assert!(
        read.iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .eq(parameters)
    );
    assert_eq!(parameter(read, "database"), Some("app"));
    assert_eq!(parameter(read, "options"), None);
    assert!(!format!("{start:?}").contains("ann"));

    let mut theirs_too = BytesMut::new();
    theirs::startup_message([("user", "ann")], &mut theirs_too).unwrap();
    let (start, _) = Startup::parse(&theirs_too).unwrap().unwrap();
    let Startup::Start { parameters, .. } = start else {
        panic!("not a startup")
    };
    assert_eq!(parameter(&parameters, "user"), Some("ann"));
}

#[test]
fn a_packet_is_read_when_it_is_whole_and_what_follows_stays() {
    let mut stream = BytesMut::new();
    frontend::startup(&mut stream, 2, [("user", "ann")]).unwrap();
    let whole = stream.len();
    for arrived in 0..whole {
        assert_eq!(Startup::parse(&stream[..arrived]), Ok(None));
    }
    frontend::query(&mut stream, "SELECT 1").unwrap();
    let (start, length) = Startup::parse(&stream).unwrap().unwrap();
    assert_eq!(length, whole);
    assert!(matches!(start, Startup::Start { minor: 2, .. }));
}

#[test]
fn the_last_of_two_values_counts() {
    let twice = packet(V3, b"user\0a\0user\0b\0\0");
    let Some((Startup::Start { parameters, .. }, _)) = Startup::parse(&twice).unwrap() else {
        panic!("not a startup")
    };
    assert_eq!(parameter(&parameters, "user"), Some("b"));
}

#[test]
fn bad_startups_are_refused_as_postgres_does() {
    fn check(bytes: &[u8], sqlstate: SqlState, message: &str) {
        let error = Startup::parse(bytes).unwrap_err();
        assert_eq!(
            (error.sqlstate(), error.to_string().as_str()),
            (sqlstate, message)
        );
    }
    let protocol = SqlState::PROTOCOL_VIOLATION;
    let length = "invalid length of startup packet";
    check(b"GET / HTTP/1.1\r\n", protocol, length);
    check(
        b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03",
        protocol,
        length,
    );
    assert!(starts_tls(0x16));
    check(b"\0\0\0\0", protocol, length);
    check(b"\0\0\0\x07", protocol, length);
    check(b"\xff\xff\xff\xff", protocol, length);
    check(b"\x80\0\0\0", protocol, length);
    // 10,000 bytes after the length and not one more.
    check(&10_005u32.to_be_bytes(), protocol, length);
    assert_eq!(Startup::parse(&10_004u32.to_be_bytes()), Ok(None));
    check(
        &packet(80_877_103, b"x"),
        protocol,
        "invalid length of SSL request packet",
    );
    check(
        &packet(80_877_104, b"x"),
        protocol,
        "invalid length of GSSAPI encryption request packet",
    );
    check(
        &packet(80_877_102, b"1234567"),
        protocol,
        "invalid length of cancel request packet",
    );

    let layout = "invalid startup packet layout: expected terminator as last byte";
    for rest in [
        &b""[..],
        b"user",
        b"user\0",
        b"user\0ann",
        b"user\0ann\0",
        b"user\0ann\0\0x",
        b"user\0ann\0\0\0",
    ] {
        check(&packet(V3, rest), protocol, layout);
    }
    let version = "unsupported frontend protocol 2.0: server supports 3.0 to 3.2";
    check(
        &packet(2 << 16, b""),
        SqlState::FEATURE_NOT_SUPPORTED,
        version,
    );
    assert!(Startup::parse(&packet(4 << 16, b"")).is_err());
    let nobody = "no PostgreSQL user name specified in startup packet";
    check(
        &packet(V3, b"\0"),
        SqlState::INVALID_AUTHORIZATION_SPECIFICATION,
        nobody,
    );
    check(
        &packet(V3, b"user\0\0\0"),
        SqlState::INVALID_AUTHORIZATION_SPECIFICATION,
        nobody,
    );
    check(
        &packet(V3, b"user\0\xff\0\0"),
        SqlState::CHARACTER_NOT_IN_REPERTOIRE,
        "invalid byte sequence for encoding \"UTF8\": 0xff",
    );
}

#[test]
fn only_those_who_speak_the_protocol_are_answered() {
    assert!(!StartupError::Length.is_told());
    assert!(StartupError::Layout.is_told());
    assert!(StartupError::NoUser.is_told());
}

#[test]
fn newer_versions_and_unknown_options_are_negotiated_down() {
    let parameters = |names: &[&str]| -> Vec<(String, String)> {
        names
            .iter()
            .map(|name| ((*name).to_owned(), "x".to_owned()))
            .collect()
    };
    let plain = parameters(&["user", "_pq", "_pq_x"]);
    for (asked, spoken, told) in [
        (0, 0, false),
        (1, 1, false),
        (2, 2, false),
        (3, 2, true),
        (9_999, 2, true),
    ] {
        let negotiated = negotiate(asked, &plain);
        assert_eq!((negotiated.minor, negotiated.told), (spoken, told));
        assert!(negotiated.unsupported.is_empty());
    }
    let greedy = parameters(&["user", "_pq_.a", "_pq_.b"]);
    let negotiated = negotiate(0, &greedy);
    assert!(negotiated.told);
    let mut out = BytesMut::new();
    negotiate_protocol_version(&mut out, &negotiated);
    let frame = next_frame(&out, 100).unwrap().unwrap();
    assert_eq!((frame.tag, frame.len), (b'v', out.len()));
    let read = NegotiateProtocolVersion::decode(frame.body(&out)).unwrap();
    assert_eq!(
        (read.version, read.options),
        (V3, vec!["_pq_.a".to_owned(), "_pq_.b".to_owned()])
    );
    assert!(NegotiateProtocolVersion::decode(b"\0\x03\0\x02\x7f\xff\xff\xff").is_err());
    assert!(NegotiateProtocolVersion::decode(b"\0\x03\0\x02\xff\xff\xff\xff").is_err());
    assert_eq!((key_len(0), key_len(1), key_len(2)), (4, 4, 32));
}

#[test]
fn options_set_parameters() {
    fn check(options: &str, settings: &[(&str, &str)]) {
        let read = parse_options(options).unwrap();
        let read: Vec<_> = read
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        assert_eq!(read, settings, "{options}");
    }
    check("", &[]);
    check("  \t\n", &[]);
    check("-c a=1", &[("a", "1")]);
    check("-ca=1", &[("a", "1")]);
    check("--a=1", &[("a", "1")]);
    check(
        "  -c\ta=1   --b=2 -c c=3 ",
        &[("a", "1"), ("b", "2"), ("c", "3")],
    );
    check(r"-c search_path=a,\ b", &[("search_path", "a, b")]);
    check(r"--a=x\\y\ ", &[("a", r"x\y ")]);
    check(r"--a=x\", &[("a", "x")]);
    check("--a=b=c", &[("a", "b=c")]);
    check("--a=", &[("a", "")]);
    check("--search-path=my-schema", &[("search_path", "my-schema")]);
    check("-c app.user=ä", &[("app.user", "ä")]);
    check("-c geqo=off -c geqo=on", &[("geqo", "off"), ("geqo", "on")]);
}

#[test]
fn other_options_are_refused_without_their_values() {
    fn check(options: &str, message: &str) {
        let error = parse_options(options).unwrap_err();
        assert_eq!(error.to_string(), message);
        assert_eq!(error.sqlstate(), SqlState::SYNTAX_ERROR);
        assert!(error.hint().is_some());
    }
    check("-c a", "-c a requires a value");
    check("-c", "-c  requires a value");
    check("--a", "--a requires a value");
    check("-e", "invalid command-line argument for server process: -e");
    check(
        "-S 100",
        "invalid command-line argument for server process: -S",
    );
    check(
        "a=secret",
        "invalid command-line argument for server process: a",
    );
    check(
        "--=secret",
        "invalid command-line argument for server process: --",
    );
    check(
        "-c a=1 b",
        "invalid command-line argument for server process: b",
    );
}
