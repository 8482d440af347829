//! What an answer belongs to: who asked, in which settings, by which text and values.
//!
//! Keys are compared whole, never by a hash. Every part of one carries its length, so that no two different questions
//! write the same key.

use md5::{Digest, Md5};
use quick_cache::Equivalent;
use std::fmt;
use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// The first byte of what a name is made of. Another layout of keys needs another.
const VERSION: u8 = 1;

/// Whoever asks: database, user, role, settings, topology. A number stands for it in keys, since it is long and sessions
/// share it.
#[derive(Debug, PartialEq, Eq)]
pub struct Asker {
    /// Never used twice in a process.
    pub id: u64,
    /// All of it.
    pub bytes: Box<[u8]>,
}

/// A question's bytes, while they are put together.
#[derive(Debug, Default)]
pub struct KeyWriter {
    bytes: Vec<u8>,
}

/// A question.
#[derive(Debug, Clone, Copy)]
pub struct KeyRef<'a> {
    hash: u64,
    bytes: &'a [u8],
}

/// A question that is kept.
#[derive(Clone)]
pub struct Key {
    hash: u64,
    bytes: Arc<[u8]>,
}

/// Values are somebody's data.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key")
            .field("hash", &self.hash)
            .field("length", &self.bytes.len())
            .finish()
    }
}

impl KeyWriter {
    /// Begins a question with its text.
    pub fn begin(&mut self, asker: &Asker, text: &[u8]) {
        self.bytes.clear();
        self.bytes.extend_from_slice(&asker.id.to_le_bytes());
        self.part(text);
    }

    /// A part of any length.
    #[inline]
    pub fn part(&mut self, part: &[u8]) {
        self.number(part.len());
        self.bytes.extend_from_slice(part);
    }

    /// A part that may be missing, which is something else than an empty one.
    #[inline]
    pub fn part_or_none(&mut self, part: Option<&[u8]>) {
        match part {
            Some(part) => self.part(part),
            None => self.bytes.extend_from_slice(&u32::MAX.to_le_bytes()),
        }
    }

    /// A count, or a small number. PostgreSQL's messages are shorter than 2^31 bytes, so what is counted in one fits.
    #[inline]
    pub fn number(&mut self, number: usize) {
        let number = u32::try_from(number).unwrap_or(u32::MAX - 1);
        self.bytes.extend_from_slice(&number.to_le_bytes());
    }

    /// The question. `seed` is the process's own, so that nobody can choose texts whose hashes collide.
    #[inline]
    #[must_use]
    pub fn finish(&self, seed: u64) -> KeyRef<'_> {
        KeyRef {
            hash: xxh3_64_with_seed(&self.bytes, seed),
            bytes: &self.bytes,
        }
    }
}

impl KeyRef<'_> {
    /// A hash, which two questions may share.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// To be kept.
    #[must_use]
    pub fn to_key(self) -> Key {
        Key {
            hash: self.hash,
            bytes: self.bytes.into(),
        }
    }
}

impl Key {
    /// A question's bytes, not to be looked for by.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self {
            hash: 0,
            bytes: bytes.into(),
        }
    }

    /// How many bytes it takes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Never: it has an asker.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// To look for it.
    #[must_use]
    pub fn as_ref(&self) -> KeyRef<'_> {
        KeyRef {
            hash: self.hash,
            bytes: &self.bytes,
        }
    }

    /// The name that it has outside this process: MD5 over the whole question, with the asker in full, behind a secret
    /// of the deployment. Names may collide, by chance or by somebody's work; what carries one carries the question too,
    /// and is compared with it.
    #[must_use]
    pub fn name(&self, asker: &Asker, secret: &[u8]) -> [u8; 16] {
        let mut md5 = Md5::new();
        let mut part = |bytes: &[u8]| {
            md5.update((bytes.len() as u64).to_le_bytes());
            md5.update(bytes);
        };
        part(&[VERSION]);
        part(secret);
        part(&asker.bytes);
        part(self.question());
        md5.finalize().into()
    }

    /// Its asker's number.
    #[must_use]
    pub fn asker(&self) -> u64 {
        let first = self.bytes.first_chunk::<8>();
        first.map_or(0, |bytes| u64::from_le_bytes(*bytes))
    }

    /// The question with its asker in full: what lies elsewhere under [`name`](Self::name) carries it, and is compared
    /// with it.
    #[must_use]
    pub fn whole(&self, asker: &Asker) -> Vec<u8> {
        let mut whole = Vec::with_capacity(8 + asker.bytes.len() + self.bytes.len());
        whole.extend_from_slice(&(asker.bytes.len() as u64).to_le_bytes());
        whole.extend_from_slice(&asker.bytes);
        whole.extend_from_slice(self.question());
        whole
    }

    /// As if it had this hash.
    #[cfg(test)]
    pub(crate) fn with_hash(self, hash: u64) -> Self {
        Self { hash, ..self }
    }

    /// The question without its asker.
    #[must_use]
    pub fn question(&self) -> &[u8] {
        self.bytes.get(size_of::<u64>()..).unwrap_or_default()
    }

    /// The statement's text.
    #[must_use]
    pub fn text(&self) -> &str {
        let question = self.question();
        let text = question
            .split_first_chunk::<4>()
            .and_then(|(length, rest)| {
                let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
                std::str::from_utf8(rest.get(..length)?).ok()
            });
        text.unwrap_or_default()
    }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

impl Hash for KeyRef<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash && self.bytes == other.bytes
    }
}

impl Eq for Key {}

impl Equivalent<Key> for KeyRef<'_> {
    #[inline]
    fn equivalent(&self, key: &Key) -> bool {
        self.hash == key.hash && *self.bytes == *key.bytes
    }
}

/// Passes a key's own hash on.
#[derive(Debug, Clone, Copy, Default)]
pub struct AsHashed(u64);

impl Hasher for AsHashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

impl BuildHasher for AsHashed {
    type Hasher = Self;

    fn build_hasher(&self) -> Self {
        Self::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asker(id: u64, bytes: &[u8]) -> Asker {
        Asker {
            id,
            bytes: bytes.into(),
        }
    }

    fn key(asker: &Asker, parts: &[Option<&[u8]>]) -> Key {
        let mut writer = KeyWriter::default();
        writer.begin(asker, b"SELECT 1");
        for part in parts {
            writer.part_or_none(*part);
        }
        writer.finish(7).to_key()
    }

    #[test]
    fn different_questions_are_different_keys() {
        let who = asker(1, b"app");
        let all = [
            key(&who, &[]),
            key(&who, &[None]),
            key(&who, &[Some(b"")]),
            key(&who, &[Some(b"ab"), Some(b"c")]),
            key(&who, &[Some(b"a"), Some(b"bc")]),
            key(&who, &[Some(b"abc")]),
            key(&asker(2, b"app"), &[]),
        ];
        for (at, one) in all.iter().enumerate() {
            for (place, other) in all.iter().enumerate() {
                assert_eq!(one == other, at == place);
                assert_eq!(one.as_ref().equivalent(other), at == place);
            }
            assert_eq!(one.text(), "SELECT 1");
        }
    }

    #[test]
    fn a_name_is_made_of_everything() {
        let who = asker(1, b"app");
        let one = key(&who, &[Some(b"a")]);
        let name = one.name(&who, b"secret");
        assert_eq!(name, one.name(&who, b"secret"));
        assert_ne!(name, one.name(&who, b"secret2"));
        assert_ne!(name, one.name(&asker(1, b"app2"), b"secret"));
        assert_ne!(name, key(&who, &[Some(b"b")]).name(&who, b"secret"));
        // The number of an asker is a process's own.
        let elsewhere = asker(9, b"app");
        assert_eq!(
            name,
            key(&elsewhere, &[Some(b"a")]).name(&elsewhere, b"secret")
        );
    }

    #[test]
    fn a_whole_question_is_the_same_in_another_process_and_no_other() {
        let whole = |who: &Asker, part: &[u8]| key(who, &[Some(part)]).whole(who);
        let one = whole(&asker(1, b"app"), b"a");
        assert_eq!(one, whole(&asker(9, b"app"), b"a"));
        assert_ne!(one, whole(&asker(1, b"app"), b"b"));
        assert_ne!(one, whole(&asker(1, b"ap"), b"a"));
        assert_ne!(one, whole(&asker(1, b""), b"a"));
    }

    #[test]
    fn two_questions_of_one_hash_are_told_apart() {
        let who = asker(1, b"app");
        let [one, two] = [b"a", b"b"].map(|part| key(&who, &[Some(&part[..])]).with_hash(5));
        assert_ne!(one, two);
        assert!(!one.as_ref().equivalent(&two));
    }

    /// Six bits of these 128 bytes can be turned without changing their MD5 (Wang, Feng, Lai and Yu, 2004).
    const COLLIDES: &str = "d131dd02c5e6eec4693d9a0698aff95c2fcab58712467eab4004583eb8fb7f89\
        55ad340609f4b30283e488832571415a085125e8f7cdc99fd91dbdf280373c5b\
        d8823e3156348f5bae6dacd436c919c6dd53e2b487da03fd02396306d248cda0\
        e99f33420f577ee8ce54b67080a80d1ec69821bcb6a8839396f9652b6ff72a70";

    #[test]
    fn parameters_of_one_md5_have_names_of_their_own() {
        let one: Vec<u8> = (0..COLLIDES.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&COLLIDES[at..at + 2], 16).expect("hexadecimal"))
            .collect();
        let mut two = one.clone();
        for at in [19, 45, 59, 83, 109, 123] {
            two[at] ^= 0x80;
        }
        assert_eq!(Md5::digest(&one), Md5::digest(&two));
        let who = asker(1, b"app");
        let [one, two] = [one, two].map(|part| key(&who, &[Some(&part)]));
        assert_ne!(one, two);
        // They collide behind MD5's own beginning alone. A name begins with a secret, so nobody can make a pair for it.
        for length in 0..130 {
            let secret = vec![7; length];
            assert_ne!(one.name(&who, &secret), two.name(&who, &secret), "{length}");
        }
    }
}
