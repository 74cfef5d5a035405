//! What the messages of a kind have in common, so that the take script need not parse each of them.
//!
//! A message that was parsed, and in which some texts are replaced by others without quotes, escapes and control
//! characters, is JSON as well. Which texts change is seen by laying messages of a kind beside each other: in Celery's it
//! is the ids and the body, and to find the rest in its place is one comparison.

use std::collections::VecDeque;

/// How many kinds are known; the parts of each go along with every take.
const KINDS_MAX: usize = 8;

/// How many messages are kept that have no second one of their kind yet.
const SINGLES_MAX: usize = 4;

/// Most bytes of the parts of a form.
const BYTES_MAX: usize = 2000;

/// Longer texts are taken for such as change: they would go along with every take.
const STAYING_MAX: usize = 256;

/// Most texts that change: each takes nearly a microsecond of the server's time for every message.
const CHANGING_MAX: usize = 16;

/// The kinds of messages that were seen last.
#[derive(Debug, Default)]
pub(super) struct Forms {
    kinds: VecDeque<Kind>,
    /// Nothing of them has changed so far. By themselves, so that messages without a kind replace none that has one.
    singles: VecDeque<Kind>,
}

#[derive(Debug)]
struct Kind {
    /// What is between quotes and what is not, in turn; `None`: a text that changes.
    pieces: Vec<Option<Vec<u8>>>,
    /// Made of them when they change, and not for every take.
    parts: Vec<Vec<u8>>,
}

impl Forms {
    /// Takes note of a message that was parsed.
    pub(super) fn learn(&mut self, message: &[u8]) {
        if message.iter().any(|&byte| byte == b'\\' || byte < b' ') {
            return;
        }
        let pieces: Vec<&[u8]> = message.split(|&byte| byte == b'"').collect();
        if let Some(place) = self.kinds.iter().position(|kind| kind.includes(&pieces)) {
            self.kinds[place].widen(&pieces);
            if !self.kinds[place].is_worth_it() {
                self.kinds.remove(place);
            }
        } else if let Some(place) = self.singles.iter().position(|kind| kind.includes(&pieces)) {
            self.singles[place].widen(&pieces);
            let kind = self.singles.remove(place);
            self.kinds.extend(kind.filter(Kind::is_worth_it));
            limit(&mut self.kinds, KINDS_MAX);
        } else {
            self.singles.push_back(Kind::of(&pieces));
            limit(&mut self.singles, SINGLES_MAX);
        }
    }

    /// Of each form the parts that stay; between two of them is the inside of a text.
    pub(super) fn parts(&self) -> impl Iterator<Item = &[Vec<u8>]> {
        self.kinds.iter().map(|kind| &*kind.parts)
    }
}

fn limit(kinds: &mut VecDeque<Kind>, most: usize) {
    let surplus = kinds.len().saturating_sub(most);
    kinds.drain(..surplus);
}

impl Kind {
    fn of(pieces: &[&[u8]]) -> Self {
        let stays = |(place, piece): (usize, &&[u8])| {
            let is_long_text = place % 2 == 1 && piece.len() > STAYING_MAX;
            (!is_long_text).then(|| piece.to_vec())
        };
        let pieces: Vec<_> = pieces.iter().enumerate().map(stays).collect();
        let parts = parts(&pieces);
        Self { pieces, parts }
    }

    /// Whether nothing is different but texts.
    fn includes(&self, pieces: &[&[u8]]) -> bool {
        let mut outside = self.pieces.iter().zip(pieces).step_by(2);
        self.pieces.len() == pieces.len()
            && outside.all(|(known, piece)| known.as_deref() == Some(piece))
    }

    fn widen(&mut self, pieces: &[&[u8]]) {
        for (known, piece) in self.pieces.iter_mut().zip(pieces) {
            if known.as_deref() != Some(piece) {
                *known = None;
            }
        }
        self.parts = parts(&self.pieces);
    }

    /// Two that are the same are no kind.
    fn is_worth_it(&self) -> bool {
        let changing = self.pieces.iter().filter(|piece| piece.is_none()).count();
        let bytes: usize = self.pieces.iter().flatten().map(Vec::len).sum();
        (1..=CHANGING_MAX).contains(&changing) && bytes <= BYTES_MAX
    }
}

/// What stands around the texts that change, with their quotes.
fn parts(pieces: &[Option<Vec<u8>>]) -> Vec<Vec<u8>> {
    let (mut parts, mut part) = (Vec::new(), Vec::new());
    for (place, piece) in pieces.iter().enumerate() {
        if place > 0 {
            part.push(b'"');
        }
        match piece {
            Some(piece) => part.extend_from_slice(piece),
            None => parts.push(std::mem::take(&mut part)),
        }
    }
    parts.push(part);
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(messages: &[&str]) -> Vec<Vec<String>> {
        let mut forms = Forms::default();
        for message in messages {
            forms.learn(message.as_bytes());
        }
        let text = |part: &Vec<u8>| String::from_utf8(part.clone()).unwrap();
        forms
            .parts()
            .map(|parts| parts.iter().map(text).collect())
            .collect()
    }

    #[test]
    fn what_two_messages_have_in_common_is_a_form() {
        let one = r#"{"id": "a", "n": 1, "same": "x", "to": "b"}"#;
        let two = r#"{"id": "c", "n": 1, "same": "x", "to": ""}"#;
        let form = [r#"{"id": ""#, r#"", "n": 1, "same": "x", "to": ""#, r#""}"#];
        assert_eq!(parts(&[one, two]), [form]);
        // What stays is what stays in all.
        let three = r#"{"id": "c", "n": 1, "same": "y", "to": "b"}"#;
        let wider = [
            r#"{"id": ""#,
            r#"", "n": 1, "same": ""#,
            r#"", "to": ""#,
            r#""}"#,
        ];
        assert_eq!(parts(&[one, two, three]), [wider]);
        assert_eq!(parts(&[one, two, two, one]), [form]);
    }

    #[test]
    fn texts_beside_each_other_and_names_may_change() {
        assert_eq!(
            parts(&[r#"{"a":"b"}"#, r#"{"c":"d"}"#]),
            [[r#"{""#, r#"":""#, r#""}"#]]
        );
    }

    #[test]
    fn a_long_text_is_taken_for_one_that_changes() {
        let long = format!(r#"{{"body": "{}", "a": "b"}}"#, "x".repeat(STAYING_MAX + 1));
        assert_eq!(
            parts(&[&long, &long]),
            [[r#"{"body": ""#, r#"", "a": "b"}"#]]
        );
    }

    #[test]
    fn what_is_not_of_a_kind_is_no_form() {
        let none: [&[&str]; 6] = [
            &[r#"{"id": "a"}"#],
            &[r#"{"id": "a"}"#, r#"{"id": "a"}"#],
            &[r#"{"id": "a"}"#, r#"{"id": 1}"#],
            &[r#"{"n": 1, "id": "a"}"#, r#"{"n": 2, "id": "b"}"#],
            &[r#"{"id": "a\n"}"#, r#"{"id": "b\n"}"#],
            &["{\"id\": \n\"a\"}", "{\"id\": \n\"b\"}"],
        ];
        for messages in none {
            assert_eq!(parts(messages), Vec::<Vec<String>>::new(), "{messages:?}");
        }
        let many = |text: &str| {
            format!(
                "{{{}}}",
                vec![format!(r#""{text}": 1"#); CHANGING_MAX + 1].join(", ")
            )
        };
        assert!(parts(&[&many("a"), &many("b")]).is_empty());
        let large = |text: &str| format!(r#"{{"{text}": [{}]}}"#, "1,".repeat(BYTES_MAX));
        assert!(parts(&[&large("a"), &large("b")]).is_empty());
    }

    #[test]
    fn the_oldest_kinds_are_forgotten_and_messages_without_one_replace_none() {
        let of = |kind: usize, text: &str| format!(r#"{{"n": {kind}, "id": "{text}"}}"#);
        let mut messages: Vec<String> = (0..=KINDS_MAX)
            .flat_map(|kind| [of(kind, "a"), of(kind, "b")])
            .collect();
        messages.extend((100..200).map(|kind| of(kind, "a")));
        let messages: Vec<&str> = messages.iter().map(String::as_str).collect();
        let known = parts(&messages);
        assert_eq!(known.len(), KINDS_MAX);
        assert_eq!(known[0][0], r#"{"n": 1, "id": ""#);
    }
}
