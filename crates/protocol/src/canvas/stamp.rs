//! Stamps: headers that are put on every task of a canvas, so that tasks can be found by them later.
//!
//! A stamp is an option of the task, and `stamped_headers` names those options that are stamps. Nobody but the user's own
//! code stamps anything.
//!
//! Counterpart: `celery/canvas.py @ 5.7.0` (`StampingVisitor`, `stamp` of each kind, `stamp_links`, `_stamp_headers`,
//! `_merge_dictionaries`). Lists are never shared here: in Celery a list that is given is extended for each task that is
//! stamped, and all of them see it.

use serde_json::Value;

use super::Signature;
use super::tree::{Canvas, Chain, Chord, Group, list};
use crate::{DecodeError, Map};

const NAMES: &str = "stamped_headers";

/// Says what a canvas is stamped with, part by part.
///
/// Each hook is told the stamps that are known so far and returns further ones. Where what it returns has
/// `stamped_headers`, only those named there are stamps, and all else are ordinary options.
#[expect(unused_variables, reason = "the names say what each hook is told")]
pub trait StampingVisitor {
    /// A task is stamped.
    fn on_signature(&mut self, signature: &mut Signature, headers: &Map) -> Map;

    /// A group is stamped; what is returned is for all in it.
    fn on_group_start(&mut self, group: &mut Group, headers: &Map) -> Map {
        Map::new()
    }

    /// A group has been stamped.
    fn on_group_end(&mut self, group: &mut Group, headers: &Map) {}

    /// A chain is stamped; what is returned is for all in it.
    fn on_chain_start(&mut self, chain: &mut Chain, headers: &Map) -> Map {
        Map::new()
    }

    /// A chain has been stamped.
    fn on_chain_end(&mut self, chain: &mut Chain, headers: &Map) {}

    /// The header of a chord is stamped, and what is returned is for its body, too.
    fn on_chord_header_start(&mut self, chord: &mut Chord, headers: &Map) -> Map {
        chord.with_header(|header| self.on_group_start(header, headers))
    }

    /// The header of a chord has been stamped.
    fn on_chord_header_end(&mut self, chord: &mut Chord, headers: &Map) {
        chord.with_header(|header| self.on_group_end(header, headers));
    }

    /// The body of a chord is stamped.
    fn on_chord_body(&mut self, chord: &mut Chord, headers: &Map) -> Map {
        Map::new()
    }

    /// A callback is stamped; what is returned is for those after it, too.
    fn on_callback(&mut self, callback: &mut Canvas, headers: &Map) -> Map {
        Map::new()
    }

    /// An errback is stamped; what is returned is for those after it, too.
    fn on_errback(&mut self, errback: &mut Canvas, headers: &Map) -> Map {
        Map::new()
    }
}

impl Canvas {
    /// Stamps all tasks in it, their callbacks and errbacks. As in Celery the body of a chord is only stamped where there
    /// is a visitor.
    ///
    /// A name that has several values keeps the first of: `headers`, the visitor's, the task's own. `append` keeps all of
    /// them, in that order. Lists are joined and objects are merged in either case.
    ///
    /// # Errors
    /// A callback or errback is no signature; those before it are stamped then.
    pub fn stamp(
        &mut self,
        visitor: Option<&mut dyn StampingVisitor>,
        append: bool,
        headers: &Map,
    ) -> Result<(), DecodeError> {
        Stamper { visitor, append }.canvas(self, headers)
    }
}

struct Stamper<'a> {
    visitor: Option<&'a mut dyn StampingVisitor>,
    append: bool,
}

impl Stamper<'_> {
    fn canvas(&mut self, canvas: &mut Canvas, headers: &Map) -> Result<(), DecodeError> {
        match canvas {
            Canvas::Task(signature) => self.task(signature, headers),
            Canvas::Chain(chain) => self.chain(chain, headers),
            Canvas::Group(group) => self.group(group, headers),
            Canvas::Chord(chord) => self.chord(chord, headers),
        }
    }

    fn task(&mut self, signature: &mut Signature, headers: &Map) -> Result<(), DecodeError> {
        self.links(&mut signature.options, headers)?;
        let asked = self.ask(|visitor| visitor.on_signature(signature, headers));
        let stamps = self.collected(headers, asked, &signature.options);
        signature.options.extend(stamps);
        Ok(())
    }

    fn chain(&mut self, chain: &mut Chain, headers: &Map) -> Result<(), DecodeError> {
        let asked = self.ask(|visitor| visitor.on_chain_start(chain, headers));
        let headers = self.collected(headers, asked, &chain.head.options);
        // Celery does not pass on whether stamps are appended.
        let append = std::mem::take(&mut self.append);
        self.links(&mut chain.head.options, &headers)?;
        self.append = append;
        self.all(&mut chain.tasks, &headers)?;
        self.tell(|visitor| visitor.on_chain_end(chain, &headers));
        Ok(())
    }

    fn group(&mut self, group: &mut Group, headers: &Map) -> Result<(), DecodeError> {
        let asked = self.ask(|visitor| visitor.on_group_start(group, headers));
        let headers = self.collected(headers, asked, &group.head.options);
        self.links(&mut group.head.options, &headers)?;
        self.all(&mut group.tasks, &headers)?;
        self.tell(|visitor| visitor.on_group_end(group, &headers));
        Ok(())
    }

    fn chord(&mut self, chord: &mut Chord, headers: &Map) -> Result<(), DecodeError> {
        let asked = self.ask(|visitor| visitor.on_chord_header_start(chord, headers));
        let headers = self.collected(headers, asked, &chord.head.options);
        self.links(&mut chord.head.options, &headers)?;
        self.all(&mut chord.header, &headers)?;
        self.tell(|visitor| visitor.on_chord_header_end(chord, &headers));
        if self.visitor.is_some() && chord.body.is_some() {
            let asked = self.ask(|visitor| visitor.on_chord_body(chord, &headers));
            let headers = self.collected(&headers, asked, &chord.head.options);
            if let Some(body) = &mut chord.body {
                self.canvas(body, &headers)?;
            }
        }
        Ok(())
    }

    fn all(&mut self, tasks: &mut [Canvas], headers: &Map) -> Result<(), DecodeError> {
        let mut tasks = tasks.iter_mut();
        tasks.try_for_each(|task| self.canvas(task, headers))
    }

    /// Callbacks and errbacks do not get the stamps that the task has already.
    fn links(&mut self, options: &mut Map, given: &Map) -> Result<(), DecodeError> {
        for key in ["link", "link_error"] {
            let links = match options.get_mut(key) {
                None | Some(Value::Null) => continue,
                Some(Value::Array(links)) => links.as_mut_slice(),
                Some(one) => std::slice::from_mut(one),
            };
            let mut headers = given.clone();
            for link in links {
                let mut canvas = Canvas::from_value(link.clone())?;
                let asked = self.ask(|visitor| match key {
                    "link" => visitor.on_callback(&mut canvas, &headers),
                    _ => visitor.on_errback(&mut canvas, &headers),
                });
                headers = self.collected(&headers, asked, &Map::new());
                self.canvas(&mut canvas, &headers)?;
                *link = canvas.into_value();
            }
        }
        Ok(())
    }

    fn ask(&mut self, hook: impl FnOnce(&mut dyn StampingVisitor) -> Map) -> Option<Map> {
        let visitor = self.visitor.as_mut();
        visitor.map(|visitor| hook(&mut **visitor))
    }

    fn tell(&mut self, hook: impl FnOnce(&mut dyn StampingVisitor)) {
        if let Some(visitor) = &mut self.visitor {
            hook(&mut **visitor);
        }
    }

    /// What was given, what the visitor adds, and of the task's own options those that have a name of these.
    fn collected(&self, given: &Map, asked: Option<Map>, own: &Map) -> Map {
        let mut all = named(given.clone());
        if let Some(asked) = asked {
            merge(&mut all, named(asked), self.append);
        }
        let mut names: Vec<Value> = Vec::new();
        let own_names = list(own.get(NAMES).cloned());
        for name in list(all.shift_remove(NAMES)).into_iter().chain(own_names) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        let stamps = own.iter();
        let stamps =
            stamps.filter(|(key, _)| *key != NAMES && names.iter().any(|name| name == *key));
        let stamps = stamps.map(|(key, value)| (key.clone(), value.clone()));
        merge(&mut all, stamps.collect(), self.append);
        all.insert(NAMES.to_owned(), Value::Array(names));
        all
    }
}

/// All are stamps where nothing says which.
fn named(mut headers: Map) -> Map {
    if !headers.contains_key(NAMES) {
        let names = headers.keys().map(|name| Value::from(name.as_str()));
        let names = names.collect();
        headers.insert(NAMES.to_owned(), names);
    }
    headers
}

/// What is there stays; with `append` both are in a list.
fn merge(into: &mut Map, from: Map, append: bool) {
    for (key, more) in from {
        match (into.get_mut(&key), more) {
            (None, more) => drop(into.insert(key, more)),
            (Some(Value::Object(there)), Value::Object(more)) => merge(there, more, append),
            (Some(Value::Array(there)), Value::Array(more)) => there.extend(more),
            (Some(Value::Array(there)), more) if append => there.extend(list(Some(more))),
            (Some(Value::Null), one) if append => drop(into.insert(key, Value::Array(vec![one]))),
            (Some(there), more) if append => {
                // Celery fails to append to an object.
                let mut both = vec![there.take()];
                both.extend(list(Some(more)));
                *there = Value::Array(both);
            }
            (Some(_), _) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn map(value: &Value) -> Map {
        value.as_object().cloned().unwrap_or_default()
    }

    #[test]
    fn what_is_there_stays_or_is_first() {
        let there = json!({"a": 1, "b": [1], "c": {"x": 1}, "d": null, "e": {"x": 1}, "f": 1});
        let more =
            json!({"a": 2, "b": [2], "c": {"x": 2, "y": 2}, "d": 2, "e": 2, "f": {"x": 2}, "g": 2});
        for (append, expected) in [
            (
                false,
                json!({"a": 1, "b": [1, 2], "c": {"x": 1, "y": 2}, "d": null, "e": {"x": 1}, "f": 1, "g": 2}),
            ),
            (
                true,
                json!({"a": [1, 2], "b": [1, 2], "c": {"x": [1, 2], "y": 2}, "d": [2], "e": [{"x": 1}, 2],
                       "f": [1, {"x": 2}], "g": 2}),
            ),
        ] {
            let mut merged = map(&there);
            merge(&mut merged, map(&more), append);
            assert_eq!(Value::Object(merged), expected);
        }
    }

    #[test]
    fn no_task_gets_what_another_one_was_told() {
        struct Counts(usize);
        impl StampingVisitor for Counts {
            fn on_signature(&mut self, _: &mut Signature, _: &Map) -> Map {
                self.0 += 1;
                map(&json!({"all": [self.0], format!("n{}", self.0): true}))
            }
        }
        let task = || Canvas::from(Signature::new("t", Vec::new(), Map::new()));
        let mut group = Canvas::group([task(), task()]);
        let headers = map(&json!({"all": [0]}));
        group.stamp(Some(&mut Counts(0)), false, &headers).unwrap();
        let Canvas::Group(group) = group else {
            unreachable!("it was one")
        };
        let options: Vec<&Map> = group.tasks().iter().map(Canvas::options).collect();
        assert_eq!(
            json!(options),
            json!([
                {"all": [0, 1], "stamped_headers": ["all", "n1"], "n1": true},
                {"all": [0, 2], "stamped_headers": ["all", "n2"], "n2": true},
            ])
        );
    }

    #[test]
    fn a_link_that_is_no_signature_is_an_error() {
        let mut task = Signature::new("t", Vec::new(), Map::new());
        task.options.insert("link".to_owned(), json!([5]));
        assert!(Canvas::from(task).stamp(None, false, &Map::new()).is_err());
    }
}
