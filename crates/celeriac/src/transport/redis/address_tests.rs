//! Which URLs are understood, and what is said of the others. What the servers make of them is in
//! `tests/whole/addresses.rs`.

use super::*;

fn parse(url: &str) -> Address {
    Address::parse("broker", url).unwrap_or_else(|error| panic!("{url}: {error}"))
}

fn reason(url: &str) -> String {
    match Address::parse("broker", url) {
        Err(Error::Url { reason, .. }) => reason,
        other => panic!("{url}: {other:?}"),
    }
}

/// Address, user, password and database.
fn read(url: &str) -> (String, Option<String>, Option<String>, i64) {
    let address = parse(url);
    let Place::Server(server) = &address.place else {
        panic!("{url} is no server");
    };
    let login = &address.login;
    (
        server.to_string(),
        login.username().map(str::to_owned),
        login.password().map(str::to_owned),
        login.db(),
    )
}

#[test]
fn the_urls_of_kombu_and_celery_are_understood() {
    let some = |text: &str| Some(text.to_owned());
    for (url, expected) in [
        ("redis://h:1/2", ("h:1", None, None, 2)),
        ("redis://", ("127.0.0.1:6379", None, None, 0)),
        ("redis://h//3", ("h:6379", None, None, 3)),
        ("redis://[::1]:7/0", ("::1:7", None, None, 0)),
        ("redis://:p%40ss%2F@h/1", ("h:6379", None, some("p@ss/"), 1)),
        (
            "redis://us%3Aer:p@h",
            ("h:6379", some("us:er"), some("p"), 0),
        ),
        ("rediss://u:p@h:1/2", ("h:1", some("u"), some("p"), 2)),
        (
            "redis+socket:///run/r.sock?virtual_host=4",
            ("/run/r.sock", None, None, 4),
        ),
        (
            "socket://u:p@/run/a%20b.sock",
            ("/run/a b.sock", some("u"), some("p"), 0),
        ),
        ("unix:///run/r.sock?db=5", ("/run/r.sock", None, None, 5)),
    ] {
        let (address, user, password, database) = expected;
        assert_eq!(
            read(url),
            (address.to_owned(), user, password, database),
            "{url}"
        );
    }
}

#[test]
fn of_a_list_of_sentinels_the_first_says_the_database() {
    let address = parse("sentinel://:p@a;sentinel://b:7/0;sentinel://c");
    assert_eq!(
        (address.login.db(), address.login.password()),
        (0, Some("p"))
    );
    let text = format!("{:?}", address.place);
    assert!(
        text.contains(r#"[("a", 26379), ("b", 7), ("c", 26379)]"#),
        "{text}"
    );
    assert!(reason("sentinel://a/1;sentinel://b/2").contains("the first address says"));
    assert!(reason("sentinel://a;redis://b").contains("begins with sentinel://"));
}

#[test]
fn a_sentinel_needs_a_masters_name() {
    let login = SentinelLogin::default();
    let nameless = parse("sentinel://a").watched_by(None, &login);
    let error = nameless.expect_err("no master").to_string();
    assert!(error.contains("set master_name"), "{error}");
    parse("sentinel://a").watched_by(Some("m"), &login).unwrap();
}

#[test]
fn what_would_have_no_effect_is_refused() {
    for (url, expected) in [
        ("amqp://h", "scheme \"amqp\" is not supported"),
        ("redis://h/x", "the database \"x\" is no number"),
        ("redis://h/-1", "is no number"),
        (
            "redis://h/0?ssl_cert_reqs=none",
            "need the scheme rediss://",
        ),
        ("redis://h/0?colour=red", "\"colour\" has no effect"),
        (
            "rediss://h?ssl_cert_reqs=maybe",
            "use required, optional or none",
        ),
        (
            "rediss://h?ssl_keyfile=/k",
            "ssl_keyfile needs ssl_certfile",
        ),
        ("rediss://h?ssl_ca_certs=/no/such/ca.pem", "cannot be read"),
        ("rediss://h?ssl_check_hostname=0", "use true or false"),
        ("unix:///s?virtual_host=0&x=1", "known are virtual_host, db"),
        ("sentinel://h?ssl_cert_reqs=none", "has no effect"),
    ] {
        let reason = reason(url);
        assert!(reason.contains(expected), "{url}: {reason}");
    }
}

#[test]
fn no_password_is_in_an_error_or_in_debug() {
    for url in [
        "redis://:s3cret@h/x",
        "sentinel://:s3cret@a;redis://:s3cret@b",
    ] {
        let error = Address::parse("broker", url).expect_err("it is wrong");
        assert!(
            !format!("{error} {error:?}").contains("s3cret"),
            "{error:?}"
        );
    }
    let text = format!("{:?}", parse("redis://u:s3cret@h/0"));
    assert!(!text.contains("s3cret"), "{text}");
}
