//! What a caller holds of a task that was sent.
//!
//! Counterpart: `celery/result.py::AsyncResult` @ 5.7.0.

use celeriac_protocol::result::TaskMeta;

use super::App;
use crate::transport::Error;

/// A task that was sent.
#[derive(Debug, Clone)]
pub struct AsyncResult {
    id: String,
    app: App,
}

impl AsyncResult {
    pub(crate) fn new(app: App, id: String) -> Self {
        Self { id, app }
    }

    /// The task id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What the backend holds now; `None` while it holds nothing (PENDING).
    ///
    /// # Errors
    /// The backend is away.
    pub async fn meta(&self) -> Result<Option<TaskMeta>, Error> {
        self.app.backend().get(&self.id).await
    }
}
