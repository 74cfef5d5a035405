//! The ways to a Redis: TLS, sockets, sentinels, users. Workers of both languages on the same URL.

use celeriac::settings::{BrokerTransportOptions, ResultBackendTransportOptions};
use celeriac::{App, AsyncResult, SendOptions, Settings};
use celeriac_tests::certificates::Certificates;
use celeriac_tests::eventually::eventually;
use celeriac_tests::process::{PATIENCE, Process};
use celeriac_tests::programs::{python_worker, test_worker};
use celeriac_tests::proxy::free_port;
use celeriac_tests::redis::PrivateRedis;
use celeriac_tests::sentinel::{MASTER, Watched};
use serde_json::{Map, json};
use tempfile::TempDir;

/// A client and workers on the URLs of one broker and backend.
struct World {
    urls: [String; 2],
    directory: TempDir,
    app: App,
}

impl World {
    fn new(urls: [String; 2], master: Option<&str>) -> Self {
        let master = master.map(str::to_owned);
        let settings = Settings {
            broker_url: urls[0].clone(),
            result_backend: Some(urls[1].clone()),
            broker_transport_options: BrokerTransportOptions {
                master_name: master.clone(),
                ..BrokerTransportOptions::default()
            },
            result_backend_transport_options: ResultBackendTransportOptions {
                master_name: master.clone(),
                ..ResultBackendTransportOptions::default()
            },
            ..Settings::default()
        };
        let directory = TempDir::new().expect("a directory can be made");
        let text = master.map_or_else(String::new, |name| {
            format!(
                "[broker_transport_options]\nmaster_name = {name:?}\n\
                 [result_backend_transport_options]\nmaster_name = {name:?}\n"
            )
        });
        std::fs::write(directory.path().join("celeriac.toml"), text).expect("it can be written");
        Self {
            app: App::builder("proj", settings)
                .build()
                .expect("the URLs are right"),
            directory,
            urls,
        }
    }

    fn start(&self) -> Process {
        let mut command = test_worker(&self.urls[0], &self.urls[1]);
        command.current_dir(self.directory.path());
        Process::start(self.directory.path(), "worker", &mut command)
    }

    async fn worker(&self) -> Process {
        let mut worker = self.start();
        worker.says(" ready.").await;
        worker
    }

    async fn python(&self) -> Process {
        let mut command = python_worker(&self.urls[0], &self.urls[1]);
        let options = json!({"master_name": MASTER}).to_string();
        command.env("BROKER_OPTIONS", &options);
        command.env("BACKEND_OPTIONS", &options);
        Process::ready(self.directory.path(), "python", &mut command).await
    }

    async fn send(&self, task: &str, args: Vec<serde_json::Value>) -> AsyncResult {
        eventually("the broker takes it", PATIENCE, async || {
            let options = SendOptions::default();
            let sent = self.app.send_task(task, args.clone(), Map::new(), options);
            sent.await.ok()
        })
        .await
    }

    /// What the task has come to.
    async fn result(&self, sent: &AsyncResult) -> serde_json::Value {
        eventually("the task has ended", PATIENCE, async || {
            let meta = sent.meta().await.ok().flatten()?;
            meta.date_done.is_some().then_some(meta.result)
        })
        .await
    }

    /// A task is run by whoever is there.
    async fn canary(&self) {
        let sent = self.send("proj.add", vec![json!(1), json!(2)]).await;
        assert_eq!(self.result(&sent).await, json!(3));
    }
}

/// Our worker runs a task, then Python's.
async fn both_languages_run(world: &World) {
    let mut ours = world.worker().await;
    world.canary().await;
    ours.kill();
    let _python = world.python().await;
    world.canary().await;
}

fn tls_urls(port: u16, query: &str) -> [String; 2] {
    [0, 1].map(|database| format!("rediss://localhost:{port}/{database}?{query}"))
}

#[tokio::test]
async fn tls_is_spoken_with_a_server_that_our_ca_has_signed() {
    let certificates = Certificates::make();
    let port = free_port();
    let _redis = PrivateRedis::start_with(&certificates.server_options(port, true)).await;
    let path = |name: &str| certificates.path(name).display().to_string();
    let query = format!(
        "ssl_cert_reqs=required&ssl_ca_certs={}&ssl_certfile={}&ssl_keyfile={}",
        path("ca.pem"),
        path("client.pem"),
        path("client.key")
    );
    both_languages_run(&World::new(tls_urls(port, &query), None)).await;

    // Without the certificate that the server asks for.
    let query = format!("ssl_ca_certs={}", path("ca.pem"));
    let world = World::new(tls_urls(port, &query), None);
    let mut nobody = world.start();
    nobody.says("name it with ?ssl_certfile=").await;
}

#[tokio::test]
async fn a_server_that_we_do_not_know_is_refused_with_what_to_do() {
    let certificates = Certificates::make();
    // One that calls itself the same, and one that does not.
    let (others, strangers) = (Certificates::make(), Certificates::of("another"));
    let port = free_port();
    let _redis = PrivateRedis::start_with(&certificates.server_options(port, false)).await;
    let trusting =
        |trusted: &Certificates| format!("ssl_ca_certs={}", trusted.path("ca.pem").display());
    for query in [String::new(), trusting(&others), trusting(&strangers)] {
        let world = World::new(tls_urls(port, &query), None);
        let mut worker = world.start();
        worker.says("name its CA with ?ssl_ca_certs=").await;
        assert!(!worker.log().contains(" ready."), "{}", worker.log());
    }
    // The certificate is for localhost.
    let by_address =
        tls_urls(port, &trusting(&certificates)).map(|url| url.replace("localhost", "127.0.0.1"));
    let world = World::new(by_address.clone(), None);
    let mut worker = world.start();
    worker
        .says("the server's certificate is for another name")
        .await;

    // Told otherwise.
    let unnamed = by_address.map(|url| format!("{url}&ssl_check_hostname=false"));
    let world = World::new(unnamed, None);
    let mut worker = world.worker().await;
    world.canary().await;
    worker.kill();
    let world = World::new(tls_urls(port, "ssl_cert_reqs=none"), None);
    let _worker = world.worker().await;
    world.canary().await;
}

#[tokio::test]
async fn a_socket_is_an_address() {
    let directory = TempDir::new().expect("a directory can be made");
    let path = directory.path().join("redis.sock");
    let path = path.to_str().expect("a path in UTF-8");
    let options = ["--unixsocket".to_owned(), path.to_owned()];
    let _redis = PrivateRedis::start_with(&options).await;
    let urls = [0, 1].map(|database| format!("redis+socket://{path}?virtual_host={database}"));
    both_languages_run(&World::new(urls, None)).await;
}

#[tokio::test]
async fn a_user_and_a_password_are_percent_encoded_and_never_shown() {
    let redis = PrivateRedis::start().await;
    let mut connection = redis.connect().await;
    let mut user = redis::cmd("ACL");
    user.arg(&["SETUSER", "us:er", "on", ">p@ss/wörd", "~*", "&*", "+@all"]);
    user.query_async::<()>(&mut connection)
        .await
        .expect("it runs");
    let login = "us%3Aer:p%40ss%2Fw%C3%B6rd";
    let urls = [0, 1].map(|database| {
        redis
            .url(database)
            .replace("redis://", &format!("redis://{login}@"))
    });
    let world = World::new(urls, None);
    let mut worker = world.worker().await;
    world.canary().await;
    let log = worker.log();
    assert!(!log.contains("p%40ss") && !log.contains("p@ss"), "{log}");
    worker.kill();
    let _python = world.python().await;
    world.canary().await;
}

#[tokio::test]
async fn a_failover_loses_no_message() {
    let mut redis = Watched::start().await;
    // The first of the sentinels is away.
    let away = free_port();
    let urls = [0, 1].map(|database| {
        let there = redis.url(database);
        format!("sentinel://127.0.0.1:{away}/{database};{there}")
    });
    let world = World::new(urls, Some(MASTER));
    let mut worker = world.worker().await;
    world.canary().await;
    let mut sent = Vec::new();
    for _ in 0..20 {
        sent.push(world.send("proj.nap_late", vec![json!(0.5)]).await);
    }
    redis.replicated().await;
    redis.fail_over().await;
    world.canary().await;
    // A result that the master had stored in its last moment may be gone with it; a message is not.
    for result in &sent {
        worker.says(&format!("[{}] succeeded", result.id())).await;
    }
    let mut stored = 0;
    for result in &sent {
        if let Some(meta) = result.meta().await.expect("redis runs") {
            assert_eq!(meta.result, json!(0.5));
            stored += 1;
        }
    }
    assert!(stored > 0, "what ran after the failover has its result");
    eventually("nothing is held", PATIENCE, async || {
        let mut connection = redis.second.connect().await;
        let mut count = redis::cmd("HLEN");
        let held: usize = count
            .arg("unacked")
            .query_async(&mut connection)
            .await
            .ok()?;
        (held == 0).then_some(())
    })
    .await;
    // Python finds the new master too; it would wait long for the sentinel that is away.
    worker.kill();
    let world = World::new([redis.url(0), redis.url(1)], Some(MASTER));
    let _python = world.python().await;
    world.canary().await;
}
