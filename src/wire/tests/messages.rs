//! Every message: what we write, we read; what others write, we read; what we write, others read.

use crate::wire::backend::{self, Authentication, CopyResponse, Field, TransactionStatus};
use crate::wire::error::{ClientError, EncodeError, ErrorFields, ProtocolError, SqlState};
use crate::wire::frame::{Frame, FrameError, Stop, Walker, next_frame, next_header};
use crate::wire::frontend::{
    self, Bind, Close, Describe, Execute, Format, FunctionCall, Message, Parse,
    SaslInitialResponse, Target,
};
use crate::wire::types;
use bytes::{BufMut, BytesMut};
use fallible_iterator::FallibleIterator;
use postgres_protocol::message::backend::Message as Theirs;
use postgres_protocol::message::frontend as theirs;

const MAX: usize = 1 << 20;

fn written(write: impl FnOnce(&mut BytesMut)) -> BytesMut {
    let mut out = BytesMut::from(&b"before"[..]);
    write(&mut out);
    assert_eq!(&out[..6], b"before");
    out.split_off(6)
}

/// The body of the one message in `bytes`.
fn body(bytes: &[u8], tag: u8) -> &[u8] {
    let frame = next_frame(bytes, MAX).unwrap().unwrap();
    assert_eq!(
        frame,
        Frame {
            tag,
            len: bytes.len()
        }
    );
    frame.body(bytes)
}

fn read(bytes: &[u8]) -> Result<Message<'_>, ProtocolError> {
    let frame = next_frame(bytes, MAX).unwrap().unwrap();
    assert_eq!(frame.len, bytes.len());
    Message::decode(frame.tag, frame.body(bytes))
}

// ── framing ──

#[test]
fn frames_are_found_when_they_are_whole() {
    let stream = written(|out| {
        frontend::sync(out);
        frontend::query(out, "SELECT 1").unwrap();
    });
    for arrived in 0..5 {
        assert_eq!(next_frame(&stream[..arrived], MAX), Ok(None));
        assert_eq!(next_header(&stream[..arrived], MAX), Ok(None));
    }
    assert_eq!(
        next_frame(&stream, MAX),
        Ok(Some(Frame { tag: b'S', len: 5 }))
    );
    let rest = &stream[5..];
    assert_eq!(
        next_header(&rest[..5], MAX),
        Ok(Some(Frame { tag: b'Q', len: 14 }))
    );
    assert_eq!(next_frame(&rest[..13], MAX), Ok(None));
    let frame = next_frame(rest, MAX).unwrap().unwrap();
    assert_eq!(frame.body(rest), b"SELECT 1\0");
}

#[test]
fn impossible_lengths_are_refused_at_the_header() {
    assert_eq!(
        next_frame(b"Q\0\0\0\x03", MAX),
        Err(FrameError::TooShort {
            tag: b'Q',
            length: 3
        })
    );
    assert_eq!(
        next_frame(b"Q\xff\xff\xff\xff", MAX),
        Err(FrameError::TooShort {
            tag: b'Q',
            length: -1
        })
    );
    assert_eq!(
        next_frame(b"Q\x7f\xff\xff\xff", MAX),
        Err(FrameError::TooLong {
            tag: b'Q',
            len: 1 << 31,
            max: MAX
        })
    );
    assert_eq!(next_frame(b"Q\0\0\0\x09", 10), Ok(None));
    assert!(next_frame(b"Q\0\0\0\x0a", 10).is_err());
    let error = FrameError::TooShort {
        tag: b'Q',
        length: 3,
    };
    assert_eq!(error.sqlstate(), SqlState::PROTOCOL_VIOLATION);
}

#[test]
fn a_walker_stops_at_what_matters_and_passes_rows() {
    let stream = written(|out| {
        backend::bind_complete(out);
        backend::data_row(out, [Some(&b"one"[..]), None].into_iter());
        backend::data_row(out, [Some(&b"two"[..]), None].into_iter());
        backend::command_complete(out, "SELECT 2");
        backend::ready_for_query(out, TransactionStatus::Idle);
    });
    let mut walker = Walker::backend(MAX);
    let bound = walker.next(&stream).unwrap().unwrap();
    assert_eq!(
        bound,
        Stop {
            tag: b'2',
            body: b"",
            start: 0,
            end: 5
        }
    );
    let complete = walker.next(&stream).unwrap().unwrap();
    assert_eq!((complete.tag, complete.body), (b'C', &b"SELECT 2\0"[..]));
    let ready = walker.next(&stream).unwrap().unwrap();
    assert_eq!(
        (ready.tag, ready.body, ready.end),
        (b'Z', &b"I"[..], stream.len())
    );
    assert_eq!(walker.next(&stream), Ok(None));
    assert_eq!(walker.passed(), 2);
    assert!(walker.at_boundary());
    assert_eq!(walker.release(), stream.len());
    assert_eq!(walker.release(), 0);
}

#[test]
fn a_walker_lets_half_a_row_go_and_keeps_half_a_stop() {
    let stream = written(|out| {
        backend::data_row(out, [Some(&[b'x'; 100][..])].into_iter());
        backend::ready_for_query(out, TransactionStatus::Failed);
    });
    let mut walker = Walker::backend(MAX);
    assert_eq!(walker.next(&stream[..50]), Ok(None));
    assert!(!walker.at_boundary());
    assert_eq!(walker.release(), 50);
    // The row ends; of the ReadyForQuery three bytes have come.
    let row = stream.len() - 6;
    assert_eq!(walker.next(&stream[50..row + 3]), Ok(None));
    assert!(walker.at_boundary());
    assert_eq!(walker.release(), row - 50);
    let ready = walker.next(&stream[row..]).unwrap().unwrap();
    assert_eq!(
        (ready.tag, ready.body, ready.start, ready.end),
        (b'Z', &b"E"[..], 0, 6)
    );
}

#[test]
fn a_walker_bounds_what_must_be_whole() {
    let mut walker = Walker::backend(100);
    assert!(walker.next(b"D\x7f\xff\xff\xff").unwrap().is_none());
    let mut walker = Walker::backend(100);
    assert_eq!(
        walker.next(b"C\0\0\0\x64"),
        Err(FrameError::TooLong {
            tag: b'C',
            len: 101,
            max: 100
        })
    );
    // A client's D is a Describe, not a row.
    let mut walker = Walker::frontend(100);
    let describe = written(|out| frontend::describe(out, Target::Portal, "p").unwrap());
    assert_eq!(walker.next(&describe).unwrap().unwrap().tag, b'D');
}

// ── what a client sends ──

#[test]
fn parse_there_and_back() {
    let ours = written(|out| frontend::parse(out, "s1", "SELECT $1, 'ä'", &[23, 0]).unwrap());
    let theirs = written(|out| theirs::parse("s1", "SELECT $1, 'ä'", [23, 0], out).unwrap());
    assert_eq!(ours, theirs);
    let wanted = Parse {
        name: "s1",
        query: "SELECT $1, 'ä'",
        types: [23, 0].into_iter().collect(),
    };
    assert_eq!(read(&ours), Ok(Message::Parse(wanted)));
}

#[test]
fn bind_there_and_back() {
    let parameters = [Some(&b"42"[..]), None, Some(&b""[..])];
    let formats = [Format::Text, Format::Binary, Format::Text];
    let ours = written(|out| {
        frontend::bind(
            out,
            "p",
            "s",
            &formats,
            parameters.into_iter(),
            &[Format::Binary],
        )
        .unwrap();
    });
    let theirs = written(|out| {
        let put = |value: Option<&[u8]>, out: &mut BytesMut| {
            Ok(match value {
                None => postgres_protocol::IsNull::Yes,
                Some(value) => {
                    out.put_slice(value);
                    postgres_protocol::IsNull::No
                }
            })
        };
        let bound = theirs::bind("p", "s", [0, 1, 0], parameters, put, [1], out);
        assert!(bound.is_ok());
    });
    assert_eq!(ours, theirs);
    let Ok(Message::Bind(bind)) = read(&ours) else {
        panic!("not a Bind")
    };
    assert_eq!((bind.portal, bind.statement), ("p", "s"));
    assert_eq!(bind.parameters.as_slice(), parameters);
    assert!(bind.parameter_formats.iter().eq(formats));
    assert_eq!(bind.parameter_formats.get(1), Format::Binary);
    // One format stands for all columns, however many.
    assert_eq!(bind.result_formats.get(7), Format::Binary);
}

#[test]
fn no_formats_are_all_text() {
    let bytes = written(|out| {
        frontend::bind(out, "", "", &[], [Some(&b"1"[..])].into_iter(), &[]).unwrap();
    });
    let Ok(Message::Bind(bind)) = read(&bytes) else {
        panic!("not a Bind")
    };
    assert!(bind.parameter_formats.is_empty());
    assert_eq!(bind.parameter_formats.get(0), Format::Text);
    assert_eq!(bind.result_formats.get(3), Format::Text);
}

#[test]
fn a_bind_is_copied_under_other_names() {
    let parameters = [Some(&b"42"[..]), None];
    let bind = |portal, statement| {
        written(|out| {
            let formats = [Format::Binary];
            frontend::bind(
                out,
                portal,
                statement,
                &formats,
                parameters.into_iter(),
                &[],
            )
            .unwrap();
        })
    };
    let renamed = written(|out| {
        let theirs = bind("theirs", "theirs too");
        frontend::bind_renamed(out, body(&theirs, b'B'), "kw_1", "").unwrap();
    });
    assert_eq!(renamed, bind("", "kw_1"));

    let mut out = BytesMut::from(&b"before"[..]);
    assert!(frontend::bind_renamed(&mut out, b"no end", "s", "p").is_err());
    assert!(frontend::bind_renamed(&mut out, b"\0\0\0\0\0\0\0\0", "s\0", "p").is_err());
    assert_eq!(&out[..], b"before");
}

#[test]
fn short_messages_there_and_back() {
    type Write = fn(&mut BytesMut);
    let rows: [(Write, Write, Message<'_>); 12] = [
        (
            |out| frontend::describe(out, Target::Statement, "s").unwrap(),
            |out| theirs::describe(b'S', "s", out).unwrap(),
            Message::Describe(Describe {
                kind: Target::Statement,
                name: "s",
            }),
        ),
        (
            |out| frontend::describe(out, Target::Portal, "").unwrap(),
            |out| theirs::describe(b'P', "", out).unwrap(),
            Message::Describe(Describe {
                kind: Target::Portal,
                name: "",
            }),
        ),
        (
            |out| frontend::close(out, Target::Statement, "s").unwrap(),
            |out| theirs::close(b'S', "s", out).unwrap(),
            Message::Close(Close {
                kind: Target::Statement,
                name: "s",
            }),
        ),
        (
            |out| frontend::execute(out, "p", 17).unwrap(),
            |out| theirs::execute("p", 17, out).unwrap(),
            Message::Execute(Execute {
                portal: "p",
                max_rows: 17,
            }),
        ),
        (
            |out| frontend::query(out, "SELECT 1; SELECT 2").unwrap(),
            |out| theirs::query("SELECT 1; SELECT 2", out).unwrap(),
            Message::Query("SELECT 1; SELECT 2"),
        ),
        (frontend::sync, theirs::sync, Message::Sync),
        (frontend::flush, theirs::flush, Message::Flush),
        (frontend::terminate, theirs::terminate, Message::Terminate),
        (frontend::copy_done, theirs::copy_done, Message::CopyDone),
        (
            |out| frontend::copy_data(out, b"1\t2\n").unwrap(),
            |out| theirs::CopyData::new(&b"1\t2\n"[..]).unwrap().write(out),
            Message::CopyData(b"1\t2\n"),
        ),
        (
            |out| frontend::copy_fail(out, "no more").unwrap(),
            |out| theirs::copy_fail("no more", out).unwrap(),
            Message::CopyFail("no more"),
        ),
        (
            |out| frontend::password(out, b"secret").unwrap(),
            |out| theirs::password_message(b"secret", out).unwrap(),
            Message::Password(b"secret\0"),
        ),
    ];
    for (ours, theirs, wanted) in rows {
        let ours = written(ours);
        assert_eq!(ours, written(theirs), "{wanted:?}");
        let read = read(&ours).unwrap();
        assert_eq!(format!("{read:?}"), format!("{wanted:?}"));
    }
}

#[test]
fn sasl_responses_there_and_back() {
    let initial = written(|out| {
        frontend::sasl_initial_response(out, "SCRAM-SHA-256", b"n,,n=,r=x").unwrap();
    });
    let theirs_initial = written(|out| {
        theirs::sasl_initial_response("SCRAM-SHA-256", b"n,,n=,r=x", out).unwrap();
    });
    assert_eq!(initial, theirs_initial);
    assert_eq!(
        SaslInitialResponse::decode(body(&initial, b'p')),
        Ok(SaslInitialResponse {
            mechanism: "SCRAM-SHA-256",
            response: Some(b"n,,n=,r=x")
        })
    );
    assert_eq!(
        SaslInitialResponse::decode(b"X\0\xff\xff\xff\xff"),
        Ok(SaslInitialResponse {
            mechanism: "X",
            response: None
        })
    );
    let response = written(|out| frontend::sasl_response(out, b"c=biws").unwrap());
    assert_eq!(
        response,
        written(|out| theirs::sasl_response(b"c=biws", out).unwrap())
    );
}

#[test]
fn function_calls_are_read() {
    let wanted =
        FunctionCall::decode(b"\0\0\x04\x05\0\x01\0\x01\0\x02\0\0\0\x01x\xff\xff\xff\xff\0\x01")
            .unwrap();
    assert_eq!(wanted.function, 1029);
    assert_eq!(wanted.arguments.as_slice(), [Some(&b"x"[..]), None]);
    assert_eq!(wanted.argument_formats.get(1), Format::Binary);
    assert_eq!(wanted.result_format, Format::Binary);
}

#[test]
fn no_limit_and_a_negative_limit_are_all_rows() {
    assert_eq!(Execute::decode(b"\0\0\0\0\0").unwrap().max_rows, 0);
    assert_eq!(Execute::decode(b"\0\xff\xff\xff\xff").unwrap().max_rows, 0);
}

#[test]
fn bad_messages_are_refused_with_the_right_sqlstate() {
    fn check(kind: u8, body: &[u8], sqlstate: SqlState, message: &str) {
        let error = Message::decode(kind, body).unwrap_err();
        assert_eq!(
            (error.sqlstate(), error.to_string().as_str()),
            (sqlstate, message)
        );
    }
    let protocol = SqlState::PROTOCOL_VIOLATION;
    let encoding = SqlState::CHARACTER_NOT_IN_REPERTOIRE;
    check(b'Q', b"SELECT 1", protocol, "invalid string in message");
    check(b'Q', b"", protocol, "invalid string in message");
    check(
        b'Q',
        b"SELECT 1\0; DROP TABLE t\0",
        protocol,
        "invalid message format",
    );
    check(
        b'Q',
        b"\xe4\0",
        encoding,
        "invalid byte sequence for encoding \"UTF8\": 0xe4",
    );
    check(b'S', b"x", protocol, "invalid message format");
    check(
        b'P',
        b"s\0q\0\0\x02\0\0\0\0",
        protocol,
        "insufficient data left in message",
    );
    check(
        b'P',
        b"s\0q\0",
        protocol,
        "insufficient data left in message",
    );
    check(
        b'D',
        b"X\0",
        protocol,
        "invalid DESCRIBE message subtype 88",
    );
    check(b'C', b"\0\0", protocol, "invalid CLOSE message subtype 0");
    check(
        b'E',
        b"p\0\0\0",
        protocol,
        "insufficient data left in message",
    );
    check(b'!', b"", protocol, "invalid frontend message type 33");
    // Binds: three parameters and two formats; a format that is none; a parameter longer than the message.
    check(
        b'B',
        b"\0\0\0\x02\0\0\0\0\0\x03\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\0\0",
        protocol,
        "bind message has 2 parameter formats but 3 parameters",
    );
    check(
        b'B',
        b"\0\0\0\x01\0\x07\0\0\0\0",
        SqlState::INVALID_PARAMETER_VALUE,
        "unsupported format code: 7",
    );
    check(
        b'B',
        b"\0\0\0\0\0\x01\x7f\xff\xff\xff\0\0",
        protocol,
        "insufficient data left in message",
    );
    check(
        b'B',
        b"\0\0\0\0\0\x01\xff\xff\xff\xfe\0\0",
        protocol,
        "insufficient data left in message",
    );
    check(
        b'B',
        b"\0\0\0\0\xff\xff\0\0",
        protocol,
        "insufficient data left in message",
    );
    check(
        b'F',
        b"\0\0\0\x01\0\x02\0\0\0\0\0\x01\0\0\0\0\0\0",
        protocol,
        "function call message contains 2 argument formats but 1 arguments",
    );
}

#[test]
fn what_the_protocol_cannot_carry_is_not_written() {
    let mut out = BytesMut::from(&b"before"[..]);
    assert_eq!(frontend::query(&mut out, "a\0b"), Err(EncodeError::Nul));
    assert_eq!(
        frontend::parse(&mut out, "s\0", "", &[]),
        Err(EncodeError::Nul)
    );
    assert_eq!(frontend::password(&mut out, b"a\0b"), Err(EncodeError::Nul));
    assert_eq!(
        frontend::parse(&mut out, "s", "", &[0; 70_000]),
        Err(EncodeError::TooLong)
    );
    assert_eq!(&out[..], b"before");
    assert_eq!(
        EncodeError::Nul.sqlstate(),
        SqlState::CHARACTER_NOT_IN_REPERTOIRE
    );
}

// ── what a server sends ──

/// What a decoder that is not ours finds in the message, which must be whole.
fn theirs(bytes: &[u8]) -> Theirs {
    let mut buf = BytesMut::from(bytes);
    let message = Theirs::parse(&mut buf).unwrap().unwrap();
    assert!(buf.is_empty());
    message
}

fn field(name: &str, type_oid: types::Oid) -> Field {
    Field {
        name: name.to_owned(),
        table: 16_400,
        attribute: 2,
        type_oid,
        type_len: -1,
        type_modifier: 68,
        format: Format::Binary,
    }
}

#[test]
fn row_descriptions_there_and_back() {
    let fields = [field("id", types::INT8), field("", types::TEXT)];
    let bytes = written(|out| backend::row_description(out, fields.iter()));
    assert_eq!(
        backend::read_row_description(body(&bytes, b'T')).unwrap(),
        fields
    );
    let Theirs::RowDescription(message) = theirs(&bytes) else {
        panic!("not a RowDescription")
    };
    let described: Vec<_> = message
        .fields()
        .map(|field| {
            Ok((
                field.name().to_owned(),
                field.table_oid(),
                field.column_id(),
                field.type_oid(),
                field.type_size(),
                field.type_modifier(),
                field.format(),
            ))
        })
        .collect()
        .unwrap();
    assert_eq!(described[0], ("id".to_owned(), 16_400, 2, 20, -1, 68, 1));
    assert_eq!(described[1], (String::new(), 16_400, 2, 25, -1, 68, 1));
    assert!(backend::read_row_description(b"\xff\xff").is_err());
}

#[test]
fn parameter_descriptions_there_and_back() {
    let bytes = written(|out| backend::parameter_description(out, &[23, 25]));
    assert_eq!(
        backend::read_parameter_description(body(&bytes, b't')),
        Ok(vec![23, 25])
    );
    let Theirs::ParameterDescription(message) = theirs(&bytes) else {
        panic!("not a ParameterDescription")
    };
    assert_eq!(message.parameters().collect::<Vec<_>>().unwrap(), [23, 25]);
}

#[test]
fn rows_there_and_back() {
    let row = [Some(&b"1"[..]), None, Some(&b""[..])];
    let bytes = written(|out| backend::data_row(out, row.into_iter()));
    let columns: Result<Vec<_>, _> = backend::columns(body(&bytes, b'D')).collect();
    assert_eq!(columns.unwrap(), row);
    assert_eq!(backend::columns(body(&bytes, b'D')).left(), 3);
    let Theirs::DataRow(message) = theirs(&bytes) else {
        panic!("not a DataRow")
    };
    let ranges: Vec<_> = message.ranges().collect().unwrap();
    let found: Vec<_> = ranges
        .into_iter()
        .map(|range| range.map(|range| &message.buffer()[range]))
        .collect();
    assert_eq!(found, row);

    let empty = written(|out| backend::data_row(out, std::iter::empty()));
    assert_eq!(backend::columns(body(&empty, b'D')).count(), 0);
}

#[test]
fn bad_rows_end_with_one_error() {
    fn check(body: &[u8], good: usize, error: ProtocolError) {
        let found: Vec<_> = backend::columns(body).collect();
        assert_eq!(found.iter().filter(|column| column.is_ok()).count(), good);
        assert_eq!(found.last(), Some(&Err(error)));
        assert_eq!(found.len(), good + 1);
    }
    check(b"", 0, ProtocolError::Truncated);
    check(b"\0", 0, ProtocolError::Truncated);
    check(b"\xff\xff", 0, ProtocolError::Truncated);
    check(b"\0\x02\0\0\0\x01x\0\0\0\x02y", 1, ProtocolError::Truncated);
    check(b"\0\x01\xff\xff\xff\xfe", 0, ProtocolError::Truncated);
    check(b"\0\x01\0\0\0\x01xy", 0, ProtocolError::Trailing);
    check(b"\0\0x", 0, ProtocolError::Trailing);
}

#[test]
fn command_tags_and_their_rows() {
    let bytes = written(|out| backend::command_complete(out, "INSERT 0 7"));
    assert_eq!(
        backend::read_command_complete(body(&bytes, b'C')),
        Ok("INSERT 0 7")
    );
    let Theirs::CommandComplete(message) = theirs(&bytes) else {
        panic!("not a CommandComplete")
    };
    assert_eq!(message.tag().unwrap(), "INSERT 0 7");
    for (tag, rows) in [
        ("INSERT 0 7", Some(7)),
        ("SELECT 0", Some(0)),
        ("COPY 18446744073709551615", Some(u64::MAX)),
        ("COPY 18446744073709551616", None),
        ("BEGIN", None),
        ("CREATE TABLE", None),
        ("SELECT ", None),
        ("SELECT +1", None),
        ("", None),
    ] {
        assert_eq!(backend::rows_of(tag), rows, "{tag}");
    }
}

#[test]
fn ready_for_query_there_and_back() {
    use TransactionStatus::{Failed, Idle, InTransaction};
    for status in [Idle, InTransaction, Failed] {
        let bytes = written(|out| backend::ready_for_query(out, status));
        assert_eq!(TransactionStatus::decode(body(&bytes, b'Z')), Ok(status));
        let Theirs::ReadyForQuery(message) = theirs(&bytes) else {
            panic!("not ReadyForQuery")
        };
        assert_eq!(message.status(), status.code());
    }
    assert!(TransactionStatus::decode(b"").is_err());
    assert!(TransactionStatus::decode(b"X").is_err());
    assert!(TransactionStatus::decode(b"II").is_err());
}

#[test]
fn parameter_status_there_and_back() {
    let bytes = written(|out| backend::parameter_status(out, "TimeZone", "Europe/Zürich"));
    let read = backend::read_parameter_status(body(&bytes, b'S'));
    assert_eq!(read, Ok(("TimeZone", "Europe/Zürich")));
    let Theirs::ParameterStatus(message) = theirs(&bytes) else {
        panic!("not ParameterStatus")
    };
    assert_eq!(
        (message.name().unwrap(), message.value().unwrap()),
        ("TimeZone", "Europe/Zürich")
    );
}

#[test]
fn errors_and_notices_there_and_back() {
    let mut fields = ErrorFields::error(SqlState::FEATURE_NOT_SUPPORTED, "cannot")
        .detail("Table \"orders\" …")
        .hint("Add …")
        .position(15);
    fields.schema = Some("public".to_owned());
    fields.table = Some("orders".to_owned());
    fields.constraint = Some("orders_pkey".to_owned());
    fields.context = Some("SQL function \"f\"".to_owned());
    fields.internal_position = Some(3);
    fields.internal_query = Some("SELECT".to_owned());
    fields.column = Some("id".to_owned());
    fields.data_type = Some("mood".to_owned());
    fields.file = Some("f.c".to_owned());
    fields.line = Some("7".to_owned());
    fields.routine = Some("f".to_owned());
    let bytes = written(|out| backend::error_response(out, &fields));
    assert_eq!(backend::read_error(body(&bytes, b'E')).unwrap(), fields);
    assert!(fields.is(SqlState::FEATURE_NOT_SUPPORTED));
    assert!(!fields.ends_connection());
    assert_eq!(fields.to_string(), "ERROR: cannot (0A000)");
    let Theirs::ErrorResponse(message) = theirs(&bytes) else {
        panic!("not an ErrorResponse")
    };
    let found: Vec<_> = message
        .fields()
        .map(|field| {
            Ok((
                field.type_(),
                String::from_utf8_lossy(field.value_bytes()).into_owned(),
            ))
        })
        .collect()
        .unwrap();
    for (kind, text) in [
        (b'S', "ERROR"),
        (b'V', "ERROR"),
        (b'C', "0A000"),
        (b'M', "cannot"),
        (b'D', "Table \"orders\" …"),
        (b'H', "Add …"),
        (b'P', "15"),
        (b's', "public"),
        (b't', "orders"),
        (b'n', "orders_pkey"),
        (b'W', "SQL function \"f\""),
        (b'p', "3"),
        (b'q', "SELECT"),
        (b'c', "id"),
        (b'd', "mood"),
        (b'F', "f.c"),
        (b'L', "7"),
        (b'R', "f"),
    ] {
        assert!(found.contains(&(kind, text.to_owned())), "{text}");
    }

    let fatal = ErrorFields::fatal(SqlState::INVALID_PASSWORD, "no\0way");
    let bytes = written(|out| backend::notice_response(out, &fatal));
    let read = backend::read_notice(body(&bytes, b'N')).unwrap();
    assert!(read.ends_connection());
    assert_eq!(read.message, "noway");
    assert_eq!(ErrorFields::notice("n").code, "00000");
    assert_eq!(
        ErrorFields::warning(SqlState::WARNING, "w").severity,
        "WARNING"
    );
}

#[test]
fn errors_are_readable_in_any_language_and_encoding() {
    // A translated S, an untranslated V, an unknown field, bytes in LATIN1.
    let read =
        ErrorFields::parse(b"SFEHLER\0VERROR\0C23505\0Mdoppelter Schl\xfcssel\0Zwhat\0Px\0\0")
            .unwrap();
    assert_eq!(read.severity, "ERROR");
    assert_eq!(read.code, "23505");
    assert_eq!(read.message, "doppelter Schl\u{fffd}ssel");
    assert_eq!(read.position, None);
    // Before 9.6 there was no V.
    assert_eq!(ErrorFields::parse(b"SFATAL\0\0").unwrap().severity, "FATAL");
    assert_eq!(ErrorFields::parse(b"CABCDE\0\0").unwrap().code, "ABCDE");
    assert!(ErrorFields::parse(b"").is_err());
    assert!(ErrorFields::parse(b"SERROR\0").is_err());
    assert!(ErrorFields::parse(b"SERROR").is_err());
    assert!(ErrorFields::parse(b"\0x").is_err());
}

#[test]
fn short_answers_are_what_others_read() {
    type Write = fn(&mut BytesMut);
    type Is = fn(&Theirs) -> bool;
    let rows: [(Write, Is); 7] = [
        (backend::empty_query_response, |m| {
            matches!(m, Theirs::EmptyQueryResponse)
        }),
        (backend::no_data, |m| matches!(m, Theirs::NoData)),
        (backend::parse_complete, |m| {
            matches!(m, Theirs::ParseComplete)
        }),
        (backend::bind_complete, |m| {
            matches!(m, Theirs::BindComplete)
        }),
        (backend::close_complete, |m| {
            matches!(m, Theirs::CloseComplete)
        }),
        (backend::portal_suspended, |m| {
            matches!(m, Theirs::PortalSuspended)
        }),
        (backend::copy_done, |m| matches!(m, Theirs::CopyDone)),
    ];
    for (write, is) in rows {
        let bytes = written(write);
        assert!(is(&theirs(&bytes)), "{bytes:?}");
    }
}

#[test]
fn copies_there_and_back() {
    let copy = CopyResponse {
        format: Format::Binary,
        columns: vec![Format::Binary; 3],
    };
    let into = written(|out| backend::copy_in_response(out, &copy));
    let out_of = written(|out| backend::copy_out_response(out, &copy));
    let both = written(|out| backend::copy_both_response(out, &copy));
    for (bytes, tag) in [(&into, b'G'), (&out_of, b'H'), (&both, b'W')] {
        assert_eq!(CopyResponse::decode(body(bytes, tag)), Ok(copy.clone()));
    }
    assert!(matches!(theirs(&into), Theirs::CopyInResponse(m) if m.format() == 1));
    assert!(matches!(theirs(&out_of), Theirs::CopyOutResponse(m) if m.format() == 1));
    assert!(CopyResponse::decode(b"\x02\0\0").is_err());
    assert!(CopyResponse::decode(b"\0\0\x02\0\0").is_err());
    let data = written(|out| backend::copy_data(out, b"a\tb\n"));
    assert!(matches!(theirs(&data), Theirs::CopyData(m) if m.data() == b"a\tb\n"));
}

#[test]
fn authentication_there_and_back() {
    let ok = written(backend::authentication_ok);
    assert_eq!(
        Authentication::decode(body(&ok, b'R')),
        Ok(Authentication::Ok)
    );
    assert!(matches!(theirs(&ok), Theirs::AuthenticationOk));
    let clear = written(backend::authentication_cleartext_password);
    assert!(matches!(
        theirs(&clear),
        Theirs::AuthenticationCleartextPassword
    ));
    assert_eq!(
        Authentication::decode(body(&clear, b'R')),
        Ok(Authentication::CleartextPassword)
    );
    let md5 = written(|out| backend::authentication_md5_password(out, *b"salt"));
    assert!(matches!(theirs(&md5), Theirs::AuthenticationMd5Password(m) if &m.salt() == b"salt"));
    let read = Authentication::decode(body(&md5, b'R'));
    assert_eq!(read, Ok(Authentication::Md5Password { salt: *b"salt" }));

    let offered = ["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"];
    let sasl = written(|out| backend::authentication_sasl(out, &offered));
    let Theirs::AuthenticationSasl(message) = theirs(&sasl) else {
        panic!("not SASL")
    };
    assert_eq!(message.mechanisms().collect::<Vec<_>>().unwrap(), offered);
    let Ok(Authentication::Sasl(mechanisms)) = Authentication::decode(body(&sasl, b'R')) else {
        panic!("not SASL")
    };
    assert!(mechanisms.iter().eq(offered.map(str::as_bytes)));
    assert!(mechanisms.offers("SCRAM-SHA-256") && !mechanisms.offers("SCRAM"));

    let next = written(|out| backend::authentication_sasl_continue(out, b"r=1"));
    assert_eq!(
        Authentication::decode(body(&next, b'R')),
        Ok(Authentication::SaslContinue(b"r=1"))
    );
    assert!(matches!(theirs(&next), Theirs::AuthenticationSaslContinue(m) if m.data() == b"r=1"));
    let last = written(|out| backend::authentication_sasl_final(out, b"v=1"));
    assert_eq!(
        Authentication::decode(body(&last, b'R')),
        Ok(Authentication::SaslFinal(b"v=1"))
    );
    assert!(matches!(theirs(&last), Theirs::AuthenticationSaslFinal(m) if m.data() == b"v=1"));

    for (body, wanted) in [
        (&b"\0\0\0\x02"[..], Authentication::KerberosV5),
        (b"\0\0\0\x07", Authentication::Gss),
        (b"\0\0\0\x08x", Authentication::GssContinue(b"x")),
        (b"\0\0\0\x09", Authentication::Sspi),
    ] {
        assert_eq!(Authentication::decode(body), Ok(wanted));
    }
    for bad in [
        &b""[..],
        b"\0\0\0\x01",
        b"\0\0\0\0x",
        b"\0\0\0\x05abc",
        b"\0\0\0\x0aX\0",
        b"\0\0\0\x0a",
    ] {
        assert!(Authentication::decode(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn cancel_keys_there_and_back() {
    let bytes = written(|out| backend::backend_key_data(out, 7, b"\0\0\0\x09"));
    let read = backend::BackendKeyData::decode(body(&bytes, b'K')).unwrap();
    assert_eq!((read.pid, &read.key[..]), (7, &b"\0\0\0\x09"[..]));
    let Theirs::BackendKeyData(message) = theirs(&bytes) else {
        panic!("not BackendKeyData")
    };
    assert_eq!((message.process_id(), message.secret_key()), (7, 9));
    assert!(!format!("{read:?}").contains('9'));
    for (length, good) in [(3, false), (4, true), (32, true), (256, true), (257, false)] {
        let bytes = written(|out| backend::backend_key_data(out, 7, &vec![1; length]));
        let read = backend::BackendKeyData::decode(body(&bytes, b'K'));
        assert_eq!(read.is_ok(), good, "{length}");
    }
}

#[test]
fn notifications_there_and_back() {
    let notification = backend::Notification {
        pid: 3,
        channel: "c",
        payload: "p",
    };
    let bytes = written(|out| backend::notification_response(out, &notification));
    assert_eq!(
        backend::Notification::decode(body(&bytes, b'A')),
        Ok(notification)
    );
    let Theirs::NotificationResponse(message) = theirs(&bytes) else {
        panic!("not a notification")
    };
    assert_eq!(
        (
            message.process_id(),
            message.channel().unwrap(),
            message.message().unwrap()
        ),
        (3, "c", "p")
    );
}

#[test]
fn function_results_are_values() {
    let bytes = written(|out| backend::function_call_response(out, Some(b"x")));
    assert_eq!(body(&bytes, b'V'), b"\0\0\0\x01x");
    let bytes = written(|out| backend::function_call_response(out, None));
    assert_eq!(body(&bytes, b'V'), b"\xff\xff\xff\xff");
}

#[test]
fn sqlstates_are_five_characters_each_once() {
    let mut codes: Vec<_> = SqlState::ALL.iter().map(|state| state.code()).collect();
    assert!(codes.iter().all(|code| code.len() == 5));
    codes.sort_unstable();
    codes.dedup();
    assert_eq!(codes.len(), SqlState::ALL.len());
    assert_eq!(SqlState::QUERY_CANCELED.to_string(), "57014");
}

#[test]
fn errors_tell_clients_what_they_say_of_themselves() {
    let fields = ProtocolError::NotUtf8 { byte: 0xff }.fields();
    assert_eq!(fields.severity, "ERROR");
    assert!(fields.is(SqlState::CHARACTER_NOT_IN_REPERTOIRE));
    assert_eq!(
        fields.message,
        "invalid byte sequence for encoding \"UTF8\": 0xff"
    );
    assert_eq!(
        FrameError::TooShort {
            tag: b'Q',
            length: 0
        }
        .fatal_fields()
        .severity,
        "FATAL"
    );
}

#[test]
fn types_and_their_arrays() {
    assert_eq!(types::array_of(types::INT4), Some(types::INT4_ARRAY));
    assert_eq!(types::element_of(types::TEXT_ARRAY), Some(types::TEXT));
    assert_eq!(
        types::name_of(types::TIMESTAMPTZ),
        Some("timestamp with time zone")
    );
    assert_eq!(types::name_of(types::UUID_ARRAY), Some("uuid[]"));
    assert_eq!(types::array_of(types::FIRST_USER_OID), None);
    assert_eq!(types::element_of(types::INT4), None);
}

// A Bind that borrows must not outgrow what it borrows from.
#[test]
fn many_parameters_take_no_more_room_than_they_say() {
    let none = std::iter::repeat_n(None, 65_535);
    let bytes = written(|out| frontend::bind(out, "", "", &[], none, &[]).unwrap());
    let bind = Bind::decode(body(&bytes, b'B')).unwrap();
    assert_eq!(bind.parameters.len(), 65_535);
    assert_eq!(bind.parameters.capacity(), 65_535);
}
