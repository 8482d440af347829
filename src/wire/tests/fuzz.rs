//! Anything at all, and valid messages with a few bytes changed, into every decoder: no panic, and no more memory than
//! a small multiple of the bytes that came. A walker sees the same however a stream is cut.

use crate::config::ScramVerifier;
use crate::wire::auth::{
    self, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramServer, Verifier, tls_server_end_point,
};
use crate::wire::backend::{self, Authentication, BackendKeyData, CopyResponse, Field};
use crate::wire::backend::{NegotiateProtocolVersion, Notification, TransactionStatus};
use crate::wire::error::ErrorFields;
use crate::wire::frame::{Walker, next_frame};
use crate::wire::frontend::{self, Format, Message, SaslInitialResponse, Target};
use crate::wire::startup::{Startup, negotiate, parse_options};
use bytes::BytesMut;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

const MAX: usize = 1 << 16;

/// Whether what was allocated for `items` of `size` bytes is in proportion to a body, in which an item takes `wire`.
fn bounded(capacity: usize, wire: usize, body: &[u8]) {
    // A SmallVec has room for 8 without allocating.
    assert!(
        capacity <= 8 || capacity * wire <= body.len(),
        "{capacity} for {} bytes",
        body.len()
    );
}

fn into_every_decoder(kind: u8, body: &[u8]) {
    match Message::decode(kind, body) {
        Ok(Message::Parse(parse)) => bounded(parse.types.capacity(), 4, body),
        Ok(Message::Bind(bind)) => {
            bounded(bind.parameters.capacity(), 4, body);
            let mut renamed = BytesMut::new();
            frontend::bind_renamed(&mut renamed, body, "statement", "portal").unwrap();
            let frame = next_frame(&renamed, usize::MAX).unwrap().unwrap();
            let again = frontend::Bind::decode(frame.body(&renamed)).unwrap();
            assert_eq!((again.statement, again.portal), ("statement", "portal"));
            assert!(again.parameters.iter().eq(bind.parameters.iter()));
            assert_eq!(again.result_formats, bind.result_formats);
        }
        Ok(Message::FunctionCall(call)) => bounded(call.arguments.capacity(), 4, body),
        _ => {}
    }
    let _ = SaslInitialResponse::decode(body);
    let _ = frontend::bind_renamed(&mut BytesMut::new(), body, "s", "p");

    if let Ok(fields) = backend::read_row_description(body) {
        bounded(fields.capacity(), 19, body);
        let mut out = BytesMut::new();
        backend::row_description(&mut out, fields.iter());
        assert_eq!(&out[5..], body);
    }
    if let Ok(types) = backend::read_parameter_description(body) {
        bounded(types.capacity(), 4, body);
    }
    let columns: Result<Vec<_>, _> = backend::columns(body).collect();
    if let Ok(columns) = columns {
        let mut out = BytesMut::new();
        backend::data_row(&mut out, columns.into_iter());
        assert_eq!(&out[5..], body);
    }
    if let Ok(tag) = backend::read_command_complete(body) {
        let _ = backend::rows_of(tag);
    }
    if let Ok(fields) = ErrorFields::parse(body) {
        let mut out = BytesMut::new();
        backend::error_response(&mut out, &fields);
        // Each byte that is no UTF-8 becomes three, and severity is written twice.
        assert!(out.len() <= 6 * body.len() + 32);
    }
    if let Ok(copy) = CopyResponse::decode(body) {
        bounded(copy.columns.capacity(), 2, body);
    }
    if let Ok(Authentication::Sasl(mechanisms)) = Authentication::decode(body) {
        assert!(mechanisms.iter().count() <= body.len());
    }
    let _ = TransactionStatus::decode(body);
    let _ = backend::read_parameter_status(body);
    let _ = BackendKeyData::decode(body);
    let _ = Notification::decode(body);
    let _ = NegotiateProtocolVersion::decode(body);
    let _ = next_frame(body, MAX);
    let _ = tls_server_end_point(body);
}

fn into_startup(packet: &[u8]) {
    if let Ok(Some((startup, length))) = Startup::parse(packet) {
        assert!(length <= packet.len() && length <= 10_004);
        if let Startup::Start { minor, parameters } = startup {
            let held: usize = parameters
                .iter()
                .map(|(n, v)| n.capacity() + v.capacity() + 2)
                .sum();
            assert!(held <= length);
            let _ = negotiate(minor, &parameters);
        }
    }
}

fn into_scram(message: &[u8]) {
    let verifier = || Verifier::mock(b"secret", "ann", &[]);
    for (mechanism, binding) in [
        (SCRAM_SHA_256, None),
        (SCRAM_SHA_256_PLUS, Some(&b"hash"[..])),
    ] {
        let server = ScramServer::new(verifier(), [7; auth::NONCE_LEN], binding);
        let _ = server.first(mechanism, message);
    }
    let server = ScramServer::new(verifier(), [7; auth::NONCE_LEN], None);
    let challenge = server.first(SCRAM_SHA_256, b"n,,n=,r=abc").unwrap();
    assert!(challenge.finish(message).is_err());
}

/// One valid message of each kind that has more than a tag, in both directions.
fn conversation() -> Vec<BytesMut> {
    fn message(write: impl FnOnce(&mut BytesMut)) -> BytesMut {
        let mut out = BytesMut::new();
        write(&mut out);
        out
    }
    let field = |name: &str| Field {
        name: name.to_owned(),
        table: 16_384,
        attribute: 1,
        type_oid: 23,
        type_len: 4,
        type_modifier: -1,
        format: Format::Text,
    };
    let fields = [field("id"), field("name"), field("ä")];
    let values = [Some(&b"42"[..]), None, Some(&b"text"[..])];
    let formats = [Format::Binary, Format::Text, Format::Text];
    let copy = CopyResponse {
        format: Format::Text,
        columns: vec![Format::Text; 3],
    };
    let mut error = ErrorFields::error(crate::wire::error::SqlState::SYNTAX_ERROR, "syntax");
    error = error.detail("detail").hint("hint").position(7);
    vec![
        message(|out| frontend::parse(out, "s", "SELECT $1, $2", &[23, 25]).unwrap()),
        message(|out| {
            frontend::bind(out, "p", "s", &formats, values.into_iter(), &formats[..1]).unwrap();
        }),
        message(|out| frontend::describe(out, Target::Statement, "s").unwrap()),
        message(|out| frontend::close(out, Target::Portal, "p").unwrap()),
        message(|out| frontend::execute(out, "p", 100).unwrap()),
        message(|out| frontend::query(out, "SELECT 'ä'").unwrap()),
        message(|out| frontend::copy_fail(out, "why").unwrap()),
        message(|out| frontend::sasl_initial_response(out, "SCRAM-SHA-256", b"n,,n=,r=x").unwrap()),
        message(|out| {
            out.extend_from_slice(
                b"F\0\0\0\x19\0\0\x04\x05\0\x01\0\x01\0\x02\0\0\0\x01x\xff\xff\xff\xff\0\x01",
            )
        }),
        message(|out| backend::row_description(out, fields.iter())),
        message(|out| backend::parameter_description(out, &[23, 25, 16_400])),
        message(|out| backend::data_row(out, values.into_iter())),
        message(|out| backend::command_complete(out, "INSERT 0 1")),
        message(|out| backend::error_response(out, &error)),
        message(|out| backend::copy_in_response(out, &copy)),
        message(|out| backend::authentication_sasl(out, &["SCRAM-SHA-256"])),
        message(|out| backend::parameter_status(out, "TimeZone", "UTC")),
        message(|out| backend::backend_key_data(out, 1, &[1; 32])),
        message(|out| {
            let notification = Notification {
                pid: 1,
                channel: "c",
                payload: "p",
            };
            backend::notification_response(out, &notification);
        }),
        message(|out| backend::ready_for_query(out, TransactionStatus::Idle)),
        message(|out| out.extend_from_slice(b"v\0\0\0\x12\0\x03\0\x02\0\0\0\x01_pq_.x\0")),
    ]
}

/// What happens to a valid message on its way.
#[derive(Clone, Debug)]
enum Mutation {
    Set(Index, u8),
    Flip(Index, u8),
    Cut(Index),
    Insert(Index, Vec<u8>),
    Remove(Index),
    /// Two bytes that look like a count or a half of a length.
    Count(Index, u16),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let at = any::<Index>;
    prop_oneof![
        (at(), any::<u8>()).prop_map(|(at, byte)| Mutation::Set(at, byte)),
        (at(), 0..8u8).prop_map(|(at, bit)| Mutation::Flip(at, bit)),
        at().prop_map(Mutation::Cut),
        (at(), vec(any::<u8>(), 1..6)).prop_map(|(at, bytes)| Mutation::Insert(at, bytes)),
        at().prop_map(Mutation::Remove),
        (
            at(),
            prop_oneof![Just(0), Just(1), Just(0x7fff), Just(0x8000), Just(0xffff)]
        )
            .prop_map(|(at, count)| Mutation::Count(at, count)),
    ]
}

fn mutate(bytes: &mut Vec<u8>, mutations: &[Mutation]) {
    for mutation in mutations {
        if bytes.is_empty() {
            return;
        }
        let length = bytes.len();
        match mutation {
            Mutation::Set(at, byte) => bytes[at.index(length)] = *byte,
            Mutation::Flip(at, bit) => bytes[at.index(length)] ^= 1 << bit,
            Mutation::Cut(at) => bytes.truncate(at.index(length)),
            Mutation::Insert(at, inserted) => {
                let at = at.index(length);
                bytes.splice(at..at, inserted.iter().copied());
            }
            Mutation::Remove(at) => {
                bytes.remove(at.index(length));
            }
            Mutation::Count(at, count) => {
                let at = at.index(length);
                for (byte, count) in bytes[at..].iter_mut().zip(count.to_be_bytes()) {
                    *byte = count;
                }
            }
        }
    }
}

/// A stop as the walker tells it, by its place in the whole stream; how many rows were passed; what ended the walk.
#[derive(Debug, PartialEq)]
struct Walk {
    stops: Vec<(u8, Vec<u8>, usize, usize)>,
    passed: u64,
    released: Vec<u8>,
    broken: bool,
}

/// Walks as a relay does: read a chunk, stop at the stops, write out what is released, keep the rest.
fn walk(mut walker: Walker, stream: &[u8], cuts: &[usize], release_at_stops: bool) -> Walk {
    let mut seen = Walk {
        stops: Vec::new(),
        passed: 0,
        released: Vec::new(),
        broken: false,
    };
    let mut buffer: Vec<u8> = Vec::new();
    let mut from = 0;
    let ends = cuts.iter().copied().chain([stream.len()]);
    'stream: for end in ends {
        buffer.extend_from_slice(&stream[from..end]);
        from = end;
        loop {
            match walker.next(&buffer) {
                Ok(Some(stop)) => {
                    let base = seen.released.len();
                    let body = stop.body.to_vec();
                    seen.stops
                        .push((stop.tag, body, base + stop.start, base + stop.end));
                    if !release_at_stops {
                        continue;
                    }
                    let done = walker.release();
                    seen.released.extend(buffer.drain(..done));
                }
                Ok(None) => break,
                Err(_) => {
                    seen.broken = true;
                    break 'stream;
                }
            }
        }
        let done = walker.release();
        seen.released.extend(buffer.drain(..done));
        // What is kept is a piece of one stop, so a relay's buffer is bounded.
        assert!(buffer.len() < MAX);
    }
    let done = walker.release();
    seen.released.extend(buffer.drain(..done));
    seen.passed = walker.passed();
    seen
}

/// The same by looking at whole frames only.
fn stops_by_frames(stream: &[u8], bulk: &[u8]) -> Vec<(u8, Vec<u8>, usize, usize)> {
    let mut stops = Vec::new();
    let mut at = 0;
    while let Ok(Some(frame)) = next_frame(&stream[at..], usize::MAX) {
        if !bulk.contains(&frame.tag) {
            if frame.len > MAX {
                break;
            }
            let body = frame.body(&stream[at..]).to_vec();
            stops.push((frame.tag, body, at, at + frame.len));
        }
        at += frame.len;
    }
    stops
}

fn check_walks(stream: &[u8], cuts: &[Index]) {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
    cuts.sort_unstable();
    for (walker, bulk) in [
        (Walker::backend(MAX), &b"Dd"[..]),
        (Walker::frontend(MAX), b"d"),
    ] {
        let whole = walk(walker.clone(), stream, &[], false);
        assert_eq!(whole.stops, stops_by_frames(stream, bulk));
        assert!(stream.starts_with(&whole.released));
        for release_at_stops in [false, true] {
            let chunked = walk(walker.clone(), stream, &cuts, release_at_stops);
            assert_eq!(chunked, whole);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn anything_into_every_decoder(kind in any::<u8>(), body in vec(any::<u8>(), 0..200)) {
        into_every_decoder(kind, &body);
        into_startup(&body);
        into_scram(&body);
        let _ = parse_options(&String::from_utf8_lossy(&body));
        let _ = ScramVerifier::parse(&String::from_utf8_lossy(&body));
    }

    #[test]
    fn mutated_messages_into_every_decoder(
        which in any::<Index>(),
        mutations in vec(mutation(), 0..5),
    ) {
        let conversation = conversation();
        let message = &conversation[which.index(conversation.len())];
        let kind = message[0];
        let mut body = message[5..].to_vec();
        mutate(&mut body, &mutations);
        into_every_decoder(kind, &body);
    }

    #[test]
    fn mutated_startups(minor in 0..4u16, mutations in vec(mutation(), 0..5)) {
        let mut packet = BytesMut::new();
        let parameters = [("user", "ann"), ("database", "app"), ("options", "-c a=b"), ("_pq_.x", "")];
        frontend::startup(&mut packet, minor, parameters).unwrap();
        let mut rest = packet[4..].to_vec();
        mutate(&mut rest, &mutations);
        let mut mutated = u32::try_from(rest.len() + 4).unwrap().to_be_bytes().to_vec();
        mutated.extend(rest);
        into_startup(&mutated);
        let mut packet = packet.to_vec();
        mutate(&mut packet, &mutations);
        into_startup(&packet);
    }

    #[test]
    fn mutated_scram(mutations in vec(mutation(), 0..4)) {
        for valid in [
            &b"n,,n=ann,r=rOprNGfwEbeRWgbNEkqO"[..],
            b"p=tls-server-end-point,,n=ann,r=rOprNGfwEbeRWgbNEkqO,x=y",
            b"c=biws,r=abcBwcHBwcHBwcHBwcHBwcHBwcHBwc,p=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
        ] {
            let mut message = valid.to_vec();
            mutate(&mut message, &mutations);
            into_scram(&message);
        }
    }

    #[test]
    fn options_survive_being_escaped(settings in vec(("[a-z_][a-z_.]{0,8}", "\\PC{0,12}"), 0..4)) {
        let mut options = String::new();
        for (name, value) in &settings {
            options.push_str(" -c ");
            for c in format!("{name}={value}").chars() {
                if c == '\\' || c.is_ascii_whitespace() {
                    options.push('\\');
                }
                options.push(c);
            }
        }
        prop_assert_eq!(parse_options(&options).unwrap(), settings);
    }

    #[test]
    fn rows_and_parameters_there_and_back(values in vec(proptest::option::of(vec(any::<u8>(), 0..20)), 0..30)) {
        let mut out = BytesMut::new();
        backend::data_row(&mut out, values.iter().map(Option::as_deref));
        let columns: Result<Vec<_>, _> = backend::columns(&out[5..]).collect();
        prop_assert!(columns.unwrap().into_iter().eq(values.iter().map(Option::as_deref)));
        let mut out = BytesMut::new();
        frontend::bind(&mut out, "p", "s", &[], values.iter().map(Option::as_deref), &[]).unwrap();
        let bind = frontend::Bind::decode(&out[5..]).unwrap();
        prop_assert!(bind.parameters.into_iter().eq(values.iter().map(Option::as_deref)));
    }

    #[test]
    fn a_stream_is_walked_the_same_however_it_is_cut(
        order in vec(any::<Index>(), 0..12),
        cuts in vec(any::<Index>(), 0..12),
    ) {
        let conversation = conversation();
        let mut stream = Vec::new();
        for which in order {
            stream.extend_from_slice(&conversation[which.index(conversation.len())]);
        }
        check_walks(&stream, &cuts);
    }

    #[test]
    fn a_stream_cut_at_every_byte(order in vec(any::<Index>(), 0..4)) {
        let conversation = conversation();
        let mut stream = Vec::new();
        for which in order {
            stream.extend_from_slice(&conversation[which.index(conversation.len())]);
        }
        let each: Vec<usize> = (0..stream.len()).collect();
        let whole = walk(Walker::backend(MAX), &stream, &[], false);
        prop_assert_eq!(walk(Walker::backend(MAX), &stream, &each, true), whole);
    }

    #[test]
    fn a_mutated_stream_is_walked_the_same_however_it_is_cut(
        order in vec(any::<Index>(), 1..8),
        mutations in vec(mutation(), 0..4),
        cuts in vec(any::<Index>(), 0..12),
    ) {
        let conversation = conversation();
        let mut stream = Vec::new();
        for which in order {
            stream.extend_from_slice(&conversation[which.index(conversation.len())]);
        }
        mutate(&mut stream, &mutations);
        check_walks(&stream, &cuts);
    }

    #[test]
    fn noise_is_walked_the_same_however_it_is_cut(
        stream in vec(prop_oneof![3 => Just(0u8), 1 => 0..20u8, 1 => any::<u8>(), 1 => Just(b'D')], 0..100),
        cuts in vec(any::<Index>(), 0..8),
    ) {
        check_walks(&stream, &cuts);
    }
}
