//! How much of a message is read: what is beyond goes to the dead letters, before it costs memory or stack.
//!
//! Python's worker has no such limits: a compressed megabyte can cost it gigabytes, a deep list its process.

use crate::{Accept, DecodeError};

/// What a message may have at most, and in which serializers its body may be. The bytes are set by the user, the rest follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the envelope as it lies in the queue.
    pub message_bytes: usize,
    /// Bytes of the body after base64 and decompression.
    pub body_bytes: usize,
    /// Objects and lists inside each other, in the envelope and in the body.
    pub nesting: usize,
    /// Values (numbers, texts, lists, objects) in the envelope and in the body: each takes 72 bytes or more in memory,
    /// and as few as two in JSON.
    pub values: usize,
    /// The setting `accept_content`.
    pub accept: Accept,
}

/// 64 MiB, for messages and for bodies. Redis would hold 512 MiB, but a worker holds several messages at a time.
const DEFAULT_BYTES: usize = 64 * 1024 * 1024;

/// A chain of groups is a chord within a chord, two levels for each. CPython gives up at about 1000; parsing takes 2.5 KB of
/// stack for a level in a debug build, and a thread has 2 MB.
const NESTING: usize = 300;

/// One value for so many bytes of the largest body.
const BYTES_A_VALUE: usize = 32;

impl Limits {
    /// Nothing is too much: for bytes of our own.
    pub const NONE: Self = Self {
        message_bytes: usize::MAX,
        body_bytes: usize::MAX,
        nesting: NESTING,
        values: usize::MAX,
        accept: Accept::JSON,
    };

    /// The limits that go with these sizes.
    pub fn new(message_bytes: usize, body_bytes: usize) -> Self {
        Self {
            message_bytes,
            body_bytes,
            nesting: NESTING,
            values: message_bytes.max(body_bytes) / BYTES_A_VALUE,
            accept: Accept::JSON,
        }
    }

    /// With these serializers.
    pub fn accepting(self, accept: Accept) -> Self {
        Self { accept, ..self }
    }

    /// Looks at JSON, valid or not, before it is parsed.
    pub(crate) fn check_json(&self, what: &'static str, json: &[u8]) -> Result<(), DecodeError> {
        let (mut depth, mut values) = (0_usize, 1_usize);
        let mut bytes = json.iter();
        while let Some(byte) = bytes.next() {
            match byte {
                b'"' => {
                    skip_string(&mut bytes);
                    continue;
                }
                b'[' | b'{' => {
                    depth += 1;
                    values += 1;
                }
                b']' | b'}' => depth = depth.saturating_sub(1),
                b',' => values += 1,
                _ => continue,
            }
            if depth > self.nesting {
                let limit = self.nesting;
                return Err(DecodeError::TooDeep { what, limit });
            }
            if values > self.values {
                let limit = self.values;
                return Err(DecodeError::TooManyValues { what, limit });
            }
        }
        Ok(())
    }

    pub(crate) fn check_message(&self, bytes: usize) -> Result<(), DecodeError> {
        check("message", bytes, self.message_bytes)
    }

    pub(crate) fn check_body(&self, bytes: usize) -> Result<(), DecodeError> {
        check("body", bytes, self.body_bytes)
    }
}

impl Default for Limits {
    /// 64 MiB each.
    fn default() -> Self {
        Self::new(DEFAULT_BYTES, DEFAULT_BYTES)
    }
}

fn check(what: &'static str, bytes: usize, limit: usize) -> Result<(), DecodeError> {
    if bytes > limit {
        return Err(DecodeError::TooLarge { what, bytes, limit });
    }
    Ok(())
}

/// Goes behind a string's end.
fn skip_string(bytes: &mut std::slice::Iter<'_, u8>) {
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => break,
            b'\\' => {
                bytes.next();
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: Limits = Limits {
        message_bytes: 10,
        body_bytes: 10,
        nesting: 2,
        values: 6,
        accept: Accept::JSON,
    };

    #[test]
    fn brackets_and_commas_inside_of_texts_count_for_nothing() {
        for json in [
            r#"{"[[[{{{,,,,,,,,,": ["\"[[[[", "\\"]}"#,
            "",
            "[[1], 2, 3]",
        ] {
            let checked = SMALL.check_json("body", json.as_bytes());
            assert_eq!(checked, Ok(()), "{json}");
        }
    }

    #[test]
    fn what_is_beyond_a_limit_is_refused_with_the_limit() {
        for (json, reason) in [
            ("[[[", "the body is nested deeper than 2 levels"),
            (r#"["\\", [[]]]"#, "the body is nested deeper than 2 levels"),
            ("[1,2,3,4,5,6]", "the body has more than 6 values"),
            ("[[],[],[]]", "the body has more than 6 values"),
        ] {
            let refused = SMALL.check_json("body", json.as_bytes()).unwrap_err();
            assert_eq!(refused.to_string(), reason);
        }
        assert_eq!(
            SMALL.check_message(11).unwrap_err().to_string(),
            "the message has 11 bytes, more than 10"
        );
        assert_eq!(SMALL.check_body(10), Ok(()));
    }
}
