//! Passwords do not stay where everyone can read them.

use std::fs;

use rustix::process::Signal;

use crate::process::{NO_BROKER, Start};

const REFUSED: &str = "Cannot connect to";

#[test]
fn a_password_typed_as_a_flag_is_not_in_the_list_of_processes() {
    let worker = Start::new(
        "adder",
        [
            "-A",
            "adder",
            "-b",
            NO_BROKER,
            "worker",
            "--result-backend",
            NO_BROKER,
            "-l",
            "info",
        ],
    )
    .spawn();
    worker.wait_for(REFUSED);
    let read = |file: &str| {
        let bytes = fs::read(format!("/proc/{}/{file}", worker.id())).unwrap();
        String::from_utf8_lossy(&bytes).replace('\0', " ")
    };
    let arguments = read("cmdline");
    assert!(
        arguments.ends_with("adder -A adder worker -l info "),
        "{arguments}"
    );
    let environment = read("environ");
    for variable in ["CELERY_BROKER_URL", "CELERY_RESULT_BACKEND"] {
        assert!(
            environment.contains(&format!("{variable}={NO_BROKER}")),
            "{environment}"
        );
    }
    worker.signal(Signal::TERM);
    let ended = worker.wait();
    assert!(!format!("{ended:?}").contains("secret"), "{ended:?}");
}

#[test]
fn a_flag_with_a_password_still_wins_over_the_environment() {
    let worker = Start::new("adder", ["-b", NO_BROKER, "worker"])
        .env("BROKER_URL", "redis://127.0.0.1:2/0")
        .env("CELERY_BROKER_URL", "redis://127.0.0.1:3/0")
        .spawn();
    worker.wait_for("Cannot connect to redis://:**@127.0.0.1:1/0");
}

#[test]
fn an_option_of_the_programs_own_is_moved_too() {
    let url = "postgres://user:secret@h/db";
    let ticker = Start::new("ticker", ["tick", "--where", url]).spawn();
    ticker.wait_for("is_somewhere=true");
    let arguments = fs::read(format!("/proc/{}/cmdline", ticker.id())).unwrap();
    let arguments = String::from_utf8_lossy(&arguments).replace('\0', " ");
    assert!(arguments.ends_with("ticker tick "), "{arguments}");
    let help = Start::new("ticker", ["tick", "--help"])
        .env("TICKER_URL", url)
        .run();
    assert!(
        help.stdout.contains("TICKER_URL") && !help.stdout.contains("secret"),
        "{help:?}"
    );
}
