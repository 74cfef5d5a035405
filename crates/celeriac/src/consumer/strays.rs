//! What the broker says that we hold, and we do not: putting it back (promise M1).
//!
//! A broker can come back with an older state: a replica that lagged was promoted, or a crash has cost the last writes.
//! What this worker has settled meanwhile is in `unacked` again, under the name of a worker that lives, and nobody would
//! touch it before the visibility timeout. Its result may be gone with its acknowledgement, so it runs again, as
//! everything does of which the end is not known.
//!
//! Counterpart: none; kombu restores it after the visibility timeout.

use std::collections::HashSet;

use super::held::Held;
use crate::app::App;
use crate::transport::{Beats, Error};

/// What to look for after each new connection.
#[derive(Debug, Default)]
pub(super) struct Strays {
    connection: Option<u64>,
    look: Look,
}

/// What was just taken or settled may look the same for a moment, so it is asked for twice, a beat apart.
#[derive(Debug, Default)]
enum Look {
    #[default]
    None,
    First,
    Second(HashSet<String>),
}

impl Strays {
    /// To be called after each beat that was answered.
    ///
    /// # Errors
    /// The broker is away; the same look is taken after the next beat.
    pub(super) async fn look(
        &mut self,
        app: &App,
        held: &Held,
        beats: &Beats,
    ) -> Result<(), Error> {
        let last = self.connection.replace(beats.connection);
        if last.is_some_and(|last| last != beats.connection) {
            self.look = Look::First;
        }
        if matches!(self.look, Look::None) {
            return Ok(());
        }
        let claims = app.transport().claims().await?;
        let mut strays = held.not_held(claims);
        let Look::Second(before) = &self.look else {
            self.look = Look::Second(strays.into_iter().collect());
            return Ok(());
        };
        strays.retain(|tag| before.contains(tag));
        let count = app.transport().put_back(&strays).await?;
        self.look = Look::None;
        if count > 0 {
            log::warn!(
                "Restored {count} message(s) that this worker had settled: the broker came back without its last writes"
            );
        }
        Ok(())
    }
}
