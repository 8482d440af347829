//! The demo's rows: the same ones every time, loaded as an application would load them.

use std::time::{Duration, SystemTime};

use futures_util::stream::{self, StreamExt, TryStreamExt};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Statement};

use crate::demo::DemoError;

/// Users of the network; they are numbered from 1.
const USERS: u32 = 240;
/// Statements on their way at a time.
const PIPELINE_MAX: usize = 64;
/// The rows' clock starts here: 2024-01-01 00:00:00 UTC.
const EPOCH: Duration = Duration::from_secs(1_704_067_200);
const DAY_SECONDS: u64 = 86_400;

const COUNTRIES: &[(&str, &str, &str)] = &[
    ("AR", "Argentina", "South America"),
    ("AU", "Australia", "Oceania"),
    ("BR", "Brazil", "South America"),
    ("CA", "Canada", "North America"),
    ("CL", "Chile", "South America"),
    ("CZ", "Czechia", "Europe"),
    ("DE", "Germany", "Europe"),
    ("EG", "Egypt", "Africa"),
    ("ES", "Spain", "Europe"),
    ("FI", "Finland", "Europe"),
    ("FR", "France", "Europe"),
    ("GB", "United Kingdom", "Europe"),
    ("GH", "Ghana", "Africa"),
    ("GR", "Greece", "Europe"),
    ("IE", "Ireland", "Europe"),
    ("IN", "India", "Asia"),
    ("IT", "Italy", "Europe"),
    ("JP", "Japan", "Asia"),
    ("KE", "Kenya", "Africa"),
    ("KR", "South Korea", "Asia"),
    ("MX", "Mexico", "North America"),
    ("NG", "Nigeria", "Africa"),
    ("NL", "Netherlands", "Europe"),
    ("NO", "Norway", "Europe"),
    ("NZ", "New Zealand", "Oceania"),
    ("PE", "Peru", "South America"),
    ("PL", "Poland", "Europe"),
    ("PT", "Portugal", "Europe"),
    ("SE", "Sweden", "Europe"),
    ("US", "United States", "North America"),
    ("VN", "Vietnam", "Asia"),
    ("ZA", "South Africa", "Africa"),
];

const FIRST_NAMES: &[&str] = &[
    "Amara", "Anders", "Ayumi", "Bea", "Carlos", "Chidi", "Clara", "Daan", "Elif", "Emeka",
    "Fatima", "Finn", "Grace", "Hana", "Ines", "Jakub", "Jonas", "Kofi", "Lea", "Linh", "Lucia",
    "Mateo", "Maya", "Minh", "Nadia", "Niamh", "Noor", "Olga", "Paulo", "Priya", "Ravi", "Rosa",
    "Sofia", "Tariq", "Thandi", "Tomas", "Viktor", "Wanjiru", "Yara", "Yuki",
];

const LAST_NAMES: &[&str] = &[
    "Adeyemi",
    "Andersson",
    "Becker",
    "Bianchi",
    "Castro",
    "Costa",
    "Dubois",
    "Eriksen",
    "Fernandez",
    "Garcia",
    "Haddad",
    "Ito",
    "Jansen",
    "Kamau",
    "Kim",
    "Kowalski",
    "Larsen",
    "Mbeki",
    "Mensah",
    "Moreau",
    "Murphy",
    "Nakamura",
    "Nguyen",
    "Novak",
    "O'Brien",
    "Okafor",
    "Papadakis",
    "Patel",
    "Ramos",
    "Rossi",
    "Sharma",
    "Silva",
    "Smith",
    "Tran",
    "Virtanen",
];

const OPENINGS: &[&str] = &[
    "Notes on",
    "A weekend with",
    "What I learned from",
    "In praise of",
    "Questions about",
];

const TOPICS: &[&str] = &[
    "baking rye bread",
    "night trains",
    "old maps",
    "growing tomatoes",
    "learning the cello",
    "long walks",
    "bird song",
    "repairing bicycles",
    "street markets",
    "winter swimming",
    "the tides",
    "film cameras",
    "mountain huts",
    "chess",
];

const KINDS: &[&str] = &["login", "post", "like", "follow"];

/// Loads everything through `client`, a connection to the router, and counts the rows. `shards` are the sharded keyspace's, because a
/// reference table is written shard by shard, by hint.
pub(super) async fn load(client: &Client, shards: &[String]) -> Result<u64, DemoError> {
    let mut loader = Loader { client, rows: 0 };
    for shard in shards {
        loader.countries(shard).await?;
    }
    let users: Vec<User> = (1..=USERS).map(User::numbered).collect();
    loader.users(&users).await?;
    loader.vertical(&users).await?;
    loader.follows(&users).await?;
    let posts = loader.posts(&users).await?;
    loader.timelines(&posts).await?;
    Ok(loader.rows)
}

/// One user, all of whose traits follow from the number.
struct User {
    id: i64,
    name: String,
    handle: String,
    country: &'static str,
    joined: SystemTime,
    follows: Vec<i64>,
}

impl User {
    fn numbered(number: u32) -> Self {
        let mut dice = Dice::new(number);
        let (first, last) = (dice.pick(FIRST_NAMES), dice.pick(LAST_NAMES));
        let handle = format!("{}{number}", first.to_lowercase());
        let mut follows: Vec<i64> = (0..4 + dice.below(9))
            .map(|_| i64::from(dice.below(USERS)) + 1)
            .filter(|followed| *followed != i64::from(number))
            .collect();
        follows.sort_unstable();
        follows.dedup();
        Self {
            id: i64::from(number),
            name: format!("{first} {last}"),
            handle,
            country: dice.pick(COUNTRIES).0,
            joined: at(u64::from(dice.below(300)) * DAY_SECONDS),
            follows,
        }
    }
}

/// A post that was stored, and who will see it.
struct Post {
    author: i64,
    id: i64,
    title: String,
    posted: SystemTime,
    readers: Vec<i64>,
}

struct Loader<'a> {
    client: &'a Client,
    rows: u64,
}

impl Loader<'_> {
    async fn countries(&mut self, shard: &str) -> Result<(), DemoError> {
        let rows: Vec<String> = COUNTRIES
            .iter()
            .map(|(code, name, continent)| format!("('{code}', '{name}', '{continent}')"))
            .collect();
        let insert = format!(
            "/* keyway: shard={shard} */ INSERT INTO countries (code, name, continent) VALUES {} ON CONFLICT DO NOTHING",
            rows.join(", ")
        );
        let loaded = self.client.execute(insert.as_str(), &[]).await;
        self.rows += loaded.map_err(|source| DemoError::Load {
            table: "countries",
            source,
        })?;
        Ok(())
    }

    async fn users(&mut self, users: &[User]) -> Result<(), DemoError> {
        let sql =
            "INSERT INTO users (id, handle, name, country, joined) VALUES ($1, $2, $3, $4, $5)";
        let insert = Insert::prepare(self.client, "users", sql).await?;
        let rows = users.iter().map(|user| {
            insert.run(vec![
                &user.id,
                &user.handle,
                &user.name,
                &user.country,
                &user.joined,
            ])
        });
        self.rows += total(rows).await?;
        Ok(())
    }

    async fn vertical(&mut self, users: &[User]) -> Result<(), DemoError> {
        let sql = "INSERT INTO user_profiles (user_id, bio, interests) VALUES ($1, $2, $3)";
        let profiles = Insert::prepare(self.client, "user_profiles", sql).await?;
        let sql = "INSERT INTO user_settings (user_id, theme, notifications) VALUES ($1, $2, $3)";
        let settings = Insert::prepare(self.client, "user_settings", sql).await?;
        let sql = "INSERT INTO user_activities (user_id, kind, at) VALUES ($1, $2, $3)";
        let activities = Insert::prepare(self.client, "user_activities", sql).await?;
        for user in users {
            let mut dice = Dice::new(1_000_000 + number_of(user.id));
            let interests = vec![dice.pick(TOPICS), dice.pick(TOPICS)];
            let bio = format!("{} writes about {}.", user.name, interests[0]);
            let theme = dice.pick(&["light", "dark"]);
            let notifications = dice.below(4) > 0;
            let events: Vec<(&str, SystemTime)> = (0..5)
                .map(|_| {
                    (
                        dice.pick(KINDS),
                        user.joined + Duration::from_secs(u64::from(dice.below(5_000_000))),
                    )
                })
                .collect();
            self.rows += profiles.run(vec![&user.id, &bio, &interests]).await?;
            self.rows += settings.run(vec![&user.id, &theme, &notifications]).await?;
            self.rows += total(
                events
                    .iter()
                    .map(|(kind, at)| activities.run(vec![&user.id, kind, at])),
            )
            .await?;
        }
        Ok(())
    }

    async fn follows(&mut self, users: &[User]) -> Result<(), DemoError> {
        let sql = "INSERT INTO follows (user_id, followed_id, since) VALUES ($1, $2, $3)";
        let insert = Insert::prepare(self.client, "follows", sql).await?;
        let pairs = users
            .iter()
            .flat_map(|user| user.follows.iter().map(move |followed| (user, followed)));
        let rows = pairs.map(|(user, followed)| insert.run(vec![&user.id, followed, &user.joined]));
        self.rows += total(rows).await?;
        Ok(())
    }

    /// Each post's id comes from the table's identity column.
    async fn posts(&mut self, users: &[User]) -> Result<Vec<Post>, DemoError> {
        let sql = "INSERT INTO posts (user_id, title, body, likes, posted) VALUES ($1, $2, $3, $4, $5) RETURNING id";
        let insert = Insert::prepare(self.client, "posts", sql).await?;
        let written = users.iter().flat_map(|user| {
            let mut dice = Dice::new(2_000_000 + number_of(user.id));
            (0..2 + dice.below(5))
                .map(|_| draft(user, users, &mut dice))
                .collect::<Vec<_>>()
        });
        let stored = written.map(|(mut post, body, likes)| {
            let insert = &insert;
            async move {
                post.id = insert
                    .returning(&[&post.author, &post.title, &body, &likes, &post.posted])
                    .await?;
                Ok::<_, DemoError>(post)
            }
        });
        let posts: Vec<Post> = stream::iter(stored)
            .buffered(PIPELINE_MAX)
            .try_collect()
            .await?;
        self.rows += posts.len() as u64;
        Ok(posts)
    }

    async fn timelines(&mut self, posts: &[Post]) -> Result<(), DemoError> {
        let sql = "INSERT INTO timelines (user_id, posted, author_id, post_id, title) VALUES ($1, $2, $3, $4, $5)";
        let insert = Insert::prepare(self.client, "timelines", sql).await?;
        let entries = posts
            .iter()
            .flat_map(|post| post.readers.iter().map(move |reader| (reader, post)));
        let rows = entries.map(|(reader, post)| {
            insert.run(vec![
                reader,
                &post.posted,
                &post.author,
                &post.id,
                &post.title,
            ])
        });
        self.rows += total(rows).await?;
        Ok(())
    }
}

fn draft(user: &User, users: &[User], dice: &mut Dice) -> (Post, String, i32) {
    let topic = dice.pick(TOPICS);
    let title = format!("{} {topic}", dice.pick(OPENINGS));
    let body = format!("{} by {}: more about {topic} soon.", title, user.name);
    let likes = i32::try_from(dice.below(200)).unwrap_or(0);
    let posted = user.joined + Duration::from_secs(u64::from(dice.below(5_000_000)));
    let readers = users
        .iter()
        .filter(|reader| reader.follows.contains(&user.id))
        .map(|reader| reader.id)
        .collect();
    (
        Post {
            author: user.id,
            id: 0,
            title,
            posted,
            readers,
        },
        body,
        likes,
    )
}

/// A prepared INSERT and the table it is for.
struct Insert<'a> {
    client: &'a Client,
    table: &'static str,
    statement: Statement,
}

impl<'a> Insert<'a> {
    async fn prepare(
        client: &'a Client,
        table: &'static str,
        sql: &str,
    ) -> Result<Self, DemoError> {
        let statement = client
            .prepare(sql)
            .await
            .map_err(|source| DemoError::Load { table, source })?;
        Ok(Self {
            client,
            table,
            statement,
        })
    }

    async fn run(&self, values: Vec<&(dyn ToSql + Sync)>) -> Result<u64, DemoError> {
        let run = self.client.execute(&self.statement, &values).await;
        run.map_err(|source| DemoError::Load {
            table: self.table,
            source,
        })
    }

    async fn returning(&self, values: &[&(dyn ToSql + Sync)]) -> Result<i64, DemoError> {
        let row = self.client.query_one(&self.statement, values).await;
        row.and_then(|row| row.try_get(0))
            .map_err(|source| DemoError::Load {
                table: self.table,
                source,
            })
    }
}

/// Runs statements as a pipeline and adds up the rows.
async fn total<F: Future<Output = Result<u64, DemoError>>>(
    statements: impl Iterator<Item = F>,
) -> Result<u64, DemoError> {
    stream::iter(statements)
        .buffered(PIPELINE_MAX)
        .try_fold(0, |sum, rows| async move { Ok(sum + rows) })
        .await
}

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + EPOCH + Duration::from_secs(seconds)
}

fn number_of(id: i64) -> u32 {
    u32::try_from(id).unwrap_or(0)
}

/// SplitMix64: the same rolls for the same seed on every machine.
struct Dice(u64);

impl Dice {
    fn new(seed: u32) -> Self {
        Self(u64::from(seed))
    }

    fn below(&mut self, bound: u32) -> u32 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut roll = self.0;
        roll = (roll ^ (roll >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        roll = (roll ^ (roll >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        roll ^= roll >> 31;
        u32::try_from(roll % u64::from(bound.max(1))).unwrap_or(0)
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(u32::try_from(from.len()).unwrap_or(u32::MAX)) as usize]
    }
}
