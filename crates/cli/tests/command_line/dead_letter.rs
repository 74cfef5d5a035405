//! `dead-letter`: what is typed wrongly, and a broker that is away. What it does is in `tests/whole/bad_messages.rs`.

use crate::process::{NO_BROKER, adder};

#[test]
fn dead_letters_are_asked_for_in_words_that_go_together() {
    let head = "Usage: adder dead-letter [OPTIONS] ACTION [LETTER]...\nTry 'adder dead-letter --help' for help.\n\nError: ";
    for (typed, message) in [
        ("", "Missing argument 'ACTION'."),
        (
            "burn",
            "Invalid value for 'ACTION': 'burn' is not one of 'list', 'show', 'replay', 'drop'.",
        ),
        ("list 0", "list shows all; use show for one"),
        ("show", "show takes one place or id; see the list"),
        ("show 0 1", "show takes one place or id; see the list"),
        ("drop", "which ones? Name a place or id, or say --all"),
        ("replay 0 --all", "either places and ids, or --all"),
        ("replay 0 --json", "--json goes with list and show"),
        ("list --all", "--all goes with replay and drop"),
        ("show 0 -f", "--force goes with replay and drop"),
    ] {
        let ended = adder(&format!("dead-letter {typed}"));
        assert_eq!(
            (ended.code, ended.stderr),
            (Some(2), format!("{head}{message}\n")),
            "{typed}"
        );
    }
}

#[test]
fn a_broker_that_is_away_is_said_in_one_line() {
    for action in ["list", "show 0", "replay --all", "drop --all -f"] {
        let ended = adder(&format!("-b {NO_BROKER} dead-letter {action}"));
        assert_eq!((ended.code, &*ended.stdout), (Some(1), ""), "{action}");
        let line = "Error: cannot reach the dead letters of celery at redis://:**@127.0.0.1:1/0: Connection refused (os error 111)\n";
        assert_eq!(ended.stderr, line, "{action}");
    }
}
