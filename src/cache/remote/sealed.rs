//! An answer as it lies in Redis: with its whole question, the versions it is true of, and a code over all of it that
//! only those can make who know the deployment's secret. Whoever else writes to Redis cannot make an answer of his.

use crate::cache::remote::tokens::{Tokens, cut, cut_part, put_part};
use bytes::Bytes;
use hmac::{Hmac, Mac};
use sha2::Sha256;

/// Whose it is.
const MAGIC: &[u8; 4] = b"KwRe";

/// The layout. Another one is not read.
const VERSION: u8 = 1;

/// Length of the code.
const CODE: usize = 32;

/// Before the code.
const HEAD: usize = MAGIC.len() + 1;

/// An answer to be sealed.
#[derive(Debug, Clone, Copy)]
pub struct Sealing<'a> {
    /// The question, with whoever asks it in full.
    pub question: &'a [u8],
    /// The versions, captured before it was asked.
    pub tokens: &'a Tokens,
    /// The answer's messages.
    pub reply: &'a [u8],
    /// How many bytes of it describe the columns.
    pub described: u32,
    /// When it was asked, in ms since 1970 by this host's clock.
    pub made_ms: u64,
    /// How long it may be given, in ms.
    pub ttl_ms: u64,
}

/// An answer that was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// The versions it is true of: it may be given while these are the tokens of its cells.
    pub tokens: Tokens,
    /// Its messages.
    pub reply: Bytes,
    /// How many bytes of it describe the columns.
    pub described: u32,
    /// When it was asked, in ms since 1970 by its maker's clock.
    pub made_ms: u64,
    /// How long it may be given, in ms.
    pub ttl_ms: u64,
}

/// Why what lies in Redis is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// Something else lies there.
    #[error("not a kept answer")]
    NotOurs,
    /// Another version of Keyway wrote it.
    #[error("an answer in another layout")]
    OtherVersion,
    /// It was changed, or made by somebody without the secret.
    #[error("the answer's code does not fit")]
    Forged,
    /// Another question has the same name.
    #[error("an answer to another question")]
    OtherQuestion,
    /// Sealed with the secret, and yet not whole.
    #[error("the answer is not whole")]
    Broken,
}

/// Seals an answer.
#[must_use]
pub fn seal(sealing: &Sealing<'_>, secret: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(256 + sealing.question.len() + sealing.reply.len());
    out.extend_from_slice(MAGIC);
    out.push(VERSION);
    out.extend_from_slice(&[0; CODE]);
    put_part(&mut out, sealing.question);
    sealing.tokens.write(&mut out);
    out.extend_from_slice(&sealing.made_ms.to_le_bytes());
    out.extend_from_slice(&sealing.ttl_ms.to_le_bytes());
    out.extend_from_slice(&sealing.described.to_le_bytes());
    out.extend_from_slice(sealing.reply);
    let code = code(&out[..HEAD], &out[HEAD + CODE..], secret)
        .finalize()
        .into_bytes();
    out[HEAD..HEAD + CODE].copy_from_slice(&code);
    out
}

/// Opens an answer to this question.
///
/// # Errors
/// Why it is none.
pub fn open(bytes: &Bytes, secret: &[u8], question: &[u8]) -> Result<Opened, Unfit> {
    let rest = bytes.strip_prefix(MAGIC).ok_or(Unfit::NotOurs)?;
    let (version, rest) = rest.split_first().ok_or(Unfit::NotOurs)?;
    if *version != VERSION {
        return Err(Unfit::OtherVersion);
    }
    let (said, mut rest) = rest.split_first_chunk::<CODE>().ok_or(Unfit::NotOurs)?;
    code(&bytes[..HEAD], rest, secret)
        .verify_slice(said)
        .map_err(|_| Unfit::Forged)?;
    let rest = &mut rest;
    if cut_part(rest).ok_or(Unfit::Broken)? != question {
        return Err(Unfit::OtherQuestion);
    }
    let tokens = Tokens::read(rest).ok_or(Unfit::Broken)?;
    let made_ms = u64::from_le_bytes(cut(rest).ok_or(Unfit::Broken)?);
    let ttl_ms = u64::from_le_bytes(cut(rest).ok_or(Unfit::Broken)?);
    let described = u32::from_le_bytes(cut(rest).ok_or(Unfit::Broken)?);
    if described as usize > rest.len() {
        return Err(Unfit::Broken);
    }
    Ok(Opened {
        tokens,
        reply: bytes.slice(bytes.len() - rest.len()..),
        described,
        made_ms,
        ttl_ms,
    })
}

fn code(head: &[u8], body: &[u8], secret: &[u8]) -> Hmac<Sha256> {
    let mut code = Hmac::<Sha256>::new_from_slice(secret).expect("a key of any length is good");
    code.update(head);
    code.update(body);
    code
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tokens(cells: &[(u32, u64)]) -> Tokens {
        Tokens::of("ab:cd@17", 42, cells.iter().copied())
    }

    fn sealed(question: &[u8], reply: &[u8], tokens: &Tokens) -> Bytes {
        let sealing = Sealing {
            question,
            tokens,
            reply,
            described: u32::try_from(reply.len() / 2).expect("short"),
            made_ms: 1_700_000_000_000,
            ttl_ms: 300_000,
        };
        seal(&sealing, b"secret").into()
    }

    #[test]
    fn an_answer_to_another_question_or_of_another_deployment_is_none() {
        let bytes = sealed(b"question", b"reply", &tokens(&[(0, 1)]));
        assert!(open(&bytes, b"secret", b"question").is_ok());
        let why = |bytes: &Bytes, secret: &[u8], question: &[u8]| open(bytes, secret, question);
        assert_eq!(
            why(&bytes, b"secret", b"questio"),
            Err(Unfit::OtherQuestion)
        );
        assert_eq!(why(&bytes, b"Secret", b"question"), Err(Unfit::Forged));
        assert_eq!(
            why(&Bytes::new(), b"secret", b"question"),
            Err(Unfit::NotOurs)
        );
        let mut other = bytes.to_vec();
        other[4] = VERSION + 1;
        assert_eq!(
            why(&other.into(), b"secret", b"question"),
            Err(Unfit::OtherVersion)
        );
    }

    proptest! {
        #[test]
        fn what_is_sealed_is_opened(
            question in proptest::collection::vec(any::<u8>(), 0..200),
            reply in proptest::collection::vec(any::<u8>(), 0..200),
            cells in proptest::collection::vec(any::<(u32, u64)>(), 0..20),
        ) {
            let tokens = tokens(&cells);
            let opened = open(&sealed(&question, &reply, &tokens), b"secret", &question)
                .expect("as it was sealed");
            prop_assert_eq!(opened.tokens, tokens);
            prop_assert_eq!(&opened.reply[..], &reply[..]);
            prop_assert_eq!(opened.described as usize, reply.len() / 2);
            prop_assert_eq!(opened.made_ms, 1_700_000_000_000);
            prop_assert_eq!(opened.ttl_ms, 300_000);
        }

        #[test]
        fn a_change_anywhere_is_seen(at in any::<proptest::sample::Index>(), with in 1..=255_u8, cut in any::<bool>()) {
            let bytes = sealed(b"question", b"reply", &tokens(&[(0, 1), (7, 9)]));
            let mut changed = bytes.to_vec();
            let at = at.index(changed.len());
            if cut {
                changed.truncate(at);
            } else {
                changed[at] ^= with;
            }
            prop_assert!(open(&changed.into(), b"secret", b"question").is_err());
        }

        #[test]
        fn no_bytes_are_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), sign in any::<bool>()) {
            // Signed nonsense too: what lies behind the code is read only then.
            let mut all = [&MAGIC[..], &[VERSION], &[0; CODE], &bytes].concat();
            if sign {
                let code = code(&all[..HEAD], &all[HEAD + CODE..], b"secret").finalize().into_bytes();
                all[HEAD..HEAD + CODE].copy_from_slice(&code);
            }
            let _ = open(&all.into(), b"secret", b"");
            let _ = open(&bytes.into(), b"secret", b"");
        }
    }
}
