//! What is typed or set wrongly, and services that are away: one clear line, Celery's exit code, no password, no panic.

use std::path::Path;
use std::process::{Command, Output};

use celeriac_tests::process::Process;
use celeriac_tests::programs::program;
use rustix::process::Signal;
use tempfile::TempDir;

const PASSWORD: &str = "geheim";

/// A port on which nobody listens.
const KAFKA_AWAY: (&str, &str) = ("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1");
const REDIS_AWAY: (&str, &str) = ("CELERY_BROKER_URL", "redis://:geheim@127.0.0.1:1/0");

/// One call in a directory that has `data/new.csv`, with an environment of its own.
struct Call<'a> {
    line: &'a str,
    variables: &'a [(&'a str, &'a str)],
    /// `celeriac.toml`.
    settings: &'a str,
}

impl Call<'_> {
    fn prepare(&self, directory: &Path) -> Command {
        std::fs::create_dir(directory.join("data")).expect("a directory");
        std::fs::write(directory.join("data/new.csv"), "x").expect("room");
        std::fs::write(directory.join("celeriac.toml"), self.settings).expect("room");
        let mut command = Command::new(program("celeriac"));
        command
            .args(self.line.split(' '))
            .current_dir(directory)
            .env_clear();
        command.envs(self.variables.iter().copied());
        command
    }

    /// Runs it to its end. The error is one paragraph at the end of stderr, and nothing behind it.
    fn fails(&self, code: i32, error: &str) {
        let directory = TempDir::new().expect("a directory");
        let output = self.prepare(directory.path()).output().expect("it runs");
        let Output {
            status,
            stdout,
            stderr,
        } = &output;
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        let (stdout, stderr) = (text(stdout), text(stderr));
        let shown = format!("{}\n{stdout}{stderr}", self.line);
        assert_eq!(status.code(), Some(code), "{shown}");
        assert!(
            stderr.ends_with(&format!("Error: {error}\n")),
            "{shown}\nexpected: {error}"
        );
        assert_eq!(stderr.matches("Error: ").count(), 1, "{shown}");
        check_output(&shown);
    }
}

fn check_output(output: &str) {
    for word in [PASSWORD, "panicked", "RUST_BACKTRACE"] {
        assert!(!output.contains(word), "{word} in\n{output}");
    }
}

fn with_variables(line: &str, variables: &[(&str, &str)], code: i32, error: &str) {
    let settings = "";
    Call {
        line,
        variables,
        settings,
    }
    .fails(code, error);
}

fn with_settings(line: &str, settings: &str, error: &str) {
    let variables = &[];
    Call {
        line,
        variables,
        settings,
    }
    .fails(1, error);
}

#[test]
fn a_typing_error_is_named_with_what_was_meant() {
    let check = |line, error| with_variables(line, &[], 2, error);
    check(
        "produce --onec",
        "No such option '--onec'. Did you mean '--once'?",
    );
    check(
        "consume --topci x",
        "No such option '--topci'. Did you mean '--topic'?",
    );
    check(
        "-A worker.tasks worker --concurency 2",
        "No such option '--concurency'. Did you mean '--concurrency'?",
    );
    check(
        "produce --settle-ms soon",
        "Invalid value for '--settle-ms': 'soon' is not a valid integer.",
    );
}

#[test]
fn a_service_that_is_away_ends_what_does_not_wait_for_it() {
    with_variables(
        "db migrate",
        &[("DATABASE_URL", "postgres://u:geheim@127.0.0.1:1/x")],
        69,
        "cannot reach PostgreSQL at postgres://u:**@127.0.0.1:1/x: error communicating with database: \
         Connection refused (os error 111); is it up?",
    );
    with_variables(
        "produce --once --timeout 1 --settle-ms 50",
        &[KAFKA_AWAY],
        69,
        "Kafka at 127.0.0.1:1 has acknowledged nothing for 1 s; 1 files are not announced; is it up?",
    );
}

#[tokio::test]
async fn a_service_that_is_away_is_waited_for_with_a_line_that_says_so() {
    let cases: [(&str, &[_], &str); 3] = [
        (
            "produce",
            &[KAFKA_AWAY],
            "Kafka at 127.0.0.1:1 is not available",
        ),
        (
            "consume",
            &[KAFKA_AWAY, REDIS_AWAY],
            "Kafka at 127.0.0.1:1 is not available",
        ),
        (
            "-A worker.tasks worker",
            &[REDIS_AWAY],
            "Cannot connect to redis://:**@127.0.0.1:1/0: Connection refused (os error 111). \
             Trying again in 2.00 seconds... (1/100)",
        ),
    ];
    for (line, variables, expected) in cases {
        let directory = TempDir::new().expect("a directory");
        let call = Call {
            line,
            variables,
            settings: "",
        };
        let mut command = call.prepare(directory.path());
        let mut process = Process::start(directory.path(), "program", &mut command);
        process.says(expected).await;
        process.signal(Signal::TERM);
        assert_eq!(process.ends().await.code(), Some(0), "{}", process.log());
        assert_eq!(
            process.log().matches(expected).count(),
            1,
            "{}",
            process.log()
        );
        check_output(&process.log());
    }
}

#[test]
fn a_watch_directory_that_is_not_there_is_named() {
    with_variables(
        "produce",
        &[("WATCH_DIR", "no/such")],
        1,
        "the watch directory \"no/such\" does not exist; create it, or name another one with --watch-dir or WATCH_DIR",
    );
}

#[test]
fn an_address_that_cannot_be_used_is_shown_without_its_password() {
    let check = |line: &str, variable: (&str, &str), error: &str| {
        with_variables(line, &[variable], 1, error);
    };
    for line in ["consume", "-A worker.tasks worker"] {
        check(
            line,
            ("CELERY_BROKER_URL", "foo://:geheim@host/0"),
            "invalid broker URL foo://:**@host/0: scheme \"foo\" is not supported; use redis://, rediss://, redis+socket:// or sentinel://",
        );
    }
    for line in ["db migrate", "-A worker.tasks worker"] {
        let place = if line == "db migrate" {
            ""
        } else {
            "the settings of the tasks: "
        };
        check(
            line,
            ("DATABASE_URL", "mysql://u:geheim@host/x"),
            &format!(
                "{place}DATABASE_URL is not a PostgreSQL URL such as postgres://user:**@host:5432/database"
            ),
        );
    }
    check(
        "consume",
        ("KAFKA_BOOTSTRAP_SERVERS", "user:geheim@host:9092x"),
        "\"**@host:9092x\" is no address of Kafka: expected host:port, several with commas",
    );
}

#[test]
fn a_setting_that_cannot_be_used_is_named_with_its_file() {
    with_settings(
        "consume",
        "[kafka]\ntopics = 'x'\n",
        "celeriac.toml: unknown setting kafka.topics; did you mean kafka.topic?",
    );
    with_settings(
        "-A worker.tasks worker",
        "worker_concurency = 2\n",
        "celeriac.toml: unknown setting worker_concurency; did you mean worker_concurrency?",
    );
    with_settings(
        "produce",
        "[pipeline]\nsettle_ms = 'soon'\n",
        "celeriac.toml: pipeline.settle_ms: expected a number of 0 or more",
    );
    with_settings(
        "produce --once",
        "[kafka]\n\"queue.buffering.max.ms\" = 'geheim'\n",
        "[kafka] \"queue.buffering.max.ms\": Invalid value for configuration property \"queue.buffering.max.ms\"",
    );
}
