//! What goes to stdout and stderr beside the log. A reader who has gone away (`| head`) is no error.

use std::io::{self, Write};

/// Data for stdout.
pub(crate) fn to_stdout(text: &str) {
    let mut out = io::stdout().lock();
    // Nobody is left to tell when stdout is closed.
    drop(out.write_all(text.as_bytes()).and_then(|()| out.flush()));
}

/// Anything for people: stderr.
pub(crate) fn to_stderr(text: &str) {
    // As above: where stderr is closed, nobody reads why.
    drop(io::stderr().lock().write_all(text.as_bytes()));
}
