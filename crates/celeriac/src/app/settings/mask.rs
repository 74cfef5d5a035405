//! Hides the passwords of URLs, in this one place: banner, log lines, errors and `Debug` all come here.
//!
//! Duties: what Celery prints for a URL that it can read (`redis://:**@127.0.0.1:6499/0`), and no
//! password for one that nobody can read. The query is left out, as Celery leaves it out: options may
//! be secrets too.
//!
//! Counterpart: `kombu/utils/url.py` (`sanitize_url`) and `Connection.as_uri` @ 5.7.0. Deliberate
//! difference: an IPv6 host keeps its brackets and colons (kombu escapes them), so that the address
//! shown can be used.

const MASK: &str = "**";

/// The URL with its password replaced by `**`, as Celery prints the URL of a result backend.
///
/// Lists with `;` are masked address by address. Text that is no URL comes back as it is, without what
/// stands before an `@`.
pub fn mask_url(url: &str) -> String {
    addresses(url)
        .into_iter()
        .map(|one| mask_one(one, Password::WhereItIs))
        .collect::<Vec<_>>()
        .join(";")
}

/// The URL of a broker as Celery's banner and log lines show it: always with `:**@`, so that nobody
/// can see whether there is a password; of a list, the first address.
pub(crate) fn mask_broker_url(url: &str) -> String {
    let first = addresses(url)[0];
    mask_one(first, Password::Always)
}

/// Whether a URL carries a password (or something that could be one).
pub fn has_password(url: &str) -> bool {
    addresses(url).into_iter().any(|one| match Parts::of(one) {
        Some(parts) => parts.password.is_some() || parts.has_query_password,
        None => one.contains('@'),
    })
}

/// The addresses of a list with `;`, at least one. A `;` that no scheme follows is part of an address:
/// it may stand in a password.
fn addresses(url: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut start = 0;
    for (at, _) in url.match_indices(';') {
        let next = url[at + 1..].split(';').next().unwrap_or_default();
        if next.contains("://") {
            found.push(&url[start..at]);
            start = at + 1;
        }
    }
    found.push(&url[start..]);
    found
}

#[derive(Clone, Copy, PartialEq)]
enum Password {
    Always,
    WhereItIs,
}

struct Parts<'a> {
    scheme: &'a str,
    user: &'a str,
    password: Option<&'a str>,
    /// Host, port and path, without query and fragment.
    rest: &'a str,
    has_query_password: bool,
}

impl<'a> Parts<'a> {
    /// `None` for text without a scheme.
    fn of(url: &'a str) -> Option<Self> {
        let (scheme, after) = url.split_once("://")?;
        // The last `@` of all: a password in which `@`, `/`, `?` or `#` stand unescaped is still hidden,
        // at the price of a little more being hidden where an `@` stands in a path or query.
        let (userinfo, rest) = match after.rsplit_once('@') {
            Some((userinfo, rest)) => (Some(userinfo), rest),
            None => (None, after),
        };
        let (user, password) = match userinfo.map(|text| text.split_once(':')) {
            Some(Some((user, password))) => (user, Some(password).filter(|text| !text.is_empty())),
            Some(None) => (userinfo.unwrap_or_default(), None),
            None => ("", None),
        };
        let end = rest.find(['?', '#']).unwrap_or(rest.len());
        Some(Self {
            scheme,
            user,
            password,
            rest: &rest[..end],
            has_query_password: rest[end..].to_ascii_lowercase().contains("password="),
        })
    }
}

fn mask_one(url: &str, when: Password) -> String {
    let Some(parts) = Parts::of(url) else {
        return match url.rsplit_once('@') {
            Some((_, rest)) => format!("{MASK}@{rest}"),
            None => url.to_owned(),
        };
    };
    let Parts {
        scheme, user, rest, ..
    } = parts;
    // A path on this machine is an address without a host: kombu puts no mask there.
    let is_local = rest.starts_with('/');
    if parts.password.is_some() || (when == Password::Always && !is_local) {
        format!("{scheme}://{user}:{MASK}@{rest}")
    } else if user.is_empty() {
        format!("{scheme}://{rest}")
    } else {
        format!("{scheme}://{user}@{rest}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_masked_as_celery_masks_it() {
        for (url, expected) in [
            (
                "redis://:secret@127.0.0.1:6499/0",
                "redis://:**@127.0.0.1:6499/0",
            ),
            ("redis://127.0.0.1:6499/1", "redis://127.0.0.1:6499/1"),
            ("redis://user:secret@h:1/2", "redis://user:**@h:1/2"),
            ("redis://user@h:1/2", "redis://user@h:1/2"),
            ("rediss://:x@h:1/2?ssl_cert_reqs=none", "rediss://:**@h:1/2"),
            (
                "sentinel://:a@h:1;sentinel://:b@i:2",
                "sentinel://:**@h:1;sentinel://:**@i:2",
            ),
            ("redis+socket:///tmp/x.sock", "redis+socket:///tmp/x.sock"),
            ("disabled://", "disabled://"),
        ] {
            assert_eq!(mask_url(url), expected, "{url}");
        }
    }

    #[test]
    fn a_broker_is_shown_with_a_mask_whether_it_has_a_password_or_not() {
        for (url, expected) in [
            ("redis://127.0.0.1:6499/0", "redis://:**@127.0.0.1:6499/0"),
            ("redis://u:p@h:1/2", "redis://u:**@h:1/2"),
            ("redis://a:1/0;redis://:p@b:1/0", "redis://:**@a:1/0"),
            ("redis+socket:///tmp/x.sock", "redis+socket:///tmp/x.sock"),
        ] {
            assert_eq!(mask_broker_url(url), expected, "{url}");
        }
    }

    #[test]
    fn no_part_of_a_password_is_shown_even_when_the_url_is_broken() {
        for url in [
            "redis://:se@cret@h:1/2",
            "redis://:se/cret@h:1/2",
            "redis://:se?cret@h",
            "redis://:se#cret@h",
            "redis//:secret@h",
            ":secret@h",
            "redis://:sec;ret@h",
            "redis://h/0?password=secret",
            "postgres://u:secret@h/db?x=a@b",
        ] {
            let shown = mask_url(url);
            for part in ["sec", "cret", "ret@"] {
                assert!(!shown.contains(part), "{url} is shown as {shown}");
            }
        }
    }

    #[test]
    fn a_password_is_found_wherever_it_is() {
        assert!(has_password("redis://:secret@h"));
        assert!(has_password("postgres://h/db?user=u&password=p"));
        assert!(has_password("redis//:secret@h"));
        assert!(!has_password("redis://user@h"));
        assert!(!has_password("redis://h:1/2"));
    }
}
