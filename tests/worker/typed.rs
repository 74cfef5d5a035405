//! Tasks whose arguments JSON has no word for.

use std::time::Duration;

use async_trait::async_trait;
use celeriac::protocol::Tagged;
use celeriac::protocol::tagged::Decimal;
use celeriac::{AppBuilder, Handler, Invocation, Outcome, Retry};
use celery::task::TaskResult;
use chrono::{DateTime, NaiveDate, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

/// All of them.
pub(crate) fn register(app: AppBuilder) -> AppBuilder {
    app.task::<typed>().handler(EchoAgain)
}

/// What Python gets back: the types that it sent.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Typed {
    #[serde(with = "celeriac::protocol::tagged")]
    at: DateTime<Utc>,
    day: Tagged<NaiveDate>,
    ratio: f64,
    large: i128,
    amount: Tagged<Decimal>,
    id: Tagged<Uuid>,
    data: Tagged<Vec<u8>>,
}

#[celery::task(name = "proj.typed")]
fn typed(
    at: DateTime<Utc>,
    day: NaiveDate,
    ratio: f64,
    large: i128,
    amount: Tagged<Decimal>,
    id: Tagged<Uuid>,
    data: Vec<u8>,
) -> TaskResult<Typed> {
    Ok(Typed {
        at,
        day: Tagged(day),
        ratio,
        large,
        amount,
        id,
        data: Tagged(data),
    })
}

/// Returns its arguments, the second time.
struct EchoAgain;

#[async_trait]
impl Handler for EchoAgain {
    fn name(&self) -> &str {
        "proj.echo_again"
    }

    async fn run(&self, invocation: Invocation) -> Outcome {
        if invocation.context.retries() == 0 {
            return Outcome::from(Retry {
                countdown: Some(Duration::from_millis(50)),
                ..Retry::default()
            });
        }
        Outcome::Success(Value::Array(invocation.args))
    }
}
