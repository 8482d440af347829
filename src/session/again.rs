//! Questions that are asked again without a client, so that the next client finds the answer: before the time of an answer
//! is over that is given often, when a write has made void what is wanted at once, and when a process starts.
//!
//! A question is asked as its client asked it: by the same messages, in a session of the same database, role and settings.

use crate::backend::settings::{SettingValue, Settings};
use crate::cache::results::store::Question;
use crate::session::login;
use crate::session::worker::Worker;
use crate::wire::frontend::{Format, Target, bind, describe, execute, parse, query, sync};
use bytes::BytesMut;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

/// Questions that may wait at a worker to be asked again.
const WAITING_MAX: usize = 1_000;

/// How long one may take: a server that does not answer holds up those behind it.
const PATIENCE: Duration = Duration::from_secs(30);

/// Questions that a worker asks again, one after the other.
#[derive(Debug, Default)]
pub struct Waiting {
    questions: VecDeque<Question>,
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

impl Scene {
    /// As `kept::Session::asker` writes it.
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
    pub fn ask_again(self: &Rc<Self>, question: Question) {
        let mut waiting = self.waiting.borrow_mut();
        if waiting.questions.len() >= WAITING_MAX {
            self.metrics.cache_refreshes_dropped.raise();
            return;
        }
        waiting.questions.push_back(question);
        if waiting.is_asking {
            return;
        }
        waiting.is_asking = true;
        let worker = Rc::clone(self);
        tokio::task::spawn_local(async move {
            while let Some(question) = worker.next_waiting() {
                let asked = Box::pin(ask(&worker, &question));
                // Whatever goes wrong, a client will ask itself.
                let is_kept = tokio::time::timeout(PATIENCE, asked).await == Ok(Some(true));
                let metrics = &worker.metrics;
                if is_kept {
                    metrics.cache_refreshes.raise();
                } else {
                    metrics.cache_refreshes_failed.raise();
                }
            }
        });
    }

    fn next_waiting(&self) -> Option<Question> {
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
    use crate::cache::results::key::{Asker, KeyWriter};

    #[test]
    fn a_scene_is_read_as_it_was_written() {
        let mut bytes = Vec::new();
        let mut part = |part: &[u8]| {
            bytes.extend_from_slice(&(part.len() as u64).to_le_bytes());
            bytes.extend_from_slice(part);
        };
        for field in ["shop", "0123456789abcdef", "", "app"] {
            part(field.as_bytes());
        }
        for field in ["search_path", "r", "a, b", "timezone", "t", "UTC"] {
            part(field.as_bytes());
        }
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
