//! What nobody could run: looking at it, sending it again, dropping it.
//!
//! Counterpart: none in Celery; `celery purge` for how to destroy messages.

use std::collections::VecDeque;

use celeriac_protocol::{DecodeError, Envelope, Limits, TaskMessage};

use super::App;
use crate::transport::{DeadLetter, Error};

/// Records read at a time: each may be as large as the largest message.
const PAGE: usize = 16;

/// The dead letters of one queue.
#[derive(Debug, Clone)]
pub struct DeadLetters {
    app: App,
    queue: String,
}

impl DeadLetters {
    pub(super) fn new(app: App, queue: &str) -> Self {
        Self {
            app,
            queue: queue.to_owned(),
        }
    }

    /// How many there are.
    ///
    /// # Errors
    /// The broker is away.
    pub async fn count(&self) -> Result<usize, Error> {
        self.app.transport().count_dead_letters(&self.queue).await
    }

    /// Those that are there now, the oldest first. They are fetched in small steps.
    ///
    /// # Errors
    /// The broker is away.
    pub async fn pages(&self) -> Result<Pages, Error> {
        Ok(Pages {
            left: self.count().await?,
            kept: 0,
            page: VecDeque::new(),
            letters: self.clone(),
        })
    }

    /// Why this app's workers would set it aside again; `Ok` for what may be sent again.
    ///
    /// # Errors
    /// What is wrong with the message.
    pub fn check(&self, letter: &DeadLetter) -> Result<(), DecodeError> {
        let limits = self.app.settings().message_limits();
        let message = letter.message.as_deref().unwrap_or_default();
        TaskMessage::decode(&limits, message).map(drop)
    }

    /// Puts its message back into its queue, byte for byte, once, as the last one. `false`: it is not there any more, or
    /// it is no record of a message.
    ///
    /// # Errors
    /// The broker is away; it may have done it.
    pub async fn replay(&self, letter: &DeadLetter) -> Result<bool, Error> {
        let Some(message) = &letter.message else {
            return Ok(false);
        };
        let envelope = Envelope::parse_within(&Limits::new(usize::MAX, usize::MAX), message);
        let priority = envelope.map(|envelope| envelope.properties.priority);
        let priority = priority.ok().flatten().unwrap_or(0);
        let transport = self.app.transport();
        transport
            .replay_dead_letter(letter, priority, message)
            .await
    }

    /// Destroys it. `false`: it is not there any more.
    ///
    /// # Errors
    /// The broker is away; it may have done it.
    pub async fn drop(&self, letter: &DeadLetter) -> Result<bool, Error> {
        self.app.transport().drop_dead_letter(letter).await
    }
}

/// The dead letters of a queue, one after another.
#[derive(Debug)]
pub struct Pages {
    letters: DeadLetters,
    page: VecDeque<DeadLetter>,
    /// How many have not been fetched yet.
    left: usize,
    /// How many of those that were given out are still in the list, as far as we know.
    kept: usize,
}

impl Pages {
    /// The next one.
    ///
    /// # Errors
    /// The broker is away.
    pub async fn next(&mut self) -> Result<Option<DeadLetter>, Error> {
        if self.page.is_empty() && self.left > 0 {
            let count = self.left.min(PAGE);
            let transport = self.letters.app.transport();
            let queue = &self.letters.queue;
            self.page = transport
                .dead_letters(queue, self.kept, count)
                .await?
                .into();
            // Others may have dropped some meanwhile: then the end comes earlier.
            self.left = if self.page.is_empty() {
                0
            } else {
                self.left - count
            };
            self.kept += self.page.len();
        }
        Ok(self.page.pop_front())
    }

    /// Says that one of those that were given out is not in the list any more: the others have moved down.
    pub fn has_left(&mut self) {
        self.kept = self.kept.saturating_sub(1);
    }
}
