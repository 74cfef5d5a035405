//! `task_routes`: which tasks go to which queue, where neither the call nor the task says it.
//!
//! Counterpart: `celery/app/routes.py` (`MapRoute`, `Router`) over Python's `fnmatch` @ 5.7.0. Difference: a route names a
//! queue and nothing else; there are no exchanges, and no functions.

use toml::{Table, Value};

use super::kinds::{Kind, of_tables, tables_of};

/// Tables of task names and their queues, asked in turn: the first that has an answer decides. In each, a name that stands
/// there in full comes first, then the patterns with `*` in their order. `?` and `[a-z]` in them are as in a shell.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TaskRoutes {
    tables: Vec<Vec<(String, String)>>,
}

impl TaskRoutes {
    /// One table.
    pub fn of<'a>(routes: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let routes = routes.into_iter();
        let table = routes.map(|(task, queue)| (task.to_owned(), queue.to_owned()));
        Self {
            tables: vec![table.collect()],
        }
    }

    /// The queue of a task; `None`: no route is for it.
    pub fn queue(&self, task: &str) -> Option<&str> {
        self.tables.iter().find_map(|table| {
            let mut exact = table.iter().filter(|(name, _)| !name.contains('*'));
            let mut patterns = table.iter().filter(|(name, _)| name.contains('*'));
            let route = exact.find(|(name, _)| name == task);
            let route = route.or_else(|| patterns.find(|(pattern, _)| matches(pattern, task)));
            route.map(|(_, queue)| queue.as_str())
        })
    }
}

/// [`TaskRoutes`] in TOML.
pub(crate) struct Routes;

impl Kind for Routes {
    type Value = TaskRoutes;
    const EXPECTED: &'static str = "a table of task names, or patterns like \"feed.*\", and their queues: \"feeds\" or \
                                    {queue = \"feeds\"}; or a list of such tables";

    fn read(toml: &Value) -> Option<TaskRoutes> {
        let tables = tables_of(toml)?.into_iter().map(read_table);
        let tables = tables.collect::<Option<_>>()?;
        Some(TaskRoutes { tables })
    }

    fn write(value: &TaskRoutes) -> Value {
        let tables = value.tables.iter().map(|table| {
            let routes = table.iter();
            let routes = routes.map(|(task, queue)| (task.clone(), Value::from(queue.as_str())));
            routes.collect()
        });
        of_tables(tables.collect())
    }
}

fn read_table(table: &Table) -> Option<Vec<(String, String)>> {
    let routes = table.iter().map(|(task, route)| {
        let queue = match route {
            Value::Table(route) if route.len() == 1 => route.get("queue")?,
            route => route,
        };
        let queue = queue.as_str().filter(|queue| !queue.is_empty())?;
        Some((task.clone(), queue.to_owned()))
    });
    routes.collect()
}

/// A part of a pattern.
enum Piece {
    /// `*`
    Any,
    /// `?`
    One,
    Is(char),
    /// `[a-z]`, `[!a-z]`
    In {
        ranges: Vec<(char, char)>,
        is_negated: bool,
    },
}

impl Piece {
    fn takes(&self, c: char) -> bool {
        match self {
            Self::Any | Self::One => true,
            Self::Is(own) => *own == c,
            Self::In { ranges, is_negated } => {
                let is_in = ranges.iter().any(|(from, to)| (*from..=*to).contains(&c));
                is_in != *is_negated
            }
        }
    }
}

fn pieces(pattern: &str) -> Vec<Piece> {
    let chars: Vec<char> = pattern.chars().collect();
    let (mut pieces, mut at) = (Vec::new(), 0);
    while let Some(c) = chars.get(at) {
        at += 1;
        pieces.push(match c {
            '*' => Piece::Any,
            '?' => Piece::One,
            '[' => match set(&chars[at..]) {
                Some((set, length)) => {
                    at += length;
                    set
                }
                None => Piece::Is('['),
            },
            c => Piece::Is(*c),
        });
    }
    pieces
}

/// What follows an opening bracket, and how long it is; `None` where nothing closes it.
fn set(rest: &[char]) -> Option<(Piece, usize)> {
    let is_negated = rest.first() == Some(&'!');
    let start = usize::from(is_negated);
    // A closing bracket that stands first is one of the characters.
    let end = start + 1 + rest.get(start + 1..)?.iter().position(|c| *c == ']')?;
    let (mut ranges, mut inside) = (Vec::new(), &rest[start..end]);
    while let [from, others @ ..] = inside {
        match others {
            ['-', to, behind @ ..] => {
                ranges.push((*from, *to));
                inside = behind;
            }
            behind => {
                ranges.push((*from, *from));
                inside = behind;
            }
        }
    }
    Some((Piece::In { ranges, is_negated }, end + 1))
}

/// In steps of at most the product of both lengths: a name may come from a message.
fn matches(pattern: &str, name: &str) -> bool {
    let (pieces, name): (_, Vec<char>) = (pieces(pattern), name.chars().collect());
    let (mut piece, mut at) = (0, 0);
    let mut star = None;
    while at < name.len() {
        match pieces.get(piece) {
            Some(Piece::Any) => {
                star = Some((piece, at));
                piece += 1;
            }
            Some(one) if one.takes(name[at]) => {
                piece += 1;
                at += 1;
            }
            // The last star takes one more.
            _ => match star {
                Some((place, from)) => {
                    star = Some((place, from + 1));
                    piece = place + 1;
                    at = from + 1;
                }
                None => return false,
            },
        }
    }
    pieces[piece..].iter().all(|it| matches!(it, Piece::Any))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routes(toml: &str) -> Option<TaskRoutes> {
        let table: Table = toml.parse().unwrap();
        Routes::read(&table["task_routes"])
    }

    #[test]
    fn a_name_comes_before_patterns_and_a_table_before_the_next() {
        let text = r#"
            [[task_routes]]
            "z.*" = "first"
            "*.tail" = {queue = "second"}
            "z.tail" = "exact"
            [[task_routes]]
            "*" = "rest"
        "#;
        let routes = routes(text).unwrap();
        for (task, queue) in [
            ("z.tail", "exact"),
            ("z.other.tail", "first"),
            ("a.tail", "second"),
            ("a", "rest"),
        ] {
            assert_eq!(routes.queue(task), Some(queue), "{task}");
        }
        assert_eq!(Routes::read(&Routes::write(&routes)), Some(routes));
        assert_eq!(TaskRoutes::default().queue("a"), None);
    }

    #[test]
    fn patterns_are_those_of_a_shell() {
        for (pattern, name, is_match) in [
            ("*", "", true),
            ("a*c*", "abcabd", true),
            ("a*c", "abcabd", false),
            ("a.?*", "a.", false),
            ("a.?*", "a.b", true),
            ("[a-c]*", "b", true),
            ("[!a-c]*", "b", false),
            ("[]x]*", "]", true),
            ("[a*", "[ab", true),
            ("a.*", "axb", false),
        ] {
            assert_eq!(matches(pattern, name), is_match, "{pattern} {name}");
        }
        assert!(!matches(&"*a".repeat(500), &"a".repeat(499)));
    }

    #[test]
    fn what_is_no_route_is_refused() {
        for text in [
            "task_routes = 1",
            "task_routes = {a = 1}",
            "task_routes = {a = \"\"}",
            "task_routes = [\"a\"]",
            "task_routes = {a = {queue = \"q\", exchange = \"e\"}}",
            "task_routes = {a = {}}",
        ] {
            assert_eq!(routes(text), None, "{text}");
        }
    }
}
