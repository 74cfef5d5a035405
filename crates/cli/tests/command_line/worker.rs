//! A worker whose broker is away: it starts, says so, tries again, and stops when it is told to.

use std::fs;

use rustix::process::Signal;
use serde_json::Value;

use crate::process::{Ended, NO_BROKER, Process, Start};

const REFUSED: &str = "Cannot connect to";
const TRYING: &str = "consumer: Cannot connect to redis://:**@127.0.0.1:1/0: ";

fn worker(args: &[&str]) -> Start {
    let args = ["-A", "adder", "worker", "-n", "w1@lab"].iter().chain(args);
    Start::new("adder", args).env("CELERY_BROKER_URL", NO_BROKER)
}

fn trying(start: Start) -> Process {
    let process = start.spawn();
    process.wait_for(REFUSED);
    process
}

fn check_stop(signals: &[Signal], start: Start, lines: &[&str], code: i32) {
    let process = trying(start);
    for signal in signals {
        process.signal(*signal);
    }
    let Ended {
        stdout,
        code: ended,
        ..
    } = process.wait();
    let expected: String = lines.iter().map(|line| format!("\n{line}\n")).collect();
    assert_eq!(stdout, expected, "{signals:?}");
    assert_eq!(ended, Some(code), "{signals:?}");
}

#[test]
fn the_banner_is_on_stdout_and_the_log_on_stderr() {
    let process = trying(
        worker(&["-l", "InFo", "-c", "3", "-P", "prefork", "-Q", "b,a"])
            .env("CELERY_WORKER_TASK_EVENTS", "yes"),
    );
    process.signal(Signal::TERM);
    let Ended {
        code,
        stdout,
        stderr,
    } = process.wait();
    for line in [
        " -------------- w1@lab v",
        "- ** ---------- .> app:         adder\n",
        "- ** ---------- .> transport:   redis://:**@127.0.0.1:1/0\n",
        "- ** ---------- .> results:     disabled://\n",
        "- *** --- * --- .> concurrency: 3 (tokio, for prefork)\n",
        ".> task events: ON\n",
        "                .> a                exchange=a(direct) key=a\n                .> b  ",
        "\n[tasks]\n  . adder.add\n",
        "\nworker: Warm shutdown (MainProcess)\n",
    ] {
        assert!(stdout.contains(line), "{line:?} is not in:\n{stdout}");
    }
    let line = stderr.lines().find(|line| line.contains(REFUSED)).unwrap();
    let (head, message) = line.split_once("] ").unwrap();
    // [2026-11-23 17:43:36,694: ERROR/MainProcess
    assert_eq!(
        head.len(),
        "[2026-11-23 17:43:36,694: ERROR/MainProcess".len(),
        "{line}"
    );
    assert!(head.ends_with(": ERROR/MainProcess"), "{line}");
    assert!(message.starts_with(TRYING), "{line}");
    assert!(
        stderr.contains("Trying again in 2.00 seconds... (1/100)"),
        "{stderr}"
    );
    assert!(
        !stderr.contains('\u{1b}'),
        "colours are for terminals: {stderr}"
    );
    assert_eq!(code, Some(0));
}

#[test]
fn without_info_the_banner_lists_no_tasks() {
    let process = trying(worker(&[]));
    process.wait_for_stdout("[queues]");
    assert!(!process.read("stdout").contains("[tasks]"));
}

#[test]
fn term_is_a_warm_stop_and_ends_with_0() {
    check_stop(
        &[Signal::TERM],
        worker(&["-q"]),
        &["worker: Warm shutdown (MainProcess)"],
        0,
    );
}

#[test]
fn interrupt_is_a_warm_stop_and_ends_with_1() {
    let lines = [
        "worker: Hitting Ctrl+C again will initiate cold shutdown, terminating all running tasks!",
        "worker: Warm shutdown (MainProcess)",
    ];
    check_stop(&[Signal::INT], worker(&["-q"]), &lines, 1);
}

#[test]
fn quit_is_a_cold_stop_and_so_is_term_when_it_is_remapped() {
    let lines = [
        "worker: Hitting Ctrl+C again will terminate all running tasks!",
        "worker: Cold shutdown (MainProcess)",
    ];
    check_stop(&[Signal::QUIT], worker(&["-q"]), &lines, 0);
    let remapped = worker(&["-q"]).env("REMAP_SIGTERM", "SIGQUIT");
    check_stop(&[Signal::TERM], remapped, &lines, 0);
}

#[test]
fn hangup_begins_anew_with_the_same_process_id() {
    let process = trying(worker(&["-q", "--pidfile", "w.pid"]));
    process.signal(Signal::HUP);
    crate::process::eventually("it has begun anew", || {
        (process.read("stderr").matches("(1/100)").count() == 2).then_some(())
    });
    assert_eq!(process.read("w.pid"), format!("{}\n", process.id()));
    process.signal(Signal::TERM);
    let ended = process.wait();
    assert!(
        ended.stdout.starts_with("\nRestarting celery worker\n"),
        "{ended:?}"
    );
    assert_eq!(ended.code, Some(0));
}

#[test]
fn json_lines_have_all_that_the_text_lines_have() {
    let process = trying(worker(&["--log-format", "json"]));
    process.signal(Signal::TERM);
    let stderr = process.wait().stderr;
    let line = stderr.lines().find(|line| line.contains(REFUSED)).unwrap();
    let object: Value = serde_json::from_str(line).unwrap();
    assert_eq!(object["level"], "ERROR");
    assert_eq!(object["process"], "MainProcess");
    assert!(
        object["message"].as_str().unwrap().starts_with(TRYING),
        "{line}"
    );
    assert!(
        object["timestamp"].as_str().unwrap().ends_with('Z'),
        "{line}"
    );
}

#[test]
fn the_log_goes_to_a_file_and_the_process_id_to_another() {
    let process = worker(&["-f", "%n.log", "--pidfile", "%n.pid"]).spawn();
    crate::process::eventually("it logs", || {
        process.read("w1.log").contains(REFUSED).then_some(())
    });
    assert_eq!(process.read("w1.pid"), format!("{}\n", process.id()));
    let second = worker(&[
        "--pidfile",
        process.directory().join("w1.pid").to_str().unwrap(),
    ])
    .run();
    assert!(
        second
            .stderr
            .contains(&format!("already running? (pid: {})", process.id())),
        "{second:?}"
    );
    assert_eq!(second.code, Some(73));
    process.signal(Signal::TERM);
    crate::process::eventually("it removes the pidfile", || {
        fs::metadata(process.directory().join("w1.pid"))
            .is_err()
            .then_some(())
    });
    assert!(!process.wait().stderr.contains(REFUSED));
}

#[test]
fn settings_decide_whether_it_tries_again() {
    let once = "broker_connection_max_retries = 1\n";
    let ended = worker(&[]).file("celeriac.toml", once).run();
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let last = ended.stderr.lines().last().unwrap_or_default();
    assert!(
        last.starts_with("Error: cannot connect to the broker: "),
        "{ended:?}"
    );
}
