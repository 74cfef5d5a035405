//! The soak: files of all kinds arrive while everything dies, again and again, in an order that the seed decides.
//!
//! `SOAK_SECONDS` (180) and `SOAK_SEED` (by the clock) are printed at the start. The same seed kills in the same order
//! after the same waits; what that meets is the machine's affair.

use std::io::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use celeriac_tests::files::{Fate, Files};
use celeriac_tests::kafka::Topic;
use celeriac_tests::pipeline::{Pipeline, Role};
use celeriac_tests::postgres::Database;
use celeriac_tests::private::PrivateServer;
use celeriac_tests::process::Process;
use celeriac_tests::random::Random;
use celeriac_tests::sensor_file::{bad, good};
use uuid::Uuid;

use crate::Row;

/// How long, by default, in seconds.
const SECONDS: u32 = 180;

/// Everything comes back soon.
const SETTINGS: &str = "[broker_transport_options]
visibility_timeout = 4
unacked_restore_interval = 1
[pipeline]
settle_ms = 100
rescan_ms = 1000
[kafka]
\"session.timeout.ms\" = 6000
";

/// Two workers, so that one works while the other is dead.
const PROGRAMS: [(&str, Role); 4] = [
    ("producer", Role::Producer),
    ("consumer", Role::Consumer),
    ("worker1", Role::Worker),
    ("worker2", Role::Worker),
];

pub(crate) fn rows() -> Vec<Row> {
    vec![Row::long("soak::everything_dies_again_and_again", soak)]
}

fn number(variable: &str, default: u32) -> u32 {
    let given = std::env::var(variable).ok();
    given.map_or(default, |text| text.parse().expect("a number below 2^32"))
}

async fn soak() {
    let by_chance = u32::from_le_bytes(Uuid::new_v4().as_bytes()[..4].try_into().expect("four"));
    let (seconds, seed) = (
        number("SOAK_SECONDS", SECONDS),
        number("SOAK_SEED", by_chance),
    );
    say(&format!("soak: SOAK_SECONDS={seconds} SOAK_SEED={seed}"));
    let postgres = Arc::new(PrivateServer::postgres());
    let kafka = Arc::new(PrivateServer::kafka());
    let database = Database::create_on(postgres.address()).await;
    let topic = Topic::create_on(kafka.address(), 2).await;
    let mut pipeline = Pipeline::with(database, topic, SETTINGS).await;
    let mut nemesis = Nemesis {
        random: Random::new(seed),
        postgres,
        kafka,
        programs: Vec::new(),
        diary: Diary::new(),
    };
    for (name, role) in PROGRAMS {
        nemesis.programs.push(start(&pipeline, name, role));
    }
    let until = Instant::now() + Duration::from_secs(seconds.into());
    let dropping = drop_files(Files::new(pipeline.data()), Random::new(!seed), until);
    let (files, ()) = tokio::join!(dropping, nemesis.rage(&mut pipeline, until));
    nemesis.diary.note(&format!("{} files", files.all().len()));
    pipeline.check(&files).await;
    assert!(nemesis.diary.lines.len() > 2, "nothing has been killed");
}

/// A file now and then: small and large ones, bad ones, copies; the names are never used again.
async fn drop_files(mut files: Files, mut random: Random, until: Instant) -> Files {
    let mut contents = Vec::new();
    for number in 0.. {
        if Instant::now() >= until {
            break;
        }
        let name = format!("{number}.csv");
        match random.below(40) {
            0..8 => files.drop(&name, bad(number), Fate::Bad),
            8..12 if !contents.is_empty() => {
                let earlier = contents[random.below(contents.len())];
                files.drop_good(&name, earlier, 20);
            }
            12 => files.drop_good(&name, number, 20_000),
            13..17 => {
                let text = good(number, 30);
                files.write_in_place(&name, text.into());
            }
            _ => {
                files.drop_good(&name, number, 20);
                contents.push(number);
            }
        }
        wait_ms(&mut random, 400).await;
    }
    files
}

async fn wait_ms(random: &mut Random, most: usize) {
    tokio::time::sleep(Duration::from_millis(random.below(most) as u64)).await;
}

fn start(pipeline: &Pipeline, name: &str, role: Role) -> Process {
    Process::start(
        pipeline.directory(),
        name,
        &mut pipeline.command(role.args()),
    )
}

/// Who can be killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    Program(usize),
    Postgres,
    Kafka,
    Redis,
}

/// Kills, waits, and starts again.
struct Nemesis {
    random: Random,
    postgres: Arc<PrivateServer>,
    kafka: Arc<PrivateServer>,
    programs: Vec<Process>,
    diary: Diary,
}

impl Nemesis {
    async fn rage(&mut self, pipeline: &mut Pipeline, until: Instant) {
        while Instant::now() < until {
            wait_ms(&mut self.random, 4000).await;
            self.all_programs_run();
            let victims = self.victims();
            self.diary.note(&format!("kill {victims:?}"));
            for victim in &victims {
                self.kill(pipeline, *victim).await;
            }
            wait_ms(&mut self.random, 3000).await;
            for victim in &victims {
                self.revive(pipeline, *victim).await;
            }
            self.diary.note("all are started again");
        }
    }

    /// One to three; programs more often than servers, which take seconds to start.
    fn victims(&mut self) -> Vec<Victim> {
        let mut victims = Vec::new();
        for _ in 0..=self.random.below(3) {
            let victim = match self.random.below(10) {
                0 => Victim::Postgres,
                1 => Victim::Kafka,
                2 | 3 => Victim::Redis,
                program => Victim::Program(program % PROGRAMS.len()),
            };
            if !victims.contains(&victim) {
                victims.push(victim);
            }
        }
        victims
    }

    async fn kill(&mut self, pipeline: &mut Pipeline, victim: Victim) {
        match victim {
            Victim::Program(at) => self.programs[at].kill(),
            Victim::Postgres => on_server(&self.postgres, PrivateServer::kill).await,
            Victim::Kafka => on_server(&self.kafka, PrivateServer::kill).await,
            Victim::Redis => pipeline.redis.kill(),
        }
    }

    async fn revive(&mut self, pipeline: &mut Pipeline, victim: Victim) {
        match victim {
            Victim::Program(at) => {
                let (name, role) = PROGRAMS[at];
                self.programs[at] = start(pipeline, name, role);
            }
            Victim::Postgres => on_server(&self.postgres, PrivateServer::restart).await,
            Victim::Kafka => on_server(&self.kafka, PrivateServer::restart).await,
            Victim::Redis => pipeline.redis.restart().await,
        }
    }

    /// None ends by itself, whatever server is away.
    fn all_programs_run(&mut self) {
        for (program, (name, _)) in self.programs.iter_mut().zip(PROGRAMS) {
            let ended = program.has_ended();
            assert_eq!(ended, None, "{name} has ended by itself");
        }
    }
}

/// The script that starts servers takes seconds, in which files go on arriving.
async fn on_server(server: &Arc<PrivateServer>, act: fn(&PrivateServer)) {
    let server = Arc::clone(server);
    let acting = tokio::task::spawn_blocking(move || act(&server));
    acting.await.expect("the server obeys");
}

/// What happened when; shown when the test fails.
struct Diary {
    start: Instant,
    lines: Vec<String>,
}

impl Diary {
    fn new() -> Self {
        Self {
            start: Instant::now(),
            lines: Vec::new(),
        }
    }

    fn note(&mut self, what: &str) {
        let seconds = self.start.elapsed().as_secs_f32();
        self.lines.push(format!("{seconds:7.2} {what}"));
    }
}

impl Drop for Diary {
    fn drop(&mut self) {
        if std::thread::panicking() {
            say(&self.lines.join("\n"));
        }
    }
}

fn say(text: &str) {
    // The test does not depend on whether anybody reads it.
    std::io::stderr()
        .write_all(format!("{text}\n").as_bytes())
        .ok();
}
