//! The crate's `Celery`: made once per app, because its tasks and signatures insist on one.
//!
//! `CeleryBuilder::build` wants a connection; a listener on loopback that nobody else ever sees is
//! enough for it. Its broker is then replaced by ours, so that `Celery::send_task` works too.

use std::cell::RefCell;
use std::sync::Arc;

use async_trait::async_trait;
use celery::broker::{Broker, Delivery, DeliveryStream};
use celery::error::{BrokerError, CeleryError};
use celery::protocol::Message;
use celery::{Celery, CeleryBuilder};
use chrono::{DateTime, Utc};
use tokio::net::TcpListener;
use tokio::sync::OnceCell;

use super::delay;
use crate::app::{App, WeakApp};

/// The queue of the crate's app: empty, so that a signature without a queue shows as such.
pub(super) const NO_QUEUE: &str = "";

/// What the crate's app has been asked to send.
pub(super) struct Captured {
    pub(super) message: Message,
    pub(super) queue: String,
}

tokio::task_local! {
    /// Within this scope the crate's app hands its message over instead of sending it.
    pub(super) static CAPTURED: RefCell<Option<Captured>>;
}

/// The crate's app, made when it is first needed.
#[derive(Default)]
pub(crate) struct CrateApp {
    cell: OnceCell<Arc<Celery>>,
}

impl CrateApp {
    /// # Errors
    /// No loopback socket can be had.
    pub(crate) async fn get(&self, app: &App) -> Result<Arc<Celery>, CeleryError> {
        let made = self.cell.get_or_try_init(|| async {
            let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
            let url = format!("redis://{}", listener.local_addr()?);
            let builder = CeleryBuilder::new(app.name(), &url).default_queue(NO_QUEUE);
            let mut celery = builder.build().await?;
            celery.broker = Box::new(OurBroker {
                app: app.downgrade(),
            });
            Ok(Arc::new(celery))
        });
        made.await.cloned()
    }
}

/// Our transport in the crate's clothes. It only sends: consuming is the engine's.
struct OurBroker {
    app: WeakApp,
}

#[async_trait]
impl Broker for OurBroker {
    fn safe_url(&self) -> String {
        self.app
            .upgrade()
            .map_or_else(String::new, |app| app.broker_url().to_owned())
    }

    async fn send(&self, message: &Message, queue: &str) -> Result<(), BrokerError> {
        let captured = Captured {
            message: message.clone(),
            queue: queue.to_owned(),
        };
        match CAPTURED.try_with(|cell| cell.replace(Some(captured))) {
            Ok(_) => Ok(()),
            Err(_outside) => {
                let app = self.app.upgrade().ok_or(BrokerError::NotConnected)?;
                delay::send_as_is(&app, message, queue).await
            }
        }
    }

    async fn consume(
        &self,
        _queue: &str,
        _error_handler: Box<dyn Fn(BrokerError) + Send + Sync + 'static>,
    ) -> Result<(String, Box<dyn DeliveryStream>), BrokerError> {
        Err(BrokerError::NotConnected)
    }

    async fn cancel(&self, _consumer_tag: &str) -> Result<(), BrokerError> {
        Err(BrokerError::NotConnected)
    }

    async fn ack(&self, _delivery: &dyn Delivery) -> Result<(), BrokerError> {
        Err(BrokerError::NotConnected)
    }

    async fn retry(
        &self,
        _delivery: &dyn Delivery,
        _eta: Option<DateTime<Utc>>,
    ) -> Result<(), BrokerError> {
        Err(BrokerError::NotConnected)
    }

    async fn increase_prefetch_count(&self) -> Result<(), BrokerError> {
        Err(BrokerError::NotConnected)
    }

    async fn decrease_prefetch_count(&self) -> Result<(), BrokerError> {
        Err(BrokerError::NotConnected)
    }

    async fn close(&self) -> Result<(), BrokerError> {
        Ok(())
    }

    async fn reconnect(&self, _connection_timeout: u32) -> Result<(), BrokerError> {
        Ok(())
    }
}
