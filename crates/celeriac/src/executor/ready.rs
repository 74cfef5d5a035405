//! The requests that are ready to run: whoever consumes puts them here, and the slots take them.
//!
//! Tokio's channel has one receiver: slots that share it behind a lock wake each other for each request.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Semaphore, SemaphorePermit};

use super::Request;

/// See the module's text. Cheap to clone; all clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Ready {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    requests: Mutex<VecDeque<Request>>,
    /// As many permits as there are requests.
    waiting: Semaphore,
    room: Semaphore,
}

impl Ready {
    /// For so many requests at a time.
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            inner: Arc::new(Inner {
                requests: Mutex::default(),
                waiting: Semaphore::new(0),
                room: Semaphore::new(capacity),
            }),
        }
    }

    /// Waits for room for one request; `None` after [`Self::close`].
    pub(crate) async fn room(&self) -> Option<Room<'_>> {
        let permit = self.inner.room.acquire().await.ok()?;
        Some(Room {
            ready: self,
            permit,
        })
    }

    /// Waits for a request, in the order in which they were put; `None` after [`Self::close`].
    pub(crate) async fn take(&self) -> Option<Request> {
        self.inner.waiting.acquire().await.ok()?.forget();
        let request = self.requests().pop_front();
        self.inner.room.add_permits(1);
        request
    }

    /// Nothing is put or taken from now on. Returns what was left.
    pub(crate) fn close(&self) -> VecDeque<Request> {
        self.inner.room.close();
        self.inner.waiting.close();
        std::mem::take(&mut *self.requests())
    }

    fn requests(&self) -> MutexGuard<'_, VecDeque<Request>> {
        let requests = self.inner.requests.lock();
        requests.unwrap_or_else(PoisonError::into_inner)
    }
}

/// Room for one request, given up when it is not used.
#[derive(Debug)]
pub(crate) struct Room<'a> {
    ready: &'a Ready,
    permit: SemaphorePermit<'a>,
}

impl Room<'_> {
    pub(crate) fn put(self, request: Request) {
        self.permit.forget();
        self.ready.requests().push_back(request);
        self.ready.inner.waiting.add_permits(1);
    }
}
