//! Panics of tasks: a panic is a FAILURE whose traceback says where, and the worker lives.
//!
//! What is caught of a panic is only its text. The place is known to the process's panic hook alone, so there is one of
//! ours before the one that was there; it notes the place for the task that runs on this thread, and hands on.

use std::any::Any;
use std::backtrace::Backtrace;
use std::panic::{AssertUnwindSafe, PanicHookInfo, set_hook, take_hook};
use std::sync::{Arc, Mutex, Once, PoisonError};

use celeriac_protocol::exception::TaskException;
use futures_util::FutureExt;

use crate::handler::Outcome;
use crate::traceback::{self, Place};

tokio::task_local! {
    static WITNESS: Witness;
}

/// Where the running task has panicked. Cheap to clone; all clones are the same.
#[derive(Clone, Default)]
pub(super) struct Witness {
    place: Arc<Mutex<Option<Place>>>,
}

impl Witness {
    /// That of the task that calls this; a new one outside of tasks.
    pub(super) fn current() -> Self {
        WITNESS.try_with(Clone::clone).unwrap_or_default()
    }

    /// Runs work of the same task on another thread.
    pub(super) fn sync_scope<R>(self, work: impl FnOnce() -> R) -> R {
        WITNESS.sync_scope(self, work)
    }

    /// Polls a future of the same task on another thread.
    pub(super) async fn scope<F: Future>(self, future: F) -> F::Output {
        WITNESS.scope(self, future).await
    }

    fn note(&self, place: Place) {
        *self.place.lock().unwrap_or_else(PoisonError::into_inner) = Some(place);
    }

    fn take(&self) -> Option<Place> {
        let mut place = self.place.lock().unwrap_or_else(PoisonError::into_inner);
        place.take()
    }
}

/// Runs a task; its panic is a failure.
pub(super) async fn caught(task: &str, run: impl Future<Output = Outcome>) -> Outcome {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let next = take_hook();
        set_hook(Box::new(move |info| {
            note(info);
            next(info);
        }));
    });
    let witness = Witness::default();
    let run = witness.clone().scope(run);
    let outcome = AssertUnwindSafe(run).catch_unwind().await;
    outcome.unwrap_or_else(|panic| failure(&*panic, task, witness.take()))
}

fn note(info: &PanicHookInfo<'_>) {
    let noted = WITNESS.try_with(|witness| {
        let location = info.location();
        witness.note(Place {
            file: location.map_or("?", |location| location.file()).to_owned(),
            line: location.map_or(0, |location| location.line()),
            // Empty, unless RUST_BACKTRACE or RUST_LIB_BACKTRACE asks for it.
            backtrace: Backtrace::capture(),
        });
    });
    // Outside of tasks there is nobody to tell.
    noted.ok();
}

fn failure(panic: &(dyn Any + Send), task: &str, place: Option<Place>) -> Outcome {
    let text = format!("the task panicked: {}", text(panic));
    let exception = TaskException::builtin("RuntimeError", text);
    let traceback = place.map(|place| traceback::of_panic(&exception, task, &place));
    Outcome::Failure {
        exception,
        traceback,
    }
}

/// What was said with a panic.
pub(crate) fn text(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no text".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::executor::blocking;

    async fn panics(run: impl Future<Output = Outcome>) -> String {
        match caught("proj.panics", run).await {
            Outcome::Failure {
                exception,
                traceback,
            } => {
                assert_eq!(exception.display(), "the task panicked: on purpose 1");
                traceback.expect("the place is known")
            }
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn the_place_of_a_panic_is_in_the_traceback_whatever_thread_it_is_on() {
        let (here, one) = (file!(), 1);
        let on_the_runtime = panics(async { panic!("on purpose {one}") }).await;
        let on_a_thread = panics(async {
            let work = blocking(move |_| panic!("on purpose {one}"));
            work.await.expect("the runtime lives")
        })
        .await;
        for traceback in [on_the_runtime, on_a_thread] {
            let place = format!("  File \"{here}\", line ");
            assert!(traceback.starts_with("Traceback (most recent call last):\n"));
            assert!(traceback.contains(&place), "{traceback}");
            assert!(
                traceback.ends_with("\nRuntimeError: the task panicked: on purpose 1\n"),
                "{traceback}"
            );
        }
    }
}
