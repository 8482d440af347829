use crate::wire::error::ProtocolError;
use crate::wire::frame::next_frame;
use crate::wire::replication::{Lsn, Said, Streamed, read_said, read_streamed, status_update};
use bytes::BytesMut;
use proptest::collection::vec;
use proptest::prelude::*;

/// Bytes, as they stand in the manual's formats.
fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
    let pairs = digits.chunks(2);
    pairs
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

fn check(text: &str, expected: Said<'_>) {
    assert_eq!(read_said(&hex(text)), Ok(expected), "{text}");
}

#[test]
fn what_pgoutput_says_is_read() {
    check(
        "42 00000000014E2BC8 0002A9B7C0A1F6E2 000002E4",
        Said::Begin { xid: 740 },
    );
    check(
        "43 00 00000000014E2BC8 00000000014E2BF8 0002A9B7C0A1F6E2",
        Said::Commit {
            end: Lsn(0x14E_2BF8),
        },
    );
    // public.users (id int4 as its key), with replica identity default.
    check(
        "52 00004001 7075626C696300 757365727300 64 0001 01 696400 00000017 FFFFFFFF",
        Said::Relation {
            id: 16_385,
            schema: b"public",
            name: b"users",
        },
    );
    check(
        "52 00000A00 00 7800 64 0000",
        Said::Relation {
            id: 2_560,
            schema: b"",
            name: b"x",
        },
    );
    check(
        "49 00004001 4E 0001 74 00000001 37",
        Said::Changed { relation: 16_385 },
    );
    check(
        "55 00004001 4B 0001 74 00000001 37 4E 0001 74 00000001 38",
        Said::Changed { relation: 16_385 },
    );
    check(
        "44 00004001 4B 0001 74 00000001 38",
        Said::Changed { relation: 16_385 },
    );
    check(
        "54 00000002 03 00004001 00004005",
        Said::Truncated {
            relations: [16_385, 16_389].into_iter().collect(),
        },
    );
    check("59 00004007 7075626C696300 6D6F6F6400", Said::Nothing);
    check("4F 00000000014E2BC8 736F6D65626F647900", Said::Nothing);
    check("4D 00 00000000014E2BC8 7000 00000001 78", Said::Nothing);
}

#[test]
fn what_pgoutput_does_not_say_in_version_1_is_refused() {
    // Stream start, stream commit, prepare.
    for tag in [b'S', b'c', b'P', b'b', 0, 255] {
        assert_eq!(
            read_said(&[tag, 0, 0, 0, 1, 0]),
            Err(ProtocolError::UnexpectedFromServer {
                what: "message of pgoutput"
            })
        );
    }
    assert_eq!(read_said(&[]), Err(ProtocolError::Truncated));
    assert_eq!(
        read_said(&hex("54 FFFFFFFF 00 00004001")),
        Err(ProtocolError::Truncated)
    );
    assert_eq!(
        read_said(&hex("52 00004001 7075")),
        Err(ProtocolError::Unterminated)
    );
}

#[test]
fn a_stream_has_data_and_keepalives() {
    let data = hex("77 00000000014E2BC8 00000000014E2BC8 0002A9B7C0A1F6E2 4200");
    assert_eq!(read_streamed(&data), Ok(Streamed::Said(&[0x42, 0])));
    let alive = hex("6B 00000001014E2BC8 0002A9B7C0A1F6E2 01");
    let expected = Streamed::KeepAlive {
        end: Lsn(0x1_014E_2BC8),
        asks: true,
    };
    assert_eq!(read_streamed(&alive), Ok(expected));
    assert_eq!(read_streamed(&alive[..17]), Err(ProtocolError::Truncated));
    assert!(read_streamed(b"x").is_err());
}

#[test]
fn places_in_the_log_are_written_as_postgresql_writes_them() {
    for text in ["0/0", "16/B374D848", "FFFFFFFF/FFFFFFFF"] {
        assert_eq!(
            Lsn::parse(text).map(|lsn| lsn.to_string()).as_deref(),
            Some(text)
        );
    }
    assert_eq!(Lsn::parse("16/B374D848"), Some(Lsn(0x16_B374_D848)));
    for text in ["", "16", "16/", "g/0", "0/100000000"] {
        assert_eq!(Lsn::parse(text), None, "{text}");
    }
}

#[test]
fn a_status_says_one_place_three_times() {
    let mut out = BytesMut::new();
    status_update(&mut out, Lsn(0x16_B374_D848), 5, true);
    let frame = next_frame(&out, 100).unwrap().unwrap();
    assert_eq!((frame.tag, frame.len), (b'd', out.len()));
    let place = "00000016B374D848";
    let expected = format!("72 {place} {place} {place} 0000000000000005 01");
    assert_eq!(frame.body(&out), hex(&expected));
}

proptest! {
    #[test]
    fn nothing_that_is_streamed_panics(bytes in vec(any::<u8>(), 0..80)) {
        let _ = read_streamed(&bytes);
        if let Ok(Said::Truncated { relations }) = read_said(&bytes) {
            prop_assert!(relations.len() * 4 <= bytes.len());
        }
        for tag in b"BCRYIUDTOM" {
            let mut message = vec![*tag];
            message.extend_from_slice(&bytes);
            let _ = read_said(&message);
        }
    }
}
