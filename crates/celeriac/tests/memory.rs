//! A whole worker without a server: the way a team tests its tasks.

use std::time::Duration;

use async_trait::async_trait;
use celeriac::{
    App, Handler, Invocation, Outcome, SendOptions, Settings, Shutdown, Worker, WorkerOptions,
};
use serde_json::{Map, json};
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

/// Reports its argument.
struct Report {
    seen: mpsc::Sender<i64>,
}

#[async_trait]
impl Handler for Report {
    fn name(&self) -> &str {
        "report"
    }

    async fn run(&self, invocation: Invocation) -> Outcome {
        let number = invocation.args[0].as_i64().unwrap_or_default();
        match self.seen.send(number).await {
            Ok(()) => Outcome::Success(json!(number)),
            Err(_) => Outcome::Ignore,
        }
    }
}

#[tokio::test]
async fn a_worker_runs_what_was_sent_through_memory() {
    let (seen, mut reports) = mpsc::channel(16);
    let settings = Settings {
        broker_url: "memory://a-worker-runs".to_owned(),
        task_acks_late: true,
        ..Settings::default()
    };
    let app = App::builder("test", settings)
        .handler(Report { seen })
        .build();
    let app = app.expect("the URL is right");
    let options = WorkerOptions {
        heartbeat: None,
        hostname: "celery@test".to_owned(),
        concurrency: 2,
        queues: vec!["celery".to_owned()],
        time_limit: None,
        soft_time_limit: None,
        succession: celeriac::Succession::default(),
    };
    let shutdown = Shutdown::new();
    let running = Worker::new(app.clone(), options).run(shutdown.clone());
    let client = async {
        for number in 0..10 {
            let args = vec![json!(number)];
            let sent = app.send_task("report", args, Map::new(), SendOptions::default());
            sent.await.expect("memory takes it");
        }
        let mut seen = Vec::new();
        while seen.len() < 10 {
            let next = tokio::time::timeout(Duration::from_secs(10), reports.recv()).await;
            seen.push(next.expect("it runs in time").expect("the worker lives"));
        }
        seen.sort_unstable();
        assert_eq!(seen, (0..10).collect::<Vec<i64>>());
        shutdown.warm();
    };
    let (ended, ()) = tokio::join!(running, client);
    ended.expect("nothing was in its way");
}

/// Says that it runs, and goes on until it is given up.
struct Hold {
    seen: mpsc::Sender<i64>,
}

#[async_trait]
impl Handler for Hold {
    fn name(&self) -> &str {
        "hold"
    }

    async fn run(&self, invocation: Invocation) -> Outcome {
        let number = invocation.args[0].as_i64().unwrap_or_default();
        self.seen.send(number).await.expect("the test listens");
        std::future::pending().await
    }
}

#[tokio::test]
async fn without_prefetch_what_cannot_start_is_left_to_others() {
    let (seen, mut reports) = mpsc::channel(16);
    let settings = Settings {
        broker_url: "memory://without-prefetch".to_owned(),
        worker_disable_prefetch: true,
        ..Settings::default()
    };
    let app = App::builder("test", settings)
        .handler(Hold { seen })
        .build();
    let app = app.expect("the URL is right");
    let shutdown = Shutdown::new();
    let workers = TaskTracker::new();
    let start = |hostname: &str, concurrency| {
        let options = WorkerOptions {
            hostname: hostname.to_owned(),
            concurrency,
            queues: vec!["celery".to_owned()],
            heartbeat: None,
            time_limit: None,
            soft_time_limit: None,
            succession: celeriac::Succession::default(),
        };
        workers.spawn(Worker::new(app.clone(), options).run(shutdown.clone()))
    };
    let send = async |number: i64| {
        let sent = app.send_task(
            "hold",
            vec![json!(number)],
            Map::new(),
            SendOptions::default(),
        );
        sent.await.expect("memory takes it");
    };
    let mut next = async || {
        let next = tokio::time::timeout(Duration::from_secs(10), reports.recv()).await;
        next.expect("it starts in time").expect("the worker lives")
    };
    let busy = start("busy@test", 1);
    send(0).await;
    assert_eq!(next().await, 0);
    send(1).await;
    send(2).await;
    // Long enough for the first worker to take what it does not leave.
    tokio::time::sleep(Duration::from_millis(200)).await;
    let free = start("free@test", 2);
    let mut started = [next().await, next().await];
    started.sort_unstable();
    assert_eq!(started, [1, 2]);
    shutdown.cold();
    for worker in [busy, free] {
        worker
            .await
            .expect("it ends")
            .expect("nothing was in its way");
    }
}
