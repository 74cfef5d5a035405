//! What is set wrongly, and services that are not there: one line on stderr, exit code 1 as Celery's.

use crate::process::{Ended, NO_BROKER, Start, adder};

fn check(ended: &Ended, error: &str) {
    assert_eq!(ended.stderr, format!("Error: {error}\n"));
    assert_eq!((ended.stdout.as_str(), ended.code), ("", Some(1)));
}

#[test]
fn a_setting_that_does_not_exist_is_refused_with_file_and_nearest_name() {
    let start = Start::new("adder", ["call", "t"]);
    check(
        &start.file("celeriac.toml", "worker_concurency = 2\n").run(),
        "celeriac.toml: unknown setting worker_concurency; did you mean worker_concurrency?",
    );
}

#[test]
fn a_wrong_value_is_refused_with_what_is_expected() {
    let start = Start::new("adder", ["--config", "w.toml", "call", "t"]);
    check(
        &start.file("w.toml", "task_acks_late = 1\n").run(),
        "w.toml: task_acks_late = 1: expected true or false",
    );
}

#[test]
fn a_settings_file_that_was_named_and_is_missing_is_an_error() {
    let error = "cannot read the settings file nope.toml: No such file or directory (os error 2)";
    check(&adder("--config nope.toml call t"), error);
    check(
        &Start::new("adder", ["call", "t"])
            .env("CELERIAC_CONFIG", "nope.toml")
            .run(),
        error,
    );
}

#[test]
fn a_missing_directory_is_an_error() {
    check(
        &adder("--workdir /nowhere call t"),
        "cannot change to the directory /nowhere: No such file or directory (os error 2)",
    );
}

#[test]
fn a_bad_url_is_an_error_wherever_it_comes_from() {
    check(
        &adder("-b notaurl call t"),
        "--broker: broker_url = \"notaurl\": expected a URL like \"redis://host:6379/0\"",
    );
    check(
        &Start::new("adder", ["call", "t"])
            .env("CELERY_BROKER_URL", "redis//:secret@h")
            .run(),
        "environment variable CELERY_BROKER_URL: broker_url = \"**@h\": expected a URL like \"redis://host:6379/0\"",
    );
    let ended = adder("-b bogus://:secret@h/ call t");
    assert!(ended.stderr.starts_with("Error: "), "{ended:?}");
    assert!(ended.stderr.contains("bogus://:**@h/"), "{ended:?}");
    assert_eq!(
        (ended.stderr.lines().count(), ended.code),
        (1, Some(1)),
        "{ended:?}"
    );
}

#[test]
fn call_says_in_one_line_that_the_broker_is_away() {
    let ended = Start::new("adder", ["call", "t"])
        .env("CELERY_BROKER_URL", NO_BROKER)
        .run();
    assert!(
        ended
            .stderr
            .starts_with("Error: cannot send task t to redis://"),
        "{ended:?}"
    );
    assert!(ended.stderr.contains("Connection refused"), "{ended:?}");
    assert!(!ended.stderr.contains("secret"), "{ended:?}");
    assert_eq!(
        (ended.stderr.lines().count(), ended.code),
        (1, Some(1)),
        "{ended:?}"
    );
}
