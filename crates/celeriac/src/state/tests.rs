//! Tests of what a worker remembers of its requests.

use std::time::Duration;

use super::*;
use crate::clock;
use crate::transport::Delivery;
use celeriac_protocol::compose::TaskCall;
use serde_json::{Value, json};

fn state() -> WorkerState {
    WorkerState::new(Limits::default(), LamportClock::default(), None)
}

fn track(state: &WorkerState, id: &str) -> (Tracked, CancellationToken) {
    let message = Arc::new(TaskCall::new("proj.add", id, Vec::new()).into_message());
    let cancel = CancellationToken::new();
    (state.track(&message, &cancel), cancel)
}

fn ids(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

#[test]
fn a_request_is_seen_where_it_is_until_it_is_dropped() {
    let state = state();
    let (request, _cancel) = track(&state, "a");
    let stage = || state.held().first().map(|held| held.stage);
    assert_eq!(stage(), Some(Stage::Reserved));
    assert_eq!(state.activity(), (0, 0));
    assert!(request.start());
    assert_eq!(state.activity(), (1, 1));
    assert!(matches!(stage(), Some(Stage::Active(_))));
    assert!(!state.held()[0].is_acknowledged);
    request.acknowledge();
    assert!(state.held()[0].is_acknowledged);
    drop(request);
    assert_eq!(state.activity(), (0, 1));
    assert!(state.held().is_empty() && state.held_by_id(&ids(&["a"])).is_empty());
    assert_eq!(state.totals(), [("proj.add".to_owned(), 1)]);
}

#[test]
fn what_was_revoked_before_or_while_it_waits_is_not_started() {
    let state = state();
    let (waiting, _cancel) = track(&state, "a");
    assert_eq!(state.revoke(&ids(&["a", "b"])), ids(&["a", "b"]));
    let (late, _cancel) = track(&state, "b");
    assert!(waiting.is_revoked() && late.is_revoked());
    assert!(!waiting.start() && !late.start());
    assert!(state.totals().is_empty());
}

#[test]
fn what_runs_goes_on_unless_it_is_terminated() {
    let state = state();
    let (running, cancel) = track(&state, "a");
    let (twin, twin_cancel) = track(&state, "a");
    assert!(running.start());
    assert!(state.revoke(&ids(&["a"])).is_empty(), "it runs");
    assert!(!cancel.is_cancelled());
    assert_eq!(state.terminate(&ids(&["a", "x"]), 15), ids(&["a"]));
    assert!(cancel.is_cancelled() && !twin_cancel.is_cancelled());
    assert_eq!((running.signal(), twin.signal()), (Some(15), None));
    assert!(running.end() && !twin.end());
    assert_eq!(
        state.activity(),
        (0, 1),
        "and dropping changes nothing any more"
    );
    drop(running);
    assert_eq!(state.activity(), (0, 1));
    assert!(!twin.start());
}

#[test]
fn what_has_ended_cannot_be_terminated_any_more() {
    let state = state();
    let (ended, cancel) = track(&state, "a");
    assert!(ended.start() && !ended.end());
    assert_eq!(
        state.terminate(&ids(&["a"]), 9),
        ids(&["a"]),
        "still in our hands"
    );
    assert!(!cancel.is_cancelled() && !ended.end());
}

/// Its message has this stamp, and says when it expires or not.
fn track_stamped(state: &WorkerState, stamp: &Value, expires: Option<&str>) -> Tracked {
    let mut call = TaskCall::new("proj.add", "a", Vec::new());
    call.stamps.insert("who".to_owned(), stamp.clone());
    call.stamped_headers = Some(vec!["who".to_owned()]);
    let mut message = call.into_message();
    message.headers.expires = expires.map(ToOwned::to_owned);
    state.track(&Arc::new(message), &CancellationToken::new())
}

#[test]
fn a_revoked_stamp_is_heeded_at_the_start_and_with_an_expiry_on_arrival() {
    let state = state();
    let stamp = json!("x");
    let before = track_stamped(&state, &stamp, None);
    let stamps: Vec<Stamp<'_>> = Stamp::all("who", &stamp).collect();
    assert_eq!(state.revoke_stamps(&stamps), 0);
    let after = track_stamped(&state, &stamp, None);
    let expiring = track_stamped(&state, &stamp, Some("2999-01-01T00:00:00+00:00"));
    assert_eq!(
        [&before, &after, &expiring].map(Tracked::is_revoked),
        [false, false, true]
    );
    for request in [&before, &after, &expiring] {
        assert!(!request.start() && request.is_revoked());
        assert!(request.revoking_stamp().is_some());
    }
    assert_eq!(state.activity(), (0, 0));
    let (by_id, _cancel) = track(&state, "b");
    state.revoke(&ids(&["b"]));
    assert!(!by_id.start() && by_id.revoking_stamp().is_none());
}

#[test]
fn many_are_revoked_at_once_while_many_wait_for_their_time() {
    const MANY: usize = 20_000;
    let state = state();
    let delivery = Delivery::new("tag", "celery", Vec::new());
    let mut waiting = Vec::new();
    for number in 0..MANY {
        let (tracked, _cancel) = track(&state, &format!("id-{number:05}"));
        tracked.wait(clock::now(), &delivery);
        waiting.push(tracked);
    }
    let mut wanted: Vec<String> = (1..MANY).map(|number| format!("id-{number:05}")).collect();
    wanted.push("id-other".to_owned());
    let started = Instant::now();
    assert_eq!(state.revoke(&wanted), wanted);
    let known = state.terminate(&wanted, 15);
    // To look for each by itself takes many times as long.
    let elapsed = started.elapsed();
    assert!(elapsed < Duration::from_secs(1), "{elapsed:?}");
    assert_eq!(known, wanted[..MANY - 1]);
    assert!(!waiting[0].is_revoked());
    assert!(waiting[1..].iter().all(Tracked::is_revoked));
}

#[test]
fn the_clock_only_goes_forward() {
    let clock = LamportClock::default();
    clock.catch_up(7);
    let state = WorkerState::new(Limits::default(), clock, None);
    assert_eq!(
        (state.forward_clock(), state.forward_clock(), state.clock()),
        (8, 9, 9)
    );
}
