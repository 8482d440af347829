//! The demo's rows: the same ones every time, loaded as an application would load them.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::time::{Duration, SystemTime};

use futures_util::stream::{self, StreamExt, TryStreamExt};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row, Statement};

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

/// Loads everything through `client`, a connection to the router, and counts the rows. `shards` are the sharded
/// keyspace's, because a reference table is written shard by shard, by hint. Every other statement holds one user's rows.
pub(super) async fn load(client: &Client, shards: &[String]) -> Result<usize, DemoError> {
    let users: Vec<User> = (1..=USERS).map(User::numbered).collect();
    let mut loader = Loader { client, rows: 0 };
    for shard in shards {
        loader.countries(shard).await?;
    }
    loader.users(&users).await?;
    loader.vertical(&users).await?;
    loader.follows(&users).await?;
    let posts = loader.posts(&users).await?;
    loader.timelines(&users, &posts).await?;
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

    /// Its values in users.
    fn row(&self) -> [Value<'_>; 4] {
        [&self.handle, &self.name, &self.country, &self.joined]
    }

    /// Within two months after joining.
    fn some_time(&self, dice: &mut Dice) -> SystemTime {
        self.joined + Duration::from_secs(u64::from(dice.below(5_000_000)))
    }
}

/// A post, and after it was stored its id.
struct Post {
    author: i64,
    id: i64,
    title: String,
    body: String,
    likes: i32,
    posted: SystemTime,
}

impl Post {
    /// Its values in posts.
    fn row(&self) -> [Value<'_>; 4] {
        [&self.title, &self.body, &self.likes, &self.posted]
    }

    /// Its values in a reader's timeline.
    fn entry(&self) -> [Value<'_>; 4] {
        [&self.posted, &self.author, &self.id, &self.title]
    }
}

/// A value for a parameter.
type Value<'a> = &'a (dyn ToSql + Sync);

/// One user's rows for a table: the user's id, then each row's other values.
type UserRows<'a, const N: usize> = (&'a i64, Vec<[Value<'a>; N]>);

/// A table, its columns (first the user's id), and what an INSERT gives back.
struct Target<const N: usize> {
    table: &'static str,
    user: &'static str,
    columns: [&'static str; N],
    returning: &'static str,
}

struct Loader<'a> {
    client: &'a Client,
    rows: usize,
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
        let table = "countries";
        self.client
            .execute(insert.as_str(), &[])
            .await
            .map_err(|source| DemoError::Load { table, source })?;
        self.rows += rows.len();
        Ok(())
    }

    async fn users(&mut self, users: &[User]) -> Result<(), DemoError> {
        let into = Target {
            table: "users",
            user: "id",
            columns: ["handle", "name", "country", "joined"],
            returning: "",
        };
        self.insert(
            &into,
            users
                .iter()
                .map(|user| (&user.id, vec![user.row()]))
                .collect(),
        )
        .await
        .map(drop)
    }

    async fn vertical(&mut self, users: &[User]) -> Result<(), DemoError> {
        let lives: Vec<Life> = users.iter().map(Life::of).collect();
        let both = || users.iter().zip(&lives);
        let into = Target {
            table: "user_profiles",
            user: "user_id",
            columns: ["bio", "interests"],
            returning: "",
        };
        let profiles = both().map(|(user, life)| -> UserRows<'_, 2> {
            (&user.id, vec![[&life.bio, &life.interests]])
        });
        self.insert(&into, profiles.collect()).await?;
        let into = Target {
            table: "user_settings",
            user: "user_id",
            columns: ["theme", "notifications"],
            returning: "",
        };
        let settings = both().map(|(user, life)| -> UserRows<'_, 2> {
            (&user.id, vec![[&life.theme, &life.notifications]])
        });
        self.insert(&into, settings.collect()).await?;
        let into = Target {
            table: "user_activities",
            user: "user_id",
            columns: ["kind", "at"],
            returning: "",
        };
        let activities = both().map(|(user, life)| -> UserRows<'_, 2> {
            (
                &user.id,
                life.events
                    .iter()
                    .map(|(kind, at)| -> [Value<'_>; 2] { [kind, at] })
                    .collect(),
            )
        });
        self.insert(&into, activities.collect()).await.map(drop)
    }

    async fn follows(&mut self, users: &[User]) -> Result<(), DemoError> {
        let into = Target {
            table: "follows",
            user: "user_id",
            columns: ["followed_id", "since"],
            returning: "",
        };
        let rows = users.iter().map(|user| -> UserRows<'_, 2> {
            (
                &user.id,
                user.follows
                    .iter()
                    .map(|followed| -> [Value<'_>; 2] { [followed, &user.joined] })
                    .collect(),
            )
        });
        self.insert(&into, rows.collect()).await.map(drop)
    }

    /// Each post's id comes from the table's identity column.
    async fn posts(&mut self, users: &[User]) -> Result<Vec<Post>, DemoError> {
        let into = Target {
            table: "posts",
            user: "user_id",
            columns: ["title", "body", "likes", "posted"],
            returning: " RETURNING id",
        };
        let mut written: Vec<Vec<Post>> = users.iter().map(posts_of).collect();
        let rows = users
            .iter()
            .zip(&written)
            .map(|(user, posts)| -> UserRows<'_, 4> {
                (&user.id, posts.iter().map(Post::row).collect())
            });
        let stored = self.insert(&into, rows.collect()).await?;
        for (post, row) in written.iter_mut().flatten().zip(stored.iter().flatten()) {
            post.id = row.try_get(0).map_err(|source| DemoError::Load {
                table: "posts",
                source,
            })?;
        }
        Ok(written.into_iter().flatten().collect())
    }

    async fn timelines(&mut self, users: &[User], posts: &[Post]) -> Result<(), DemoError> {
        let into = Target {
            table: "timelines",
            user: "user_id",
            columns: ["posted", "author_id", "post_id", "title"],
            returning: "",
        };
        let rows = users.iter().map(|user| -> UserRows<'_, 4> {
            let read = posts
                .iter()
                .filter(|post| user.follows.contains(&post.author));
            (&user.id, read.map(Post::entry).collect())
        });
        self.insert(&into, rows.collect()).await.map(drop)
    }

    /// One INSERT per user, as a pipeline. The user's id is one parameter for all the rows, so that the statement is
    /// seen to belong to one shard.
    async fn insert<const N: usize>(
        &mut self,
        into: &Target<N>,
        batches: Vec<UserRows<'_, N>>,
    ) -> Result<Vec<Vec<Row>>, DemoError> {
        let failed = |source| DemoError::Load {
            table: into.table,
            source,
        };
        let mut statements: HashMap<usize, Statement> = HashMap::new();
        let batches: Vec<_> = batches
            .into_iter()
            .filter(|(_, rows)| !rows.is_empty())
            .collect();
        for (_, rows) in &batches {
            self.rows += rows.len();
            if let Entry::Vacant(place) = statements.entry(rows.len()) {
                let text = into.text(rows.len());
                place.insert(self.client.prepare(&text).await.map_err(failed)?);
            }
        }
        let client = self.client;
        let runs = batches.iter().map(|(user, rows)| {
            let statement = &statements[&rows.len()];
            let values: Vec<Value<'_>> = std::iter::once(*user as Value<'_>)
                .chain(rows.iter().flatten().copied())
                .collect();
            async move { client.query(statement, &values).await }
        });
        stream::iter(runs)
            .buffered(PIPELINE_MAX)
            .try_collect()
            .await
            .map_err(failed)
    }
}

impl<const N: usize> Target<N> {
    /// The INSERT of so many rows: `VALUES ($1, $2, $3), ($1, $4, $5) …`.
    fn text(&self, rows: usize) -> String {
        let row = |row: usize| {
            let values: Vec<String> = (0..N)
                .map(|column| format!("${}", row * N + column + 2))
                .collect();
            format!("($1, {})", values.join(", "))
        };
        let rows: Vec<String> = (0..rows).map(row).collect();
        let (table, user, columns) = (self.table, self.user, self.columns.join(", "));
        format!(
            "INSERT INTO {table} ({user}, {columns}) VALUES {}{}",
            rows.join(", "),
            self.returning
        )
    }
}

/// What the vertical shards hold of a user.
struct Life {
    bio: String,
    interests: Vec<&'static str>,
    theme: &'static str,
    notifications: bool,
    events: Vec<(&'static str, SystemTime)>,
}

impl Life {
    fn of(user: &User) -> Self {
        let mut dice = Dice::new(1_000_000 + number_of(user.id));
        let interests = vec![dice.pick(TOPICS), dice.pick(TOPICS)];
        Self {
            bio: format!("{} writes about {}.", user.name, interests[0]),
            interests,
            theme: dice.pick(&["light", "dark"]),
            notifications: dice.below(4) > 0,
            events: (0..5)
                .map(|_| (dice.pick(KINDS), user.some_time(&mut dice)))
                .collect(),
        }
    }
}

fn posts_of(user: &User) -> Vec<Post> {
    let mut dice = Dice::new(2_000_000 + number_of(user.id));
    let count = 2 + dice.below(5);
    let write = |_| {
        let topic = dice.pick(TOPICS);
        let title = format!("{} {topic}", dice.pick(OPENINGS));
        let body = format!("{title} by {}: more about {topic} soon.", user.name);
        let likes = i32::try_from(dice.below(200)).unwrap_or(0);
        Post {
            author: user.id,
            id: 0,
            title,
            body,
            likes,
            posted: user.some_time(&mut dice),
        }
    };
    (0..count).map(write).collect()
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
