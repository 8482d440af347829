//! Checking a client's password without ever being told it: the server's side of SCRAM-SHA-256 (RFC 5802, RFC 7677;
//! manual, 55.3.1) and of md5 (manual, 55.2.1 AuthenticationMD5Password).
//!
//! Pure: random bytes come in as arguments, messages go in and out as bytes. Secrets have no `Debug`, comparisons take
//! the same time whatever differs, and an unknown user is led through the same conversation as a known one.

use crate::wire::error::{ClientError, SqlState};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use md5::Md5;
use sha2::{Digest, Sha256, Sha384, Sha512};
use std::fmt;
use std::fmt::Write;
use subtle::ConstantTimeEq;

/// The mechanism every client has.
pub const SCRAM_SHA_256: &str = "SCRAM-SHA-256";
/// The same, tied to the TLS connection's certificate.
pub const SCRAM_SHA_256_PLUS: &str = "SCRAM-SHA-256-PLUS";
/// Random bytes in a server's nonce, as in PostgreSQL.
pub const NONCE_LEN: usize = 18;
/// Rounds of hashing when nobody says otherwise (PostgreSQL's `scram_iterations`).
pub const ITERATIONS: u32 = 4096;
/// Bytes of salt, as in PostgreSQL.
pub const SALT_LEN: usize = 16;

type Key = [u8; 32];

/// What a server keeps instead of a password. Making one from a password is slow on purpose: do it when the
/// configuration is read, not when somebody logs in.
#[derive(Clone)]
pub struct Verifier {
    iterations: u32,
    salt: Vec<u8>,
    stored_key: Key,
    server_key: Key,
    /// Nobody's: the conversation goes on as with a user's, and then fails.
    mock: bool,
}

/// Shows no secret.
impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier")
            .field("iterations", &self.iterations)
            .finish_non_exhaustive()
    }
}

impl Verifier {
    /// Of the parts that PostgreSQL keeps (`pg_authid.rolpassword`).
    #[must_use]
    pub fn new(iterations: u32, salt: Vec<u8>, stored_key: [u8; 32], server_key: [u8; 32]) -> Self {
        Self {
            iterations,
            salt,
            stored_key,
            server_key,
            mock: false,
        }
    }

    /// Makes the verifier of a password. The password is normalised with SASLprep where it can be and taken as it is
    /// where not, as PostgreSQL and its clients do. No iterations count as one.
    #[must_use]
    pub fn from_password(password: &[u8], salt: &[u8], iterations: u32) -> Self {
        let iterations = iterations.max(1);
        let salted = salted_password(&normalized(password), salt, iterations);
        Self {
            iterations,
            salt: salt.to_vec(),
            stored_key: Sha256::digest(hmac(&salted, &[b"Client Key"])).into(),
            server_key: hmac(&salted, &[b"Server Key"]),
            mock: false,
        }
    }

    /// The verifier of a user who does not exist. The same name always has the same salt, so that asking twice does
    /// not tell, and looks like one of the real users', drawn by the name, so that asking about several does not. `secret`
    /// stays the same as long as real verifiers do.
    #[must_use]
    pub fn mock(secret: &[u8], user: &str, real: &[Looks]) -> Self {
        let name = user.as_bytes();
        let drawn = hmac(secret, &[b"looks:", name]);
        let drawn = usize::from(u16::from_be_bytes([drawn[0], drawn[1]])) % real.len().max(1);
        let looks = real.get(drawn).copied().unwrap_or_default();
        Self {
            iterations: looks.iterations,
            salt: salt_of(secret, user, looks.salt_len),
            stored_key: hmac(secret, &[b"stored:", name]),
            server_key: hmac(secret, &[b"server:", name]),
            mock: true,
        }
    }

    /// What a conversation shows of it.
    #[must_use]
    pub fn looks(&self) -> Looks {
        Looks {
            iterations: self.iterations,
            salt_len: self.salt.len(),
        }
    }
}

/// What anybody who asks is shown of a verifier, but for the salt itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Looks {
    iterations: u32,
    salt_len: usize,
}

impl Default for Looks {
    fn default() -> Self {
        Self {
            iterations: ITERATIONS,
            salt_len: SALT_LEN,
        }
    }
}

/// A user's salt, the same as long as `secret` is, and none that can be foretold.
#[must_use]
pub fn salt_of(secret: &[u8], user: &str, length: usize) -> Vec<u8> {
    (0u32..)
        .flat_map(|block| hmac(secret, &[b"salt:", &block.to_be_bytes(), user.as_bytes()]))
        .take(length)
        .collect()
}

fn decode_key(text: &str) -> Option<Key> {
    STANDARD.decode(text).ok()?.try_into().ok()
}

/// RFC 5802's `Hi`: PBKDF2 with one block.
fn salted_password(password: &[u8], salt: &[u8], iterations: u32) -> Key {
    let keyed = keyed(password);
    let mut mac = keyed.clone();
    mac.update(salt);
    mac.update(&1u32.to_be_bytes());
    let mut block: Key = mac.finalize().into_bytes().into();
    let mut sum = block;
    for _ in 1..iterations {
        let mut mac = keyed.clone();
        mac.update(&block);
        block = mac.finalize().into_bytes().into();
        for (sum, byte) in sum.iter_mut().zip(block) {
            *sum ^= byte;
        }
    }
    sum
}

fn keyed(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("HMAC takes a key of any length")
}

fn hmac(key: &[u8], parts: &[&[u8]]) -> Key {
    let mut mac = keyed(key);
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

fn normalized(password: &[u8]) -> Vec<u8> {
    let prepared = std::str::from_utf8(password)
        .ok()
        .and_then(|text| stringprep::saslprep(text).ok());
    match prepared {
        Some(text) => text.as_bytes().to_vec(),
        None => password.to_vec(),
    }
}

/// Why a SCRAM conversation ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScramError {
    /// A message is not what RFC 5802 says. PostgreSQL's words for where.
    #[error("malformed SCRAM message")]
    Malformed {
        /// What is wrong with it.
        detail: &'static str,
    },
    /// The client chose a mechanism that it was not offered.
    #[error("client selected an invalid SASL authentication mechanism")]
    Mechanism,
    /// The client wants to act as somebody else.
    #[error("client uses authorization identity, but it is not supported")]
    AuthorizationIdentity,
    /// The client demands an extension.
    #[error("client requires an unsupported SCRAM extension")]
    Extension,
    /// The client was made to believe that we have no channel binding: somebody sits in between.
    #[error("SCRAM channel binding negotiation error")]
    ChannelBindingNegotiation,
    /// The client binds to a channel in a way we do not know.
    #[error("unsupported SCRAM channel-binding type")]
    ChannelBindingType,
    /// The client is bound to another certificate than ours: somebody sits in between.
    #[error("SCRAM channel binding check failed")]
    ChannelBindingMismatch,
    /// The channel binding of the last message is not that of the first.
    #[error("unexpected SCRAM channel-binding attribute in client-final-message")]
    ChannelBindingChanged,
    /// The client answers another conversation.
    #[error("invalid SCRAM response")]
    Nonce,
    /// The password is wrong, or there is no such user.
    #[error("password authentication failed")]
    WrongPassword,
}

impl ClientError for ScramError {
    fn sqlstate(&self) -> SqlState {
        match self {
            Self::Malformed { .. }
            | Self::Mechanism
            | Self::ChannelBindingType
            | Self::ChannelBindingChanged
            | Self::Nonce => SqlState::PROTOCOL_VIOLATION,
            Self::AuthorizationIdentity | Self::Extension => SqlState::FEATURE_NOT_SUPPORTED,
            Self::ChannelBindingNegotiation | Self::ChannelBindingMismatch => {
                SqlState::INVALID_AUTHORIZATION_SPECIFICATION
            }
            Self::WrongPassword => SqlState::INVALID_PASSWORD,
        }
    }

    fn detail(&self) -> Option<String> {
        match self {
            Self::Malformed { detail } => Some((*detail).to_owned()),
            Self::ChannelBindingNegotiation => Some(
                "The client supports SCRAM channel binding but thinks the server does not.  \
                 However, this server does support channel binding."
                    .to_owned(),
            ),
            Self::Nonce => Some("Nonce does not match.".to_owned()),
            Self::Mechanism
            | Self::AuthorizationIdentity
            | Self::Extension
            | Self::ChannelBindingType
            | Self::ChannelBindingMismatch
            | Self::ChannelBindingChanged
            | Self::WrongPassword => None,
        }
    }
}

/// The mechanisms to offer, best first: channel binding needs the hash of our certificate.
#[must_use]
pub fn mechanisms(channel_binding: Option<&[u8]>) -> &'static [&'static str] {
    match channel_binding {
        Some(_) => &[SCRAM_SHA_256_PLUS, SCRAM_SHA_256],
        None => &[SCRAM_SHA_256],
    }
}

/// A SCRAM conversation before the client's first message.
pub struct ScramServer {
    verifier: Verifier,
    nonce: String,
    channel_binding: Option<Vec<u8>>,
}

/// A SCRAM conversation that waits for the client's proof.
pub struct ScramChallenge {
    verifier: Verifier,
    /// `r=…,s=…,i=…`
    server_first: String,
    client_first_bare: String,
    /// The client's nonce and ours.
    nonce: String,
    /// What the client must repeat: its header, and our certificate's hash if it bound itself to that.
    bound_to: Vec<u8>,
}

/// How a client's first message says it stands to channel binding.
enum Binding<'a> {
    /// `n`: it has none.
    None,
    /// `y`: it has, but believes we have not.
    NotOffered,
    /// `p=…`: it uses this type.
    Type(&'a str),
}

impl ScramServer {
    /// Begins a conversation. `nonce` are fresh random bytes. `channel_binding` is the hash of our certificate
    /// ([`tls_server_end_point`]) when the connection is under TLS; exactly then [`SCRAM_SHA_256_PLUS`] was offered.
    #[must_use]
    pub fn new(verifier: Verifier, nonce: [u8; NONCE_LEN], channel_binding: Option<&[u8]>) -> Self {
        Self {
            verifier,
            nonce: STANDARD.encode(nonce),
            channel_binding: channel_binding.map(<[u8]>::to_vec),
        }
    }

    #[cfg(test)]
    pub(crate) fn with_nonce_text(verifier: Verifier, nonce: &str) -> Self {
        Self {
            verifier,
            nonce: nonce.to_owned(),
            channel_binding: None,
        }
    }

    /// Takes the client's first message, under the mechanism it chose in its SASLInitialResponse. The answer to send is
    /// [`ScramChallenge::message`]. The user's name in it is passed over, as in PostgreSQL: the startup packet's counts.
    pub fn first(self, mechanism: &str, client_first: &[u8]) -> Result<ScramChallenge, ScramError> {
        let bound = match mechanism {
            SCRAM_SHA_256 => None,
            SCRAM_SHA_256_PLUS => Some(
                self.channel_binding
                    .as_deref()
                    .ok_or(ScramError::Mechanism)?,
            ),
            _ => return Err(ScramError::Mechanism),
        };
        let message = text(client_first)?;

        // gs2-header = gs2-cbind-flag "," [ authzid ] ","
        let (flag, rest) = message.split_once(',').ok_or(MALFORMED)?;
        let binding = match flag {
            "n" => Binding::None,
            "y" => Binding::NotOffered,
            flag => Binding::Type(flag.strip_prefix("p=").ok_or(ScramError::Malformed {
                detail: "Unexpected channel-binding flag.",
            })?),
        };
        match (&binding, bound) {
            (Binding::None, None) => {}
            (Binding::NotOffered, None) if self.channel_binding.is_none() => {}
            (Binding::NotOffered, None) => return Err(ScramError::ChannelBindingNegotiation),
            (Binding::None | Binding::NotOffered, Some(_)) => {
                return Err(ScramError::Malformed {
                    detail: "The client selected SCRAM-SHA-256-PLUS, but the SCRAM message does not include channel binding data.",
                });
            }
            (Binding::Type(_), None) => {
                return Err(ScramError::Malformed {
                    detail: "The client selected SCRAM-SHA-256 without channel binding, but the SCRAM message includes channel binding data.",
                });
            }
            (Binding::Type("tls-server-end-point"), Some(_)) => {}
            (Binding::Type(_), Some(_)) => return Err(ScramError::ChannelBindingType),
        }
        let (identity, bare) = rest.split_once(',').ok_or(MALFORMED)?;
        if identity.starts_with("a=") {
            return Err(ScramError::AuthorizationIdentity);
        }
        if !identity.is_empty() {
            return Err(ScramError::Malformed {
                detail: "Unexpected attribute in the GS2 header.",
            });
        }
        let mut bound_to = message.as_bytes()[..message.len() - bare.len()].to_vec();
        bound_to.extend_from_slice(bound.unwrap_or_default());

        // client-first-message-bare = [reserved-mext ","] username "," nonce ["," extensions]
        if bare.starts_with("m=") {
            return Err(ScramError::Extension);
        }
        let mut attributes = bare.split(',');
        attribute(attributes.next(), "n=")?;
        let client_nonce = attribute(attributes.next(), "r=")?;
        if client_nonce.is_empty() || !client_nonce.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(ScramError::Malformed {
                detail: "Non-printable characters in SCRAM nonce.",
            });
        }
        attributes.try_for_each(any_attribute)?;

        let nonce = format!("{client_nonce}{}", self.nonce);
        let server_first = format!(
            "r={nonce},s={},i={}",
            STANDARD.encode(&self.verifier.salt),
            self.verifier.iterations
        );
        Ok(ScramChallenge {
            verifier: self.verifier,
            server_first,
            client_first_bare: bare.to_owned(),
            nonce,
            bound_to,
        })
    }
}

impl ScramChallenge {
    /// What to send in AuthenticationSASLContinue.
    #[must_use]
    pub fn message(&self) -> &[u8] {
        self.server_first.as_bytes()
    }

    /// Takes the client's last message. If its proof holds, the client knows the password, and the answer, to be sent in
    /// AuthenticationSASLFinal, proves to it that we know the verifier.
    pub fn finish(self, client_final: &[u8]) -> Result<Vec<u8>, ScramError> {
        let message = text(client_final)?;

        // client-final-message = channel-binding "," nonce ["," extensions] "," proof
        let (without_proof, proof) = message.rsplit_once(",p=").ok_or(MALFORMED)?;
        let mut attributes = without_proof.split(',');
        let bound_to = attribute(attributes.next(), "c=")?;
        let nonce = attribute(attributes.next(), "r=")?;
        attributes.try_for_each(any_attribute)?;
        let bound_to = STANDARD.decode(bound_to).map_err(|_| MALFORMED)?;
        let proof = decode_key(proof).ok_or(ScramError::Malformed {
            detail: "Malformed proof in client-final-message.",
        })?;
        if bound_to != self.bound_to {
            return Err(if self.bound_to.starts_with(b"p=") {
                ScramError::ChannelBindingMismatch
            } else {
                ScramError::ChannelBindingChanged
            });
        }
        if nonce != self.nonce {
            return Err(ScramError::Nonce);
        }

        let conversation: [&[u8]; 5] = [
            self.client_first_bare.as_bytes(),
            b",",
            self.server_first.as_bytes(),
            b",",
            without_proof.as_bytes(),
        ];
        let signature = hmac(&self.verifier.stored_key, &conversation);
        let mut client_key = signature;
        for (byte, proof) in client_key.iter_mut().zip(proof) {
            *byte ^= proof;
        }
        let stored_key: Key = Sha256::digest(client_key).into();
        let known: bool = stored_key.ct_eq(&self.verifier.stored_key).into();
        if !known || self.verifier.mock {
            return Err(ScramError::WrongPassword);
        }
        let proof = STANDARD.encode(hmac(&self.verifier.server_key, &conversation));
        Ok(format!("v={proof}").into_bytes())
    }
}

const MALFORMED: ScramError = ScramError::Malformed {
    detail: "Attribute expected.",
};

/// A SCRAM message is UTF-8 and holds no zero byte.
fn text(message: &[u8]) -> Result<&str, ScramError> {
    if message.is_empty() {
        return Err(ScramError::Malformed {
            detail: "The message is empty.",
        });
    }
    match std::str::from_utf8(message) {
        Ok(text) if !text.contains('\0') => Ok(text),
        _ => Err(ScramError::Malformed {
            detail: "Message length does not match input length.",
        }),
    }
}

fn attribute<'a>(found: Option<&'a str>, wanted: &str) -> Result<&'a str, ScramError> {
    found
        .and_then(|found| found.strip_prefix(wanted))
        .ok_or(MALFORMED)
}

/// An optional extension: a letter, `=`, and a value that we pass over.
fn any_attribute(found: &str) -> Result<(), ScramError> {
    match found.as_bytes() {
        [letter, b'=', ..] if letter.is_ascii_alphabetic() => Ok(()),
        _ => Err(MALFORMED),
    }
}

/// The hash of a certificate (in DER) that ties a login to a TLS connection: with the hash function of the certificate's
/// signature, but SHA-256 in place of MD5 and SHA-1 (RFC 5929, 4.1). `None` when that function is not settled, as with
/// Ed25519 and RSASSA-PSS, or when this is no certificate: then channel binding is not offered.
#[must_use]
pub fn tls_server_end_point(certificate: &[u8]) -> Option<Vec<u8>> {
    // Certificate ::= SEQUENCE { tbsCertificate SEQUENCE, signatureAlgorithm SEQUENCE { OBJECT IDENTIFIER, .. }, .. }
    let (fields, _) = der_element(certificate, 0x30)?;
    let (_, after_tbs) = der_element(fields, 0x30)?;
    let (algorithm, _) = der_element(after_tbs, 0x30)?;
    let (oid, _) = der_element(algorithm, 0x06)?;
    match oid {
        // PKCS #1: md5, sha1 and sha256, then sha384, sha512, each with RSA.
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 4 | 5 | 11]
        // X9.62: ECDSA with SHA-1 and SHA-256.
        | [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x01]
        | [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 2] => Some(Sha256::digest(certificate).to_vec()),
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 12]
        | [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 3] => Some(Sha384::digest(certificate).to_vec()),
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 13]
        | [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 4] => Some(Sha512::digest(certificate).to_vec()),
        _ => None,
    }
}

/// The contents of the DER element at the start of `der`, and what follows it.
fn der_element(der: &[u8], kind: u8) -> Option<(&[u8], &[u8])> {
    let (&[found, short], rest) = der.split_first_chunk::<2>()?;
    if found != kind {
        return None;
    }
    let (length, rest) = match short {
        0..=0x7f => (usize::from(short), rest),
        0x81..=0x84 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(short & 0x0f))?;
            let length = bytes
                .iter()
                .fold(0usize, |length, &byte| length << 8 | usize::from(byte));
            (length, rest)
        }
        _ => return None,
    };
    rest.split_at_checked(length)
}

/// What PostgreSQL keeps of a password for md5: `md5` and the hash of the password and the user's name. Good enough to
/// log in with, so treat it as the password itself.
#[must_use]
pub fn md5_stored(user: &str, password: &[u8]) -> String {
    let mut digest = Md5::new();
    digest.update(password);
    digest.update(user.as_bytes());
    md5_text(digest)
}

/// What a client answers to AuthenticationMD5Password with this salt, given what [`md5_stored`] made of its password.
#[must_use]
pub fn md5_response(stored: &str, salt: [u8; 4]) -> String {
    let mut digest = Md5::new();
    digest.update(stored.strip_prefix("md5").unwrap_or(stored).as_bytes());
    digest.update(salt);
    md5_text(digest)
}

/// Whether a client's answer is right.
#[must_use]
pub fn md5_matches(stored: &str, salt: [u8; 4], response: &[u8]) -> bool {
    md5_response(stored, salt).as_bytes().ct_eq(response).into()
}

fn md5_text(digest: Md5) -> String {
    let mut text = "md5".to_owned();
    for byte in digest.finalize() {
        write!(text, "{byte:02x}").expect("a String takes every write");
    }
    text
}
