//! When one of the program's own commands has to stop.

use std::io;

use tokio::signal::unix::{SignalKind, signal};

use crate::exit::ExitStatus;
use crate::output;

/// Waits for the first INT (Ctrl+C) or TERM: time for a command to stop cleanly. From the first call on,
/// a first one no longer ends the process by itself; one that comes after it ends it at once, with exit
/// code 130 (INT) or 143 (TERM).
///
/// # Errors
/// The system refuses to tell about signals.
///
/// # Cancel safety
/// Safe: a signal that comes later is received by the next call.
pub async fn shutdown_signal() -> io::Result<()> {
    let mut int = signal(SignalKind::interrupt())?;
    let mut term = signal(SignalKind::terminate())?;
    // cancel-safe, both: a signal stays pending until it is received.
    tokio::select! {
        _ = int.recv() => {}
        _ = term.recv() => {}
    }
    output::to_stderr("\nStopping; once more to end at once.\n");
    let again = async move {
        let status = tokio::select! {
            _ = int.recv() => ExitStatus::Interrupted,
            _ = term.recv() => ExitStatus::Terminated,
        };
        #[expect(
            clippy::exit,
            reason = "whoever asks twice does not want to wait for anything"
        )]
        std::process::exit(status.code().into());
    };
    #[expect(
        clippy::disallowed_methods,
        reason = "it ends the process, so nothing has to wait for it"
    )]
    tokio::spawn(again);
    Ok(())
}
