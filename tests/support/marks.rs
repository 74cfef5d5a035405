//! C8 at any instant: the group's mark never passes what Redis has accepted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;

use crate::pipeline::Pipeline;

/// How often to look.
const INTERVAL: Duration = Duration::from_millis(50);

/// Looks at the mark and at Redis until it is dropped or asked. Redis must not be restarted meanwhile: it counts from
/// its start.
#[derive(Debug)]
pub struct Marks {
    looks: Arc<AtomicU64>,
    looking: JoinSet<()>,
}

impl Marks {
    /// Begins to look.
    pub async fn watch(pipeline: &Pipeline) -> Self {
        let looks = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&looks);
        let mark = pipeline.topic.mark();
        let mut redis = pipeline.redis.connect().await;
        let mut looking = JoinSet::new();
        looking.spawn(async move {
            loop {
                // In this order: what is accepted only grows.
                let committed = mark.committed().await.unwrap_or(0);
                let stats: String = redis::cmd("INFO")
                    .arg("commandstats")
                    .query_async(&mut redis)
                    .await
                    .expect("redis runs");
                let accepted = accepted(&stats);
                assert!(
                    committed <= accepted,
                    "C8: {committed} records are committed, {accepted} tasks are in Redis"
                );
                count.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(INTERVAL).await;
            }
        });
        Self { looks, looking }
    }

    /// # Panics
    /// The mark has been ahead, or nobody has looked.
    pub fn check(mut self) {
        assert!(self.looks.load(Ordering::Relaxed) > 0, "nobody has looked");
        if let Some(Err(error)) = self.looking.try_join_next() {
            assert!(!error.is_panic(), "C8: the mark was ahead of Redis");
        }
    }
}

/// How many LPUSH have succeeded. Refused and failed ones are counted apart.
fn accepted(stats: &str) -> i64 {
    let line = stats
        .lines()
        .find_map(|line| line.strip_prefix("cmdstat_lpush:"));
    let value = |name: &str| {
        let mut fields = line?.split(',');
        fields.find_map(|field| {
            field
                .strip_prefix(name)?
                .strip_prefix('=')?
                .parse::<i64>()
                .ok()
        })
    };
    value("calls").unwrap_or(0) - value("failed_calls").unwrap_or(0)
}
