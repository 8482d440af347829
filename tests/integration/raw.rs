//! A small PostgreSQL client of the tests' own. It sends and reads messages as bytes, so that what is compared is what
//! was on the wire; it shares nothing with `src/wire` on purpose. Blocking, with a deadline on every read.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpStream};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, Mac};
use md5::Md5;
use sha2::{Digest, Sha256};

/// Nothing that a test waits for takes longer than this, also where all tests share two cores with others.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// Protocol 3.0.
pub(crate) const PROTOCOL_3_0: u32 = 196_608;
/// Protocol 3.2, with longer cancel keys.
pub(crate) const PROTOCOL_3_2: u32 = 196_610;

/// One message from the server.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Message {
    /// Its type byte.
    pub(crate) tag: u8,
    /// What follows the length.
    pub(crate) body: Vec<u8>,
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", char::from(self.tag), self.body.escape_ascii())
    }
}

impl Message {
    /// A field of an ErrorResponse or NoticeResponse.
    pub(crate) fn field(&self, code: u8) -> Option<String> {
        let mut rest = &self.body[..];
        while let Some((&found, tail)) = rest.split_first() {
            let end = tail.iter().position(|b| *b == 0)?;
            if found == code {
                return Some(String::from_utf8_lossy(&tail[..end]).into_owned());
            }
            rest = &tail[end + 1..];
        }
        None
    }

    /// The SQLSTATE of an error or notice.
    pub(crate) fn sqlstate(&self) -> String {
        self.field(b'C').unwrap_or_default()
    }

    /// The values of a DataRow.
    pub(crate) fn row(&self) -> Vec<Option<Vec<u8>>> {
        assert_eq!(self.tag, b'D', "a DataRow, not {self:?}");
        let mut cursor = Cursor(&self.body);
        let count = cursor.u16();
        (0..count)
            .map(|_| {
                let length = cursor.i32();
                (length >= 0).then(|| cursor.take(length as usize).to_vec())
            })
            .collect()
    }

    /// The columns of a RowDescription.
    pub(crate) fn columns(&self) -> Vec<Column> {
        assert_eq!(self.tag, b'T', "a RowDescription, not {self:?}");
        let mut cursor = Cursor(&self.body);
        let count = cursor.u16();
        (0..count)
            .map(|_| {
                let name = cursor.text();
                cursor.take(6);
                Column {
                    name,
                    type_oid: cursor.u32(),
                    type_size: cursor.i16(),
                    typmod: cursor.i32(),
                    format: cursor.i16(),
                }
            })
            .collect()
    }

    /// The OIDs of a ParameterDescription.
    pub(crate) fn parameter_oids(&self) -> Vec<u32> {
        assert_eq!(self.tag, b't', "a ParameterDescription, not {self:?}");
        let mut cursor = Cursor(&self.body);
        let count = cursor.u16();
        (0..count).map(|_| cursor.u32()).collect()
    }

    /// The body of a message that is one C string (CommandComplete).
    pub(crate) fn text(&self) -> String {
        Cursor(&self.body).text()
    }
}

/// A column of a RowDescription, without what differs between databases (table OID, attribute number).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Column {
    pub(crate) name: String,
    pub(crate) type_oid: u32,
    pub(crate) type_size: i16,
    pub(crate) typmod: i32,
    pub(crate) format: i16,
}

/// Reads big-endian fields; a short message is a failed test.
pub(crate) struct Cursor<'a>(pub(crate) &'a [u8]);

impl<'a> Cursor<'a> {
    pub(crate) fn take(&mut self, count: usize) -> &'a [u8] {
        assert!(self.0.len() >= count, "a message ends too early");
        let (head, tail) = self.0.split_at(count);
        self.0 = tail;
        head
    }

    pub(crate) fn u16(&mut self) -> u16 {
        u16::from_be_bytes(self.take(2).try_into().expect("two bytes"))
    }

    pub(crate) fn i16(&mut self) -> i16 {
        i16::from_be_bytes(self.take(2).try_into().expect("two bytes"))
    }

    pub(crate) fn u32(&mut self) -> u32 {
        u32::from_be_bytes(self.take(4).try_into().expect("four bytes"))
    }

    pub(crate) fn i32(&mut self) -> i32 {
        i32::from_be_bytes(self.take(4).try_into().expect("four bytes"))
    }

    pub(crate) fn text(&mut self) -> String {
        let end = self
            .0
            .iter()
            .position(|b| *b == 0)
            .expect("a terminated string");
        let text = String::from_utf8_lossy(&self.0[..end]).into_owned();
        self.0 = &self.0[end + 1..];
        text
    }
}

/// A message to the server: a type byte, the length, the body.
pub(crate) fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    out.extend_from_slice(&(body.len() as u32 + 4).to_be_bytes());
    out.extend_from_slice(body);
    out
}

fn cstrings(parts: &[&str]) -> Vec<u8> {
    let mut out = Vec::new();
    for part in parts {
        out.extend_from_slice(part.as_bytes());
        out.push(0);
    }
    out
}

/// A startup message.
pub(crate) fn startup(version: u32, parameters: &[(&str, &str)]) -> Vec<u8> {
    let mut body = version.to_be_bytes().to_vec();
    for (name, value) in parameters {
        body.extend(cstrings(&[name, value]));
    }
    body.push(0);
    let mut out = (body.len() as u32 + 4).to_be_bytes().to_vec();
    out.extend(body);
    out
}

/// Query.
pub(crate) fn query(sql: &str) -> Vec<u8> {
    message(b'Q', &cstrings(&[sql]))
}

/// Parse.
pub(crate) fn parse(name: &str, sql: &str, oids: &[u32]) -> Vec<u8> {
    let mut body = cstrings(&[name, sql]);
    body.extend_from_slice(&(oids.len() as u16).to_be_bytes());
    for oid in oids {
        body.extend_from_slice(&oid.to_be_bytes());
    }
    message(b'P', &body)
}

/// A parameter's value with its format (0 text, 1 binary).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Value {
    pub(crate) format: i16,
    pub(crate) bytes: Option<Vec<u8>>,
}

impl Value {
    /// In text format.
    pub(crate) fn text(text: &str) -> Self {
        Self {
            format: 0,
            bytes: Some(text.as_bytes().to_vec()),
        }
    }
}

/// Bind, with one format for all results.
pub(crate) fn bind(portal: &str, statement: &str, values: &[Value], result_format: i16) -> Vec<u8> {
    let mut body = cstrings(&[portal, statement]);
    let count = (values.len() as u16).to_be_bytes();
    body.extend_from_slice(&count);
    for value in values {
        body.extend_from_slice(&value.format.to_be_bytes());
    }
    body.extend_from_slice(&count);
    for value in values {
        match &value.bytes {
            None => body.extend_from_slice(&(-1_i32).to_be_bytes()),
            Some(bytes) => {
                body.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
                body.extend_from_slice(bytes);
            }
        }
    }
    body.extend_from_slice(&1_u16.to_be_bytes());
    body.extend_from_slice(&result_format.to_be_bytes());
    message(b'B', &body)
}

/// Describe; `kind` is `S` or `P`.
pub(crate) fn describe(kind: u8, name: &str) -> Vec<u8> {
    let mut body = vec![kind];
    body.extend(cstrings(&[name]));
    message(b'D', &body)
}

/// Close; `kind` is `S` or `P`.
pub(crate) fn close(kind: u8, name: &str) -> Vec<u8> {
    let mut body = vec![kind];
    body.extend(cstrings(&[name]));
    message(b'C', &body)
}

/// Execute; 0 rows means all.
pub(crate) fn execute(portal: &str, rows: u32) -> Vec<u8> {
    let mut body = cstrings(&[portal]);
    body.extend_from_slice(&rows.to_be_bytes());
    message(b'E', &body)
}

/// Sync.
pub(crate) fn sync() -> Vec<u8> {
    message(b'S', &[])
}

/// Flush.
pub(crate) fn flush() -> Vec<u8> {
    message(b'H', &[])
}

/// Terminate.
pub(crate) fn terminate() -> Vec<u8> {
    message(b'X', &[])
}

/// CancelRequest, as a whole connection's bytes.
pub(crate) fn cancel_request(pid: u32, key: &[u8]) -> Vec<u8> {
    let mut out = (key.len() as u32 + 12).to_be_bytes().to_vec();
    out.extend_from_slice(&80_877_102_u32.to_be_bytes());
    out.extend_from_slice(&pid.to_be_bytes());
    out.extend_from_slice(key);
    out
}

/// Why a client has no session.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// The server said so.
    Server(Message),
    /// The socket ended or fell silent.
    Io(io::Error),
}

impl Refusal {
    /// The server's SQLSTATE; `closed` when it only hung up.
    pub(crate) fn sqlstate(&self) -> String {
        match self {
            Self::Server(error) => error.sqlstate(),
            Self::Io(error) => format!("closed: {error}"),
        }
    }
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Where to connect and as whom.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) port: u16,
    pub(crate) user: String,
    pub(crate) database: String,
    pub(crate) password: String,
}

/// A session.
pub(crate) struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// The last ParameterStatus of each name.
    pub(crate) parameters: BTreeMap<String, String>,
    /// From BackendKeyData.
    pub(crate) pid: u32,
    /// From BackendKeyData; four bytes before protocol 3.2.
    pub(crate) key: Vec<u8>,
    /// From the last ReadyForQuery.
    pub(crate) status: u8,
    /// NotificationResponses that arrived meanwhile.
    pub(crate) notifications: Vec<Message>,
    port: u16,
}

impl Client {
    /// Opens a socket and sends nothing.
    pub(crate) fn open(port: u16) -> io::Result<Self> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self {
            stream,
            buffer: Vec::new(),
            parameters: BTreeMap::new(),
            pid: 0,
            key: Vec::new(),
            status: 0,
            notifications: Vec::new(),
            port,
        })
    }

    /// A whole login.
    pub(crate) fn try_connect(target: &Target, more: &[(&str, &str)]) -> Result<Self, Refusal> {
        let mut client = Self::open(target.port)?;
        let mut parameters = vec![
            ("user", target.user.as_str()),
            ("database", target.database.as_str()),
        ];
        parameters.extend_from_slice(more);
        client.send(&startup(PROTOCOL_3_0, &parameters))?;
        client.log_in(&target.user, &target.password)?;
        Ok(client)
    }

    /// A whole login that must succeed.
    pub(crate) fn connect(target: &Target) -> Self {
        match Self::try_connect(target, &[]) {
            Ok(client) => client,
            Err(refusal) => panic!("connect to {target:?}: {refusal:?}"),
        }
    }

    /// Answers the server's authentication requests and waits for ReadyForQuery.
    pub(crate) fn log_in(&mut self, user: &str, password: &str) -> Result<(), Refusal> {
        let mut scram = None;
        loop {
            let message = self.read()?;
            match message.tag {
                b'R' => {
                    let mut cursor = Cursor(&message.body);
                    match cursor.u32() {
                        0 => {}
                        3 => self.send(&self::message(b'p', &cstrings(&[password])))?,
                        5 => {
                            let salt = cursor.take(4);
                            self.send(&self::message(
                                b'p',
                                &cstrings(&[&md5_answer(user, password, salt)]),
                            ))?;
                        }
                        10 => {
                            assert_eq!(cursor.text(), "SCRAM-SHA-256");
                            let exchange = Scram::new();
                            let first = exchange.first();
                            let mut body = cstrings(&["SCRAM-SHA-256"]);
                            body.extend_from_slice(&(first.len() as u32).to_be_bytes());
                            body.extend_from_slice(first.as_bytes());
                            self.send(&self::message(b'p', &body))?;
                            scram = Some(exchange);
                        }
                        11 => {
                            let exchange = scram.as_mut().expect("SASL has begun");
                            let answer =
                                exchange.answer(&String::from_utf8_lossy(cursor.0), password);
                            self.send(&self::message(b'p', answer.as_bytes()))?;
                        }
                        12 => scram
                            .as_ref()
                            .expect("SASL has begun")
                            .check(&String::from_utf8_lossy(cursor.0)),
                        other => panic!("authentication request {other}"),
                    }
                }
                b'K' => {
                    let mut cursor = Cursor(&message.body);
                    self.pid = cursor.u32();
                    self.key = cursor.0.to_vec();
                }
                b'E' => return Err(Refusal::Server(message)),
                b'Z' => return Ok(()),
                b'N' | b'v' => {}
                other => panic!("message {} in a login", char::from(other)),
            }
        }
    }

    /// Writes bytes.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Reads one byte that is not a message (the answer to SSLRequest).
    pub(crate) fn read_byte(&mut self) -> io::Result<u8> {
        let mut byte = [0];
        self.stream.read_exact(&mut byte)?;
        Ok(byte[0])
    }

    /// Reads the next message; ParameterStatus and notifications are noted and skipped.
    pub(crate) fn read(&mut self) -> io::Result<Message> {
        loop {
            let message = self.read_any()?;
            match message.tag {
                b'S' => {
                    let mut cursor = Cursor(&message.body);
                    let name = cursor.text();
                    let value = cursor.text();
                    self.parameters.insert(name, value);
                }
                b'A' => self.notifications.push(message),
                _ => {
                    if message.tag == b'Z' {
                        self.status = message.body[0];
                    }
                    return Ok(message);
                }
            }
        }
    }

    /// Takes the next message if it is of type `tag`, and leaves it unread otherwise.
    pub(crate) fn peek(&mut self, tag: u8) -> io::Result<Option<Message>> {
        while self.buffer.is_empty() {
            self.fill()?;
        }
        if self.buffer[0] == tag {
            self.read_any().map(Some)
        } else {
            Ok(None)
        }
    }

    fn fill(&mut self) -> io::Result<()> {
        let mut chunk = [0; 16_384];
        let count = self.stream.read(&mut chunk)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.buffer.extend_from_slice(&chunk[..count]);
        Ok(())
    }

    /// Reads the next message, whatever it is.
    pub(crate) fn read_any(&mut self) -> io::Result<Message> {
        loop {
            if self.buffer.len() >= 5 {
                let length =
                    u32::from_be_bytes(self.buffer[1..5].try_into().expect("four bytes")) as usize;
                assert!(
                    (4..1 << 30).contains(&length),
                    "the server sends a length of {length}"
                );
                if self.buffer.len() > length {
                    let tag = self.buffer[0];
                    let body = self.buffer[5..=length].to_vec();
                    self.buffer.drain(..=length);
                    return Ok(Message { tag, body });
                }
            }
            self.fill()?;
        }
    }

    /// Everything up to ReadyForQuery, without it.
    pub(crate) fn until_ready(&mut self) -> io::Result<Vec<Message>> {
        let mut messages = Vec::new();
        loop {
            let message = self.read()?;
            if message.tag == b'Z' {
                return Ok(messages);
            }
            messages.push(message);
        }
    }

    /// Sends and reads up to ReadyForQuery.
    pub(crate) fn exchange(&mut self, bytes: &[u8]) -> Vec<Message> {
        self.send(bytes).expect("send");
        self.until_ready().expect("a whole answer")
    }

    /// A simple query's whole answer.
    pub(crate) fn simple(&mut self, sql: &str) -> Vec<Message> {
        self.exchange(&query(sql))
    }

    /// A simple query that must work; its rows as text, NULL as `∅`.
    pub(crate) fn rows(&mut self, sql: &str) -> Vec<Vec<String>> {
        let messages = self.simple(sql);
        if let Some(error) = messages.iter().find(|m| m.tag == b'E') {
            panic!("{sql}: {error:?}");
        }
        rows_of(&messages)
    }

    /// The only value of a simple query's only row.
    pub(crate) fn one(&mut self, sql: &str) -> String {
        let rows = self.rows(sql);
        assert!(
            rows.len() == 1 && rows[0].len() == 1,
            "{sql}: one value, not {rows:?}"
        );
        rows[0][0].clone()
    }

    /// A simple query that must work, its rows dropped.
    pub(crate) fn run(&mut self, sql: &str) {
        self.rows(sql);
    }

    /// The SQLSTATE of a simple query that must fail.
    pub(crate) fn error(&mut self, sql: &str) -> String {
        let messages = self.simple(sql);
        match messages.iter().find(|m| m.tag == b'E') {
            Some(error) => error.sqlstate(),
            None => panic!("{sql} must fail, got {messages:?}"),
        }
    }

    /// One statement by the extended protocol with text parameters; its messages up to ReadyForQuery.
    pub(crate) fn extended(&mut self, sql: &str, values: &[&str]) -> Vec<Message> {
        let values: Vec<Value> = values.iter().map(|text| Value::text(text)).collect();
        let mut bytes = parse("", sql, &[]);
        bytes.extend(bind("", "", &values, 0));
        bytes.extend(describe(b'P', ""));
        bytes.extend(execute("", 0));
        bytes.extend(sync());
        self.exchange(&bytes)
    }

    /// Waits for a notification.
    pub(crate) fn notification(&mut self) -> Message {
        if self.notifications.is_empty() {
            loop {
                let message = self.read_any().expect("a notification");
                if message.tag == b'A' {
                    return message;
                }
                assert_eq!(
                    message.tag, b'S',
                    "only a notification is awaited, not {message:?}"
                );
            }
        }
        self.notifications.remove(0)
    }

    /// What another thread needs to cancel this session's query.
    pub(crate) fn canceller(&self) -> Canceller {
        Canceller {
            port: self.port,
            pid: self.pid,
            key: self.key.clone(),
        }
    }

    /// Bounds the wait of later reads.
    pub(crate) fn patience(&self, patience: Duration) {
        self.stream
            .set_read_timeout(Some(patience))
            .expect("a timeout");
    }

    /// Says goodbye and closes.
    pub(crate) fn bye(mut self) {
        let _ = self.send(&terminate());
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    /// The socket of a session with nothing unread, for asynchronous use.
    pub(crate) fn into_stream(self) -> TcpStream {
        assert!(self.buffer.is_empty(), "nothing is left unread");
        self.stream
            .set_nonblocking(true)
            .expect("a non-blocking socket");
        self.stream
    }

    /// Its socket, for another thread to close.
    pub(crate) fn socket(&self) -> TcpStream {
        self.stream.try_clone().expect("a socket")
    }

    /// Closes the write half only, if the socket is still there.
    pub(crate) fn half_close(&self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Reads until the server closes; what it said before.
    pub(crate) fn until_closed(&mut self) -> Vec<Message> {
        let mut messages = Vec::new();
        loop {
            match self.read_any() {
                Ok(message) => messages.push(message),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    panic!("the server keeps the connection open; it said {messages:?}")
                }
                Err(_) => return messages,
            }
        }
    }
}

/// See [`Client::canceller`].
#[derive(Debug, Clone)]
pub(crate) struct Canceller {
    port: u16,
    pid: u32,
    key: Vec<u8>,
}

impl Canceller {
    /// Sends the CancelRequest and waits until the server has closed the connection.
    pub(crate) fn cancel(&self) {
        let mut other = Client::open(self.port).expect("a connection for the CancelRequest");
        other
            .send(&cancel_request(self.pid, &self.key))
            .expect("send a CancelRequest");
        assert!(
            other.until_closed().is_empty(),
            "a CancelRequest gets no answer"
        );
    }
}

/// The rows among `messages` as text, NULL as `∅`.
pub(crate) fn rows_of(messages: &[Message]) -> Vec<Vec<String>> {
    messages
        .iter()
        .filter(|m| m.tag == b'D')
        .map(|m| {
            m.row()
                .into_iter()
                .map(|value| {
                    value.map_or_else(
                        || "∅".to_owned(),
                        |v| String::from_utf8_lossy(&v).into_owned(),
                    )
                })
                .collect()
        })
        .collect()
}

/// The type bytes of `messages`, as a word.
pub(crate) fn tags(messages: &[Message]) -> String {
    messages.iter().map(|m| char::from(m.tag)).collect()
}

fn md5_answer(user: &str, password: &str, salt: &[u8]) -> String {
    let hex = |bytes: &[u8]| -> String { bytes.iter().map(|b| format!("{b:02x}")).collect() };
    let inner = hex(&Md5::digest(format!("{password}{user}").as_bytes()));
    let mut outer = inner.into_bytes();
    outer.extend_from_slice(salt);
    format!("md5{}", hex(&Md5::digest(&outer)))
}

fn hmac(key: &[u8], text: &[u8]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any key length will do");
    mac.update(text);
    mac.finalize().into_bytes().to_vec()
}

fn salt_password(password: &str, salt: &[u8], rounds: u32) -> Vec<u8> {
    let first = [salt, &1_u32.to_be_bytes()].concat();
    let mut previous = hmac(password.as_bytes(), &first);
    let mut salted = previous.clone();
    for _ in 1..rounds {
        previous = hmac(password.as_bytes(), &previous);
        for (sum, byte) in salted.iter_mut().zip(&previous) {
            *sum ^= byte;
        }
    }
    salted
}

/// What PostgreSQL stores for `password` (`pg_authid.rolpassword`), with few rounds so that thousands can log in.
pub(crate) fn scram_verifier(password: &str) -> String {
    const ROUNDS: u32 = 16;
    let salt = b"salt of the tests";
    let salted = salt_password(password, salt, ROUNDS);
    let stored = Sha256::digest(hmac(&salted, b"Client Key"));
    let server = hmac(&salted, b"Server Key");
    format!(
        "SCRAM-SHA-256${ROUNDS}:{}${}:{}",
        BASE64.encode(salt),
        BASE64.encode(stored),
        BASE64.encode(server)
    )
}

/// The client's half of SCRAM-SHA-256 (RFC 5802, RFC 7677), without channel binding.
struct Scram {
    nonce: String,
    auth_message: Vec<u8>,
    server_key: Vec<u8>,
}

impl Scram {
    fn new() -> Self {
        let mut random = [0; 18];
        getrandom::fill(&mut random).expect("the system gives random bytes");
        Self {
            nonce: BASE64.encode(random),
            auth_message: Vec::new(),
            server_key: Vec::new(),
        }
    }

    fn first(&self) -> String {
        format!("n,,n=,r={}", self.nonce)
    }

    fn answer(&mut self, server_first: &str, password: &str) -> String {
        let part = |name: &str| {
            server_first
                .split(',')
                .find_map(|field| field.strip_prefix(name))
                .unwrap_or_else(|| {
                    panic!("{name} is missing in the server's first message {server_first}")
                })
        };
        let (nonce, salt) = (part("r="), BASE64.decode(part("s=")).expect("base64"));
        assert!(nonce.starts_with(&self.nonce), "the server keeps our nonce");
        let salted = salt_password(
            password,
            &salt,
            part("i=").parse().expect("a number of rounds"),
        );
        let client_key = hmac(&salted, b"Client Key");
        self.server_key = hmac(&salted, b"Server Key");
        let without_proof = format!("c=biws,r={nonce}");
        self.auth_message =
            format!("n=,r={},{server_first},{without_proof}", self.nonce).into_bytes();
        let signature = hmac(&Sha256::digest(&client_key), &self.auth_message);
        let proof: Vec<u8> = client_key
            .iter()
            .zip(&signature)
            .map(|(a, b)| a ^ b)
            .collect();
        format!("{without_proof},p={}", BASE64.encode(proof))
    }

    fn check(&self, server_final: &str) {
        let expected = format!(
            "v={}",
            BASE64.encode(hmac(&self.server_key, &self.auth_message))
        );
        assert_eq!(
            server_final, expected,
            "the server proves that it knows the password"
        );
    }
}

#[test]
fn error_fields_are_found() {
    let error = Message {
        tag: b'E',
        body: b"SERROR\0C42601\0Mbad\0\0".to_vec(),
    };
    assert_eq!(error.sqlstate(), "42601");
    assert_eq!(error.field(b'M').as_deref(), Some("bad"));
    assert_eq!(error.field(b'D'), None);
}
