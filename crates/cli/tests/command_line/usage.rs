//! What is typed wrongly. The texts are those that Celery 5.7.0 prints, but for the program's name.

use crate::process::{Start, adder};

const WORKER: &str = "Usage: adder worker [OPTIONS]\nTry 'adder worker --help' for help.\n\n";
const CALL: &str = "Usage: adder call [OPTIONS] NAME\nTry 'adder call --help' for help.\n\n";
const PROGRAM: &str =
    "Usage: adder [OPTIONS] [COMMAND] [ARGS]...\nTry 'adder --help' for help.\n\n";

/// Nothing on stdout, this on stderr, exit code 2.
fn check(line: &str, usage: &str, error: &str) {
    let ended = adder(line);
    assert_eq!(
        ended.stderr,
        format!("{usage}Error: {error}\n"),
        "adder {line}"
    );
    assert_eq!(ended.stdout, "", "adder {line}");
    assert_eq!(ended.code, Some(2), "adder {line}");
}

#[test]
fn an_option_that_does_not_exist_is_refused_with_the_nearest_one() {
    check(
        "worker --foo",
        WORKER,
        "No such option '--foo'. Did you mean '--pool'?",
    );
    check(
        "worker --concurency 3",
        WORKER,
        "No such option '--concurency'. Did you mean '--concurrency'?",
    );
    check("worker -Z", WORKER, "No such option '-Z'.");
    check("--xyzzy worker", PROGRAM, "No such option '--xyzzy'.");
    check(
        "--brokr=redis://:secret@h worker",
        PROGRAM,
        "No such option '--brokr'. Did you mean '--broker'?",
    );
}

#[test]
fn a_command_that_does_not_exist_is_refused_with_the_nearest_one() {
    check(
        "wroker",
        PROGRAM,
        "No such command 'wroker'.\n\nDid you mean one of these?\n    worker",
    );
    check("xyzzy", PROGRAM, "No such command 'xyzzy'.");
}

#[test]
fn an_app_that_this_program_does_not_have_is_refused() {
    let error = "\nUnable to load celery application.\nThe module nope was not found.\nThis program has adder.";
    check("-A nope worker", PROGRAM, error);
    check("worker --app=nope:app", PROGRAM, error);
    let ended = Start::new("adder", ["worker"])
        .env("CELERY_APP", "nope")
        .run();
    assert_eq!(ended.stderr, format!("{PROGRAM}Error: {error}\n"));
    let known = adder("-A adder:app --workdir /nowhere worker");
    assert!(
        known.stderr.contains("cannot change to the directory"),
        "{known:?}"
    );
}

#[test]
fn a_wrong_value_is_named_with_its_option() {
    for (line, error) in [
        (
            "worker -l bogus",
            "Invalid value for '-l' / '--loglevel': 'BOGUS' is not one of 'DEBUG', 'INFO', 'WARNING', 'ERROR', \
             'CRITICAL', 'FATAL'.",
        ),
        (
            "worker -c x",
            "Invalid value for '-c' / '--concurrency': must be a non-negative integer or 'auto', got 'x'",
        ),
        (
            "worker -c -3",
            "Invalid value for '-c' / '--concurrency': must be a non-negative integer or 'auto', got '-3'",
        ),
        (
            "worker -P nope",
            "Invalid value for '-P' / '--pool': 'nope' is not one of 'prefork', 'eventlet', 'gevent', 'solo', \
             'processes', 'threads', 'custom'.",
        ),
        (
            "worker -O x",
            "Invalid value for '-O' / '--optimization': 'x' is not one of 'default', 'fair'.",
        ),
        (
            "worker --prefetch-multiplier x",
            "Invalid value for '--prefetch-multiplier': 'x' is not a valid integer.",
        ),
        (
            "worker -Q a -X a",
            "Invalid value for '-X' / '--exclude-queues': no queue is left to take from.",
        ),
    ] {
        check(line, WORKER, error);
    }
    check(
        "call t -a {}",
        CALL,
        "Invalid value for '-a' / '--args': {} was not an array",
    );
    check(
        "call t --kwargs []",
        CALL,
        "Invalid value for '-k' / '--kwargs': [] was not an object",
    );
    check(
        "call t --priority 300",
        CALL,
        "Invalid value for '--priority': 300 is not in the range 0<=x<=255.",
    );
}

#[test]
fn what_is_missing_or_too_much_is_named() {
    check("worker -c", "", "Option '-c' requires an argument.");
    check(
        "worker --concurrency",
        "",
        "Option '--concurrency' requires an argument.",
    );
    check("call", CALL, "Missing argument 'NAME'.");
    check(
        "worker extra",
        WORKER,
        "Got unexpected extra argument (extra)",
    );
}

#[test]
fn options_come_from_celerys_variables_too_and_an_empty_one_is_none() {
    let ended = Start::new("adder", ["worker"])
        .env("CELERY_WORKER_CONCURRENCY", "many")
        .run();
    assert!(ended.stderr.contains("got 'many'"), "{ended:?}");
    assert_eq!(ended.code, Some(2));
    let ended = Start::new("adder", ["worker", "-O", "x"])
        .env("CELERY_WORKER_CONCURRENCY", "")
        .run();
    assert!(
        ended.stderr.contains("'-O' / '--optimization'"),
        "{ended:?}"
    );
}

#[test]
fn without_a_command_it_prints_its_help_and_with_version_its_version() {
    for line in ["", "-A adder", "--help"] {
        let ended = adder(line);
        assert!(
            ended.stdout.contains("Usage: adder [OPTIONS] [COMMAND]"),
            "{ended:?}"
        );
        assert!(ended.stdout.contains("Exit codes:"), "{ended:?}");
        assert_eq!((ended.stderr.as_str(), ended.code), ("", Some(0)), "{line}");
    }
    let version = format!("{} (adder)\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(adder("--version").stdout, version);
}

#[test]
fn the_examples_of_the_help_are_understood() {
    for command in ["worker", "call"] {
        let help = adder(&format!("{command} --help")).stdout;
        let lines: Vec<&str> = help
            .lines()
            .filter_map(|line| line.trim().split_once("adder -A adder "))
            .map(|(_, arguments)| arguments)
            .collect();
        assert!(lines.len() > 1, "{help}");
        for line in lines {
            // Two options more: the broker is away, so that every command ends, and how says whether it
            // was understood.
            let script = format!(
                "exec {} -b redis://127.0.0.1:1/0 --workdir /nowhere {line}",
                crate::process::example("adder").display()
            );
            let shell = std::process::Command::new("sh")
                .arg("-c")
                .arg(&script)
                .output()
                .unwrap();
            let stderr = String::from_utf8_lossy(&shell.stderr);
            assert!(
                stderr.contains("cannot change to the directory /nowhere"),
                "{line}: {stderr}"
            );
        }
    }
}

#[test]
fn a_reader_that_has_gone_away_is_no_panic() {
    assert_eq!(
        Start::new("adder", ["--help"]).run_without_readers(),
        Some(0)
    );
    assert_eq!(
        Start::new("adder", ["wroker"]).run_without_readers(),
        Some(2)
    );
}
