//! Names of workers: `name@host`, with Celery's `%` abbreviations.
//!
//! Counterpart: `celery/utils/nodenames.py` @ 5.7.0. Deliberate difference: an abbreviation that does
//! not exist is a usage error (there, a traceback).

/// What a worker is called when `-n` says only where it is.
const DEFAULT_NAME: &str = "celery";

/// What stands for each `%` letter.
struct Abbreviations<'a> {
    host: &'a str,
    name: Option<&'a str>,
    node: Option<&'a str>,
}

/// This machine's name.
pub(crate) fn host() -> String {
    gethostname::gethostname().to_string_lossy().into_owned()
}

/// The worker's name from what `-n` says: `w1@%h`, or only a host; nothing: `celery@<host>`.
///
/// # Errors
/// An abbreviation that does not exist.
pub(crate) fn node_name(typed: &str, host: &str) -> Result<String, String> {
    let (name, at) = match typed.split_once('@') {
        Some((name, at)) => (name, at),
        None => ("", typed),
    };
    let or = |text: &str, otherwise: &str| {
        if text.is_empty() {
            otherwise.to_owned()
        } else {
            text.to_owned()
        }
    };
    let text = format!("{}@{}", or(name, DEFAULT_NAME), or(at, host));
    expand(
        &text,
        &Abbreviations {
            host,
            name: None,
            node: None,
        },
    )
}

/// A path in which `%n`, `%h`, `%d` and the like are the worker's: `/var/log/%n.log`.
///
/// # Errors
/// An abbreviation that does not exist.
pub(crate) fn expand_path(path: &str, node: &str) -> Result<String, String> {
    let (name, host) = node.split_once('@').unwrap_or((DEFAULT_NAME, node));
    expand(
        path,
        &Abbreviations {
            host,
            name: Some(name),
            node: Some(node),
        },
    )
}

fn expand(text: &str, values: &Abbreviations<'_>) -> Result<String, String> {
    let (short_host, domain) = values.host.split_once('.').unwrap_or((values.host, ""));
    let mut expanded = String::with_capacity(text.len());
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        let next = letters.peek().copied();
        match (letter, next) {
            // Doubled, as in the files of service managers, it is the sign itself.
            ('%', Some('%')) => {
                letters.next();
                expanded.push('%');
            }
            ('%', Some(key)) if key.is_alphanumeric() || key == '_' => {
                letters.next();
                let value = match (key, values.node) {
                    ('h', _) => values.host,
                    ('n', _) => values.name.unwrap_or(short_host),
                    ('d', _) => domain,
                    // There is one process, and it is the first.
                    ('i', _) => "0",
                    ('I', _) => "",
                    ('p', Some(node)) => node,
                    _ => return Err(format!("'{text}' has %{key}, which stands for nothing")),
                };
                expanded.push_str(value);
            }
            _ => expanded.push(letter),
        }
    }
    Ok(expanded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_expand_as_in_celery() {
        // Taken from celery.utils.nodenames: host_format(default_nodename(typed)) on the host box.example.com.
        for (typed, expected) in [
            ("", "celery@box.example.com"),
            ("w1@%h", "w1@box.example.com"),
            ("%n@%d", "box@example.com"),
            ("w1", "celery@w1"),
            ("@lab", "celery@lab"),
            ("w1@", "w1@box.example.com"),
            ("w%i%I@lab", "w0@lab"),
            ("a@b@c", "a@b@c"),
            ("100%@lab", "100%@lab"),
            ("%%h@x", "%h@x"),
        ] {
            let name = node_name(typed, "box.example.com");
            assert_eq!(name.as_deref(), Ok(expected), "{typed}");
        }
    }

    #[test]
    fn paths_expand_by_the_workers_own_name() {
        for (path, expected) in [
            ("/var/log/%n.log", "/var/log/w1.log"),
            ("%p%I.pid", "w1@box.example.com.pid"),
            ("%h-%d", "box.example.com-example.com"),
        ] {
            let path = expand_path(path, "w1@box.example.com");
            assert_eq!(path.as_deref(), Ok(expected));
        }
    }

    #[test]
    fn an_unknown_abbreviation_is_refused() {
        assert!(node_name("w1@%x", "box").is_err_and(|reason| reason.contains("%x")));
    }
}
