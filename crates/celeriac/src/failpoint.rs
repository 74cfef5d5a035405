//! Failpoints: the steps at which a crash test lets the process end, as `kill -9` would end it.
//!
//! `CELERIAC_FAILPOINT=after_commit` ends the process when it comes to that step: no destructor runs, nothing is flushed,
//! nobody is told. With `CELERIAC_FAILPOINT_ONCE=<file>` beside it the file is made just before, and while it is there the
//! step is passed: the next start goes on. Only builds with debug assertions have failpoints.
//!
//! Counterpart: the Python twin's failpoints; variables and names are the same.

use std::fs::File;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::OnceLock;

/// Names the step.
const VARIABLE: &str = "CELERIAC_FAILPOINT";

/// Names the file that says that it was reached.
const ONCE_VARIABLE: &str = "CELERIAC_FAILPOINT_ONCE";

/// All steps, in the order of a file's way. The first two are the producer's, the next four the consumer's, all others
/// the worker's.
pub const FAILPOINTS: [&str; 17] = [
    // Kafka has acknowledged the record; it is written down.
    "before_journal",
    "after_journal",
    // The task is sent; its record's offset is committed.
    "before_enqueue",
    "after_enqueue",
    "before_offset_commit",
    "after_offset_commit",
    // A good file: its rows are copied; they are committed with everything that belongs to them.
    "before_copy",
    "after_copy",
    "before_commit",
    "after_commit",
    // A bad file: it is moved to quarantine (across file systems: copied, then removed); its report is written.
    "before_move",
    "after_quarantine_copy",
    "after_move",
    "before_sidecar",
    "after_sidecar",
    // Everything is stored; the message is acknowledged.
    "before_ack",
    "after_ack",
];

/// Further steps of a task that is part of a canvas.
pub const CANVAS_FAILPOINTS: [&str; 7] = [
    // What follows it is sent; its result is stored.
    "after_send",
    "after_store",
    // Its part in a chord is counted; of the last one: the chord is claimed, the body is sent, the chord is over.
    "before_part",
    "after_part",
    "after_claim",
    "after_body",
    "after_cleanup",
];

fn is_known(name: &str) -> bool {
    FAILPOINTS.contains(&name) || CANVAS_FAILPOINTS.contains(&name)
}

/// The process ends here, if this is the step that the environment names.
#[inline]
pub fn failpoint(name: &'static str) {
    if cfg!(debug_assertions) {
        reached(name);
    }
}

/// Whether the environment names a failpoint that this program can have. To be called once, at the start.
///
/// # Errors
/// It cannot; the text says what to do.
pub fn check_failpoint() -> Result<(), FailpointError> {
    Failpoint::from_environment().check(cfg!(debug_assertions))
}

/// Why the failpoint that the environment names would have no effect.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FailpointError {
    /// No step has this name.
    #[error("{VARIABLE}: there is no failpoint {0:?}; choose from: {list}", list = [&FAILPOINTS[..], &CANVAS_FAILPOINTS[..]].concat().join(", "))]
    Unknown(String),
    /// The file alone says nothing.
    #[error("{ONCE_VARIABLE} is set without {VARIABLE}; set both or neither")]
    OnceAlone,
    /// A release build has none.
    #[error(
        "{VARIABLE} is set, but this is a release build, which has no failpoints; unset it or use a debug build"
    )]
    ReleaseBuild,
}

/// What the environment says.
#[derive(Debug)]
struct Failpoint {
    name: Option<String>,
    once: Option<PathBuf>,
}

impl Failpoint {
    fn from_environment() -> Self {
        let name = std::env::var_os(VARIABLE);
        Self {
            name: name.map(|name| name.to_string_lossy().into_owned()),
            once: std::env::var_os(ONCE_VARIABLE).map(PathBuf::from),
        }
    }

    fn check(&self, has_failpoints: bool) -> Result<(), FailpointError> {
        match &self.name {
            None if self.once.is_some() => Err(FailpointError::OnceAlone),
            None => Ok(()),
            Some(_) if !has_failpoints => Err(FailpointError::ReleaseBuild),
            Some(name) if is_known(name) => Ok(()),
            Some(name) => Err(FailpointError::Unknown(name.clone())),
        }
    }

    /// Makes the file; false if it is there already.
    fn is_due(&self) -> bool {
        let Some(once) = &self.once else { return true };
        match File::create_new(once) {
            Ok(_) => true,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => false,
            Err(error) => {
                log::error!("Failpoint: cannot create {}: {error}", once.display());
                true
            }
        }
    }
}

fn reached(name: &'static str) {
    // One for the process: it is the process that ends.
    static FAILPOINT: OnceLock<Failpoint> = OnceLock::new();
    debug_assert!(is_known(name), "{name} is not in the list");
    let failpoint = FAILPOINT.get_or_init(Failpoint::from_environment);
    if failpoint.name.as_deref() == Some(name) && failpoint.is_due() {
        log::error!("Failpoint {name}: the process ends here");
        // Like SIGKILL: no destructor, no flush, no exit handler.
        std::process::abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failpoint(name: Option<&str>, once: Option<PathBuf>) -> Failpoint {
        Failpoint {
            name: name.map(str::to_owned),
            once,
        }
    }

    #[test]
    fn what_would_have_no_effect_is_an_error_that_says_what_would() {
        let once = Some(PathBuf::from("there"));
        assert_eq!(failpoint(None, None).check(false), Ok(()));
        for name in FAILPOINTS.into_iter().chain(CANVAS_FAILPOINTS) {
            assert_eq!(failpoint(Some(name), once.clone()).check(true), Ok(()));
        }
        let alone = failpoint(None, once).check(true);
        assert_eq!(alone, Err(FailpointError::OnceAlone));
        let release = failpoint(Some("after_commit"), None).check(false);
        assert_eq!(release, Err(FailpointError::ReleaseBuild));
        let unknown = failpoint(Some("after_comit"), None).check(true);
        let text = unknown.expect_err("a typing error").to_string();
        assert!(
            text.contains(r#""after_comit""#) && text.contains("after_commit, "),
            "{text}"
        );
    }

    #[test]
    fn a_failpoint_with_a_file_is_due_once() {
        let temporary = tempfile::tempdir().expect("a directory");
        let once = failpoint(Some("after_ack"), Some(temporary.path().join("once")));
        assert_eq!([once.is_due(), once.is_due()], [true, false]);
        let always = failpoint(Some("after_ack"), None);
        assert_eq!([always.is_due(), always.is_due()], [true, true]);
    }
}
