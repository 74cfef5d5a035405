//! Tracebacks of Rust tasks, in the form of Python's: people and tools on the other side read that one.
//!
//! Rust has no stack to show for an error that was returned: its causes are what helps, the first one first, as Python
//! shows exceptions that were raised from each other. A panic has a place, and a stack where `RUST_BACKTRACE` asks for it.
//!
//! Counterpart: CPython's `traceback` and `billiard/einfo.py::ExceptionInfo`.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::error::Error;
use std::fmt::Write as _;

use celeriac_protocol::exception::TaskException;

use crate::handler::Outcome;

/// What Python writes between an exception and the one that it was the cause of.
const DIRECT_CAUSE: &str =
    "\nThe above exception was the direct cause of the following exception:\n\n";

/// Causes of causes that are shown; the first ones are left out beyond that.
const CAUSES_MAX: usize = 32;

/// Frames that are shown; the outer ones are left out beyond that.
const FRAMES_MAX: usize = 64;

impl Outcome {
    /// A failure that an error has led to: the traceback shows the error and its causes. An `anyhow::Error` is given as
    /// `error.as_ref()`.
    pub fn failure_from(exception: TaskException, error: &(dyn Error + 'static)) -> Self {
        let traceback = of_causes(&exception, error);
        Self::Failure {
            exception,
            traceback: Some(traceback),
        }
    }
}

/// Where a program has panicked.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) file: String,
    pub(crate) line: u32,
    pub(crate) backtrace: Backtrace,
}

/// The last line of a traceback, and of one that has no other: `worker.errors.BadFile: no header`.
pub(crate) fn one_line(exception: &TaskException) -> String {
    let module = exception.exc_module.as_deref();
    let module = module.filter(|module| *module != "builtins");
    let prefix = module.map_or_else(String::new, |module| format!("{module}."));
    match exception.display() {
        text if text.is_empty() => format!("{prefix}{}\n", exception.exc_type),
        text => format!("{prefix}{}: {text}\n", exception.exc_type),
    }
}

/// That of a retry. Python raises `Retry` while it handles the cause.
pub(crate) fn of_retry(when: &str, cause: Option<&TaskException>) -> String {
    match cause {
        Some(cause) => format!(
            "{}\nDuring handling of the above exception, another exception occurred:\n\n\
             celery.exceptions.Retry: Retry {when}: {}\n",
            one_line(cause),
            cause.repr()
        ),
        None => format!("celery.exceptions.Retry: Retry {when}\n"),
    }
}

/// The error and its causes, and the exception that stands for them.
pub(crate) fn of_causes(exception: &TaskException, error: &(dyn Error + 'static)) -> String {
    let mut causes = Vec::new();
    let mut next = Some(error);
    while let Some(cause) = next.filter(|_| causes.len() < CAUSES_MAX) {
        causes.push(cause.to_string());
        next = cause.source();
    }
    // The error in the exception's own words would be there twice.
    if causes.first() == Some(&exception.display()) {
        causes.remove(0);
    }
    let mut text = String::new();
    for cause in causes.iter().rev() {
        text.push_str(cause.trim_end());
        text.push('\n');
        text.push_str(DIRECT_CAUSE);
    }
    text + &one_line(exception)
}

/// A panic of this task.
pub(crate) fn of_panic(exception: &TaskException, task: &str, place: &Place) -> String {
    let mut text = "Traceback (most recent call last):\n".to_owned();
    let mut frame = |file: &str, line: &str, name: &str| {
        // Writing to a string cannot fail.
        let _infallible = writeln!(text, "  File \"{file}\", line {line}, in {name}");
    };
    let frames = match place.backtrace.status() {
        BacktraceStatus::Captured => frames(&place.backtrace.to_string()),
        _ => Vec::new(),
    };
    for Frame { file, line, name } in frames.iter().rev() {
        frame(file, line, name);
    }
    // Without a stack, or with one that does not lead there, there is the place of the panic itself.
    let line = place.line.to_string();
    let is_shown = frames
        .iter()
        .any(|frame| frame.line == line && frame.file.ends_with(&place.file));
    if !is_shown {
        frame(&place.file, &line, task);
    }
    text + &one_line(exception)
}

/// Where a panic begins to be one.
const PANIC: [&str; 2] = ["__rustc::rust_begin_unwind", "rust_begin_unwind"];

/// What raises panics for others.
const RAISING: [&str; 5] = [
    "__rustc::",
    "rust_begin_unwind",
    "core::panicking::",
    "core::option::",
    "core::result::",
];

#[derive(Debug, PartialEq)]
struct Frame {
    file: String,
    line: String,
    name: String,
}

/// The task's frames, the innermost first: those between the machinery of panics and the engine.
fn frames(backtrace: &str) -> Vec<Frame> {
    let mut frames = Vec::new();
    let mut name = "";
    for line in backtrace.lines().map(str::trim_start) {
        if let Some(place) = line.strip_prefix("at ") {
            let mut parts = place.rsplitn(3, ':');
            let (_column, line, file) = (parts.next(), parts.next(), parts.next());
            if let (Some(line), Some(file)) = (line, file) {
                frames.push(Frame {
                    file: file.to_owned(),
                    line: line.to_owned(),
                    name: name.to_owned(),
                });
            }
        } else if let Some((number, symbol)) = line.split_once(": ")
            && number.bytes().all(|byte| byte.is_ascii_digit())
        {
            name = symbol;
        }
    }
    let starts = |names: &'static [&'static str]| {
        move |frame: &Frame| names.iter().any(|name| frame.name.starts_with(name))
    };
    let (is_panic, is_raising) = (starts(&PANIC), starts(&RAISING));
    // Those behind the panic itself, which also stand at the outer end, where panics are caught.
    if let Some(panic) = frames.iter().position(is_panic) {
        let behind = frames[panic..].iter().take_while(|frame| is_raising(frame));
        let start = panic + behind.count();
        frames.drain(..start);
    }
    let is_engine = |frame: &Frame| frame.name.contains("celeriac::executor::");
    let end = frames.iter().position(is_engine).unwrap_or(FRAMES_MAX);
    frames.truncate(end.min(FRAMES_MAX));
    frames
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot load {file}")]
    struct Loading {
        file: &'static str,
        source: std::io::Error,
    }

    fn loading() -> Loading {
        Loading {
            file: "a.csv",
            source: std::io::Error::other("no such disk"),
        }
    }

    #[test]
    fn the_first_cause_comes_first_as_in_python() {
        let exception = TaskException::new("worker.errors", "IngestError", vec!["bad".into()]);
        let expected = format!(
            "no such disk\n{DIRECT_CAUSE}cannot load a.csv\n{DIRECT_CAUSE}worker.errors.IngestError: bad\n"
        );
        assert_eq!(of_causes(&exception, &loading()), expected);
        let exception = TaskException::builtin("OSError", "cannot load a.csv");
        let expected = format!("no such disk\n{DIRECT_CAUSE}OSError: cannot load a.csv\n");
        assert_eq!(of_causes(&exception, &loading()), expected);
    }

    #[test]
    fn an_exception_without_words_is_its_name() {
        let exception = TaskException::soft_time_limit_exceeded();
        assert_eq!(
            one_line(&exception),
            "billiard.exceptions.SoftTimeLimitExceeded: SoftTimeLimitExceeded()\n"
        );
        let exception = TaskException::new("builtins", "ValueError", Vec::new());
        assert_eq!(one_line(&exception), "ValueError\n");
    }

    #[test]
    fn of_a_stack_the_tasks_own_frames_are_shown() {
        let backtrace = "   0: __rustc::rust_begin_unwind\n             at /rustc/5/std/src/panicking.rs:689:5\n   \
            1: core::panicking::panic_fmt\n             at /rustc/5/core/src/panicking.rs:80:14\n   \
            2: proj::inner\n             at ./src/proj.rs:7:5\n   \
            3: <proj::Task as celeriac::handler::Handler>::run::{{closure}}\n             at ./src/proj.rs:12:9\n   \
            4: celeriac::executor::Executor::run::{{closure}}\n             at ./celeriac/src/executor/mod.rs:200:1\n   \
            5: std::panicking::catch_unwind\n             at /rustc/5/std/src/panicking.rs:544:40\n   \
            6: core::panicking::odd\n             at /rustc/5/core/src/panicking.rs:1:1\n   \
            7: main\n";
        let shown: Vec<String> = frames(backtrace)
            .iter()
            .map(|frame| format!("{} {} {}", frame.file, frame.line, frame.name))
            .collect();
        assert_eq!(
            shown,
            [
                "./src/proj.rs 7 proj::inner",
                "./src/proj.rs 12 <proj::Task as celeriac::handler::Handler>::run::{{closure}}"
            ]
        );
        assert_eq!(frames("rubbish\n at\n  at x\n 1: \n"), []);
    }
}
