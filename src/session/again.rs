//! Questions that are asked again without a client, so that the next client finds the answer: before the time of an answer
//! is over that is given often, when a write has made void what is wanted at once, and when a process starts.
//!
//! A question is asked as its client asked it: by the same messages, in a session of the same database, role and settings.

use crate::backend::settings::{SettingValue, Settings};
use crate::cache::results::key::{Asker, Key, KeyWriter};
use crate::cache::results::reply::Asked;
use crate::cache::results::store::Question;
use crate::config::{Config, Warmup};
use crate::session::login;
use crate::session::worker::Worker;
use crate::wire::frontend::{Format, Target, bind, describe, execute, parse, query, sync};
use bytes::BytesMut;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// Questions that may wait at a worker to be asked again.
const WAITING_MAX: usize = 1_000;

/// How long one may take: a server that does not answer holds up those behind it.
const PATIENCE: Duration = Duration::from_secs(30);

/// What is told when a question has been asked: whether its answer was kept.
pub struct Done(pub Box<dyn FnOnce(bool) + Send>);

impl fmt::Debug for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Done")
    }
}

/// Questions that a worker asks again, one after the other.
#[derive(Debug, Default)]
pub struct Waiting {
    questions: VecDeque<(Question, Option<Done>)>,
    is_asking: bool,
}

/// In whose name a question is asked.
#[derive(Debug, PartialEq, Eq)]
struct Scene {
    database: String,
    /// The role's name on the servers; `None`: each shard's own login.
    user: Option<String>,
    settings: Settings,
}

/// Who asks, as bytes that [`Scene::of`] reads.
#[must_use]
pub fn asker_bytes<'s>(
    database: &str,
    digest: u128,
    user: Option<&str>,
    told: Option<&str>,
    settings: impl Iterator<Item = (&'s str, &'s SettingValue)>,
) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut part = |part: &[u8]| {
        bytes.extend_from_slice(&(part.len() as u64).to_le_bytes());
        bytes.extend_from_slice(part);
    };
    part(database.as_bytes());
    part(&digest.to_le_bytes());
    part(user.unwrap_or_default().as_bytes());
    part(told.unwrap_or_default().as_bytes());
    for (name, value) in settings {
        let (kind, value) = match value {
            SettingValue::Raw(value) => (b"r", value),
            SettingValue::Text(value) => (b"t", value),
        };
        part(name.as_bytes());
        part(kind);
        part(value.as_bytes());
    }
    bytes
}

/// The same who asks, of no snapshot of the topology.
#[must_use]
pub fn of_no_snapshot(asker: &[u8]) -> Vec<u8> {
    let mut bytes = asker.to_vec();
    let length = |bytes: &[u8]| {
        let first = bytes.first_chunk::<8>();
        first.and_then(|length| usize::try_from(u64::from_le_bytes(*length)).ok())
    };
    let digest = length(&bytes).and_then(|database| {
        let at = database.checked_add(16)?;
        bytes.get_mut(at..at.checked_add(16)?)
    });
    if let Some(digest) = digest {
        digest.fill(0);
    }
    bytes
}

/// The same question, asked by somebody who has no number.
#[must_use]
pub fn question_of(asker: Vec<u8>, question: &[u8], extended: bool, ttl: Duration) -> Question {
    let asker = Arc::new(Asker {
        id: 0,
        bytes: asker.into(),
    });
    let mut bytes = asker.id.to_le_bytes().to_vec();
    bytes.extend_from_slice(question);
    Question {
        key: Key::of(&bytes),
        asker,
        asked: if extended {
            Asked::Batch {
                parses: true,
                described: true,
            }
        } else {
            Asked::Query
        },
        ttl,
    }
}

/// A question that is written in the configuration.
#[must_use]
pub fn question_of_warmup(config: &Config, warm: &Warmup) -> Question {
    let user = config.users.get(&warm.user);
    let user = user.and_then(|user| user.server_user.as_deref());
    let settings: Vec<(&str, SettingValue)> = warm
        .settings
        .iter()
        .map(|(name, value)| (name.as_str(), SettingValue::Text(value.clone())))
        .collect();
    let settings = settings.iter().map(|(name, value)| (*name, value));
    let asker = asker_bytes(&warm.database, 0, user, None, settings);
    let mut writer = KeyWriter::default();
    let nobody = Asker {
        id: 0,
        bytes: Box::default(),
    };
    writer.begin(&nobody, warm.sql.as_bytes());
    if let Some(params) = warm.params.as_deref().filter(|params| !params.is_empty()) {
        writer.number(0);
        writer.number(params.len());
        for param in params {
            writer.number(0);
            writer.part(param.as_bytes());
        }
        writer.number(0);
    }
    let key = writer.finish(0).to_key();
    let extended = warm.params.is_some();
    question_of(asker, key.question(), extended, config.cache.ttl)
}

impl Scene {
    /// As [`asker_bytes`] writes it.
    fn of(asker: &[u8]) -> Option<Self> {
        let mut rest = asker;
        let mut part = || -> Option<Option<&[u8]>> {
            if rest.is_empty() {
                return Some(None);
            }
            let (length, behind) = rest.split_first_chunk::<8>()?;
            let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
            let (part, behind) = behind.split_at_checked(length)?;
            rest = behind;
            Some(Some(part))
        };
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
        let database = text(part()??)?;
        let _digest = part()??;
        let user = text(part()??)?;
        let _told = part()??;
        let mut entries = BTreeMap::new();
        while let Some(name) = part()? {
            let (kind, value) = (part()??, text(part()??)?);
            let value = match kind {
                b"r" => SettingValue::Raw(value),
                _ => SettingValue::Text(value),
            };
            entries.insert(text(name)?, value);
        }
        Some(Self {
            database,
            user: Some(user).filter(|user| !user.is_empty()),
            settings: Settings::new(entries),
        })
    }
}

/// The messages that ask a question, as [`write_question`](super::kept::write_question) writes it.
fn messages(question: &[u8]) -> Option<BytesMut> {
    let mut rest = question;
    let number = |rest: &mut &[u8]| -> Option<u32> {
        let (number, behind) = rest.split_first_chunk::<4>()?;
        *rest = behind;
        Some(u32::from_le_bytes(*number))
    };
    let part = |rest: &mut &[u8], length: u32| {
        let (part, behind) = rest.split_at_checked(usize::try_from(length).ok()?)?;
        *rest = behind;
        Some(part.to_vec())
    };
    let format = |binary: u32| match binary {
        0 => Format::Text,
        _ => Format::Binary,
    };
    let length = number(&mut rest)?;
    let text = String::from_utf8(part(&mut rest, length)?).ok()?;
    let mut out = BytesMut::new();
    if rest.is_empty() {
        query(&mut out, &text).ok()?;
        return Some(out);
    }
    let mut types = Vec::new();
    for _ in 0..number(&mut rest)? {
        types.push(number(&mut rest)?);
    }
    let (mut formats, mut values) = (Vec::new(), Vec::new());
    for _ in 0..number(&mut rest)? {
        formats.push(format(number(&mut rest)?));
        values.push(match number(&mut rest)? {
            u32::MAX => None,
            length => Some(part(&mut rest, length)?),
        });
    }
    let mut results = Vec::new();
    for _ in 0..number(&mut rest)? {
        results.push(format(number(&mut rest)?));
    }
    if !rest.is_empty() {
        return None;
    }
    parse(&mut out, "", &text, &types).ok()?;
    let values = values.iter().map(Option::as_deref);
    bind(&mut out, "", "", &formats, values, &results).ok()?;
    describe(&mut out, Target::Portal, "").ok()?;
    execute(&mut out, "", 0).ok()?;
    sync(&mut out);
    Some(out)
}

impl Worker {
    /// Asks a question again, behind those that wait.
    pub fn ask_again(self: &Rc<Self>, question: Question, done: Option<Done>) {
        let mut waiting = self.waiting.borrow_mut();
        if waiting.questions.len() >= WAITING_MAX {
            self.metrics.cache_refreshes_dropped.raise();
            return;
        }
        waiting.questions.push_back((question, done));
        if waiting.is_asking {
            return;
        }
        waiting.is_asking = true;
        let worker = Rc::clone(self);
        tokio::task::spawn_local(async move {
            while let Some((question, done)) = worker.next_waiting() {
                let asked = Box::pin(ask(&worker, &question));
                // Whatever goes wrong, a client will ask itself.
                let is_kept = tokio::time::timeout(PATIENCE, asked).await == Ok(Some(true));
                let metrics = &worker.metrics;
                if is_kept {
                    metrics.cache_refreshes.raise();
                } else {
                    metrics.cache_refreshes_failed.raise();
                }
                if let Some(Done(done)) = done {
                    done(is_kept);
                }
            }
        });
    }

    fn next_waiting(&self) -> Option<(Question, Option<Done>)> {
        let mut waiting = self.waiting.borrow_mut();
        let next = waiting.questions.pop_front();
        waiting.is_asking = next.is_some() && !self.draining.get();
        next.filter(|_| !self.draining.get())
    }
}

/// Asks a question as its client did. Says whether the answer was kept; `None` when nobody can ask that any more.
async fn ask(worker: &Rc<Worker>, question: &Question) -> Option<bool> {
    let scene = Scene::of(&question.asker.bytes)?;
    let messages = messages(question.key.question())?;
    let user = scene.user.as_deref();
    let mut session = login::without_client(worker, &scene.database, user, scene.settings).await?;
    session.again = Some(question.ttl);
    session.ask(messages).await?;
    Some(session.again.is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scene_is_read_as_it_was_written() {
        let path = SettingValue::Raw("a, b".to_owned());
        let zone = SettingValue::Text("UTC".to_owned());
        let settings = [("search_path", &path), ("timezone", &zone)];
        let bytes = asker_bytes("shop", 7, None, Some("app"), settings.into_iter());
        let other = asker_bytes("shop", 0, None, Some("app"), settings.into_iter());
        assert_ne!(bytes, other);
        assert_eq!(of_no_snapshot(&bytes), other);
        let scene = Scene::of(&bytes).expect("a scene");
        assert_eq!(
            (scene.database.as_str(), scene.user.as_deref()),
            ("shop", None)
        );
        assert_eq!(
            scene.settings.get("search_path"),
            Some(&SettingValue::Raw("a, b".to_owned()))
        );
        assert_eq!(
            scene.settings.get("timezone"),
            Some(&SettingValue::Text("UTC".to_owned()))
        );
        for length in 1..bytes.len() {
            // What ends between two settings is a scene of fewer.
            let _ = Scene::of(&bytes[..length]);
        }
    }

    #[test]
    fn a_question_is_asked_by_its_own_messages() {
        let asker = Asker {
            id: 1,
            bytes: Box::default(),
        };
        let mut writer = KeyWriter::default();
        writer.begin(&asker, b"select 1");
        let key = writer.finish(0).to_key();
        let mut expected = BytesMut::new();
        query(&mut expected, "select 1").expect("short");
        assert_eq!(messages(key.question()), Some(expected));

        writer.begin(&asker, b"select $1, $2");
        writer.number(1);
        writer.number(23);
        writer.number(2);
        writer.number(1);
        writer.part_or_none(Some(&[0, 0, 0, 7]));
        writer.number(0);
        writer.part_or_none(None);
        writer.number(1);
        writer.number(1);
        let key = writer.finish(0).to_key();
        let mut expected = BytesMut::new();
        parse(&mut expected, "", "select $1, $2", &[23]).expect("short");
        let values: [Option<&[u8]>; 2] = [Some(&[0, 0, 0, 7]), None];
        let formats = [Format::Binary, Format::Text];
        bind(
            &mut expected,
            "",
            "",
            &formats,
            values.into_iter(),
            &[Format::Binary],
        )
        .expect("short");
        describe(&mut expected, Target::Portal, "").expect("short");
        execute(&mut expected, "", 0).expect("short");
        sync(&mut expected);
        assert_eq!(messages(key.question()), Some(expected));
        let whole = key.question();
        for length in 0..whole.len() {
            let is_text = whole[..length].len() == 4 + "select $1, $2".len();
            assert_eq!(messages(&whole[..length]).is_some(), is_text);
        }
    }
}
