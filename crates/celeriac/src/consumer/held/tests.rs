//! Tests of what is held while it is settled, and of panics of ours meanwhile.

use super::*;
use crate::app::Settings;

fn held(broker_url: &str) -> Held {
    let settings = Settings {
        broker_url: broker_url.to_owned(),
        ..Settings::default()
    };
    let app = App::builder("proj", settings).build();
    let patience = Patience::new(CancellationToken::new());
    Held::new(app.expect("the URL is right"), patience)
}

#[test]
fn a_claim_that_we_settle_ourselves_is_not_taken_for_lost() {
    for (is_settling, is_cancelled) in [(false, true), (true, false)] {
        let claim = Claim {
            taken_over: Some(CancellationToken::new()),
            is_gathered: true,
            is_settling,
            confirmed: Instant::now(),
        };
        claim.end();
        let taken_over = claim.taken_over.expect("it runs");
        assert_eq!(taken_over.is_cancelled(), is_cancelled);
    }
}

#[tokio::test]
async fn what_is_to_be_acknowledged_is_not_let_go_before() {
    let held = held("memory://what-is-to-be-acknowledged");
    let transport = held.app.transport();
    for message in [r#"{"n": 1}"#, r#"{"n": 2}"#] {
        let published = transport.publish("celery", 0, message).await;
        published.expect("memory takes it");
    }
    let taken = transport.take(&["celery".to_owned()], 2).await;
    let taken = taken.expect("they are there");
    let tags: Vec<Arc<str>> = taken.iter().map(Delivery::shared_tag).collect();
    let runs: Vec<CancellationToken> = taken.iter().map(|one| held.hold(one)).collect();
    let mut taken = taken.into_iter();
    let receipt = held.ack(taken.next().expect("the first"));
    for tag in &tags {
        held.let_go(Some(tag));
    }
    assert_eq!(held.totals(), (0, 1), "only the second");
    let end = CancellationToken::new();
    end.cancel();
    held.clone().acknowledge(end).await;
    assert!(receipt.confirmed().await && !runs[0].is_cancelled());
    // It is gone, and nobody's any more: to let go of it is nothing.
    held.let_go(Some(&tags[0]));
    assert_eq!(held.totals(), (0, 1));
}

/// The client of Redis panics on a runtime that has neither sockets nor timers.
#[test]
fn a_panic_of_ours_is_an_answer_and_the_next_batch_is_seen_to() {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let held = held("redis://127.0.0.1:1/0");
    let acknowledged = async {
        let end = CancellationToken::new();
        let callers = async {
            for tag in ["one", "two"] {
                let delivery = Delivery::new(tag, "celery", b"{}".to_vec());
                let run = held.hold(&delivery);
                assert!(!held.ack(delivery).confirmed().await, "{tag}");
                assert!(run.is_cancelled(), "it may come again");
                assert!(!held.claims().contains_key(tag), "nobody renews it");
            }
            end.cancel();
        };
        tokio::join!(held.clone().acknowledge(end.clone()), callers);
    };
    runtime.expect("it needs nothing").block_on(acknowledged);
    assert_eq!(held.totals(), (0, 2));
}
