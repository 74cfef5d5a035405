//! What is said to all workers.
//!
//! Counterpart: `celery/app/control.py` (`Control.revoke`) and `kombu/pidbox.py` (`Mailbox._publish`) @ 5.7.0.

use celeriac_protocol::Map;
use celeriac_protocol::control::{CONTROL_EXCHANGE, broadcast};
use serde_json::{Value, json};
use uuid::Uuid;

use super::App;
use crate::transport::Error;

impl App {
    /// No worker that hears it starts these tasks any more. Nobody answers; on a broker without remote control nobody
    /// hears it.
    ///
    /// # Errors
    /// The broker is away.
    pub(crate) async fn revoke(&self, ids: &[&str]) -> Result<(), Error> {
        let Some(fanout) = self.transport().fanout() else {
            return Ok(());
        };
        let arguments = [
            ("task_id", json!(ids)),
            ("terminate", json!(false)),
            ("signal", Value::Null),
        ];
        let arguments = arguments.map(|(key, value)| (key.to_owned(), value));
        let arguments: Map = arguments.into_iter().collect();
        let tag = Uuid::new_v4().to_string();
        let request = broadcast("revoke", &arguments, self.lamport().forward(), &tag);
        fanout.publish(CONTROL_EXCHANGE, "", &request).await
    }
}
