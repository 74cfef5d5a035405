//! The README says what is so: its commands are run as they stand there, and its program is the example.

use std::process::{Command, Stdio};

use celeriac_tests::eventually::eventually;
use celeriac_tests::pipeline::{FATE_PATIENCE, Pipeline};
use celeriac_tests::process::Process;
use celeriac_tests::programs::program;
use celeriac_tests::{root, service};

/// What prepares the stage: the services run, the programs are built, and the pipeline's addresses are a test's own.
const STAGE: [&str; 4] = ["make up", "cargo build ", "eval \"$(", "export PATH="];

/// The commands that run until they are stopped, and what they say when they work.
const SERVICES: [(&str, &str); 4] = [
    ("celeriac produce", "Watching"),
    ("celeriac consume", "Consuming the partitions"),
    ("celeriac -A worker.tasks worker", " ready."),
    ("PYTHONPATH=", " ready."),
];

fn readme() -> String {
    std::fs::read_to_string(root().join("README.md")).expect("there is a README")
}

/// The code in this language below this heading, up to the next one.
fn code(heading: &str, language: &str) -> Vec<String> {
    let text = readme();
    let (_, section) = text
        .split_once(&format!("\n## {heading}\n"))
        .expect(heading);
    let section = section.split("\n## ").next().unwrap_or_default();
    let blocks = section.split("```").skip(1).step_by(2);
    let blocks = blocks.filter_map(|block| block.strip_prefix(&format!("{language}\n")));
    blocks.map(str::to_owned).collect()
}

/// Runs these lines as a person would, each part of the pipeline in a shell of its own.
async fn type_in(pipeline: &Pipeline, lines: &str, running: &mut Vec<Process>) {
    let mut script = String::new();
    for line in lines.lines() {
        if STAGE.iter().any(|stage| line.starts_with(stage)) {
            // What stands behind it on the same line is typed all the same.
            script.push_str(line.split_once(" && ").map_or("", |(_, rest)| rest));
        } else if let Some((_, says)) = SERVICES.iter().find(|(text, _)| line.starts_with(text)) {
            run(pipeline, &std::mem::take(&mut script));
            let name = format!("shell-{}", running.len());
            let command = shell(pipeline, &format!("exec env {line}"));
            running.push(pipeline.started(&name, command, says).await);
        } else {
            script.push_str(line);
        }
        script.push('\n');
    }
    run(pipeline, &script);
}

fn run(pipeline: &Pipeline, script: &str) {
    let output = shell(pipeline, script).stdin(Stdio::null()).output();
    let output = output.expect("bash runs");
    assert!(output.status.success(), "{script}\n{output:?}");
}

/// A shell in the pipeline's directory, which has the checkout's Python beside its own files.
fn shell(pipeline: &Pipeline, script: &str) -> Command {
    let programs = program("celeriac");
    let programs = programs.parent().expect("it is in a directory");
    let path = format!(
        "{}:{}",
        programs.display(),
        std::env::var("PATH").expect("a PATH")
    );
    let mut command = Command::new("bash");
    pipeline.prepare(&mut command);
    command
        .args(["-euo", "pipefail", "-c", script])
        .env("PATH", path)
        .env("CELERIAC_PYTHON", service("CELERIAC_PYTHON"))
        .env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

#[tokio::test]
async fn every_command_of_the_readme_does_what_it_says() {
    let pipeline = Pipeline::new("").await;
    std::os::unix::fs::symlink(
        root().join("python_interop"),
        pipeline.path("python_interop"),
    )
    .expect("a test's directory can be written");
    let mut running = Vec::new();
    for block in code("Running each part by hand", "sh") {
        type_in(&pipeline, &block, &mut running).await;
    }
    assert_eq!(running.len(), 3, "producer, consumer, worker");
    let ledger = pipeline.ledger_of(1).await;
    assert_eq!(
        (&*ledger[0].file_name, &*ledger[0].state),
        ("split_1.csv", "loaded")
    );
    running.clear();

    for block in code("A mixed fleet", "sh") {
        type_in(&pipeline, &block, &mut running).await;
    }
    assert_eq!(running.len(), 2, "a worker of each language");
    eventually("one of them has run it", FATE_PATIENCE, async || {
        let has_run = |worker: &Process| worker.log().contains("] succeeded in ");
        running.iter().any(has_run).then_some(())
    })
    .await;
    pipeline.check_tables().await;
}

#[test]
fn the_program_in_the_readme_is_the_example() {
    let example = std::fs::read_to_string(root().join("crates/cli/examples/adder.rs"));
    let example = example.expect("there is an example");
    let shown = code("Adding your own task", "rust");
    assert_eq!(shown.len(), 1);
    assert!(example.ends_with(&shown[0]), "{example}\n---\n{}", shown[0]);
}
