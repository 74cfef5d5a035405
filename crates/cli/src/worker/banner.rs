//! What a worker prints when it starts: who it is, where its messages and results are, what it takes.
//!
//! Counterpart: `celery/apps/worker.py` (`startup_info`, `extra_info`) @ 5.7.0, whose form people and
//! their tools know. Deliberate difference: the app has its name, without an address in memory.

use chrono::{DateTime, Local};

/// The left side, line by line; further lines have as many blanks.
const ART: [&str; 12] = [
    " --------------",
    "--- ***** -----",
    "-- ******* ----",
    "- *** --- * ---",
    "- ** ----------",
    "- ** ----------",
    "- ** ----------",
    "- ** ----------",
    "- *** --- * ---",
    "-- ******* ----",
    "--- ***** -----",
    " --------------",
];

/// What the banner says.
pub(super) struct Banner<'a> {
    /// `celery@host`.
    pub(super) node: &'a str,
    /// `0.1.0 (celeriac)`.
    pub(super) version: &'a str,
    /// System, release and machine.
    pub(super) platform: &'a str,
    /// Now.
    pub(super) at: DateTime<Local>,
    /// The app's name.
    pub(super) app: &'a str,
    /// The broker, masked.
    pub(super) transport: &'a str,
    /// The result backend, masked.
    pub(super) results: &'a str,
    /// How many tasks at once, and what runs them.
    pub(super) concurrency: &'a str,
    /// Whether monitors are told of tasks.
    pub(super) task_events: bool,
    /// The queues' names.
    pub(super) queues: &'a [String],
    /// The tasks' names, where they are to be listed.
    pub(super) tasks: Option<&'a [String]>,
}

impl Banner<'_> {
    /// The whole text, for stdout.
    pub(super) fn text(&self) -> String {
        let mut text = String::from(" \n");
        for (number, line) in self.lines().iter().enumerate() {
            let left = ART.get(number).copied().unwrap_or("               ");
            text.push_str(&format!("{left} {line}\n"));
        }
        if let Some(tasks) = self.tasks {
            text.push_str("\n[tasks]\n");
            for task in tasks {
                text.push_str(&format!("  . {task}\n"));
            }
        }
        text.push('\n');
        text
    }

    fn lines(&self) -> Vec<String> {
        let at = self.at.format("%Y-%m-%d %H:%M:%S");
        let events = match self.task_events {
            true => "ON",
            false => "OFF (enable -E to monitor tasks in this worker)",
        };
        let mut lines = vec![
            format!("{} v{}", self.node, self.version),
            String::new(),
            format!("{} {at}", self.platform),
            String::new(),
            "[config]".to_owned(),
            format!(".> app:         {}", self.app),
            format!(".> transport:   {}", self.transport),
            format!(".> results:     {}", self.results),
            format!(".> concurrency: {}", self.concurrency),
            format!(".> task events: {events}"),
            String::new(),
            "[queues]".to_owned(),
        ];
        let mut queues: Vec<&String> = self.queues.iter().collect();
        queues.sort();
        for queue in &queues {
            lines.push(format!(
                ".> {queue:<16} exchange={queue}(direct) key={queue}"
            ));
        }
        if queues.len() == 1 {
            lines.push(String::new());
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeZone;

    use super::*;

    #[test]
    fn the_banner_has_celerys_form() {
        let queues = ["celery".to_owned()];
        let tasks = ["proj.add".to_owned(), "proj.slow".to_owned()];
        let banner = Banner {
            node: "w1@lab",
            version: "5.7.0 (collider)",
            platform: "Linux-6.18-x86_64",
            at: Local.with_ymd_and_hms(2026, 11, 23, 22, 10, 31).unwrap(),
            app: "proj",
            transport: "redis://:**@127.0.0.1:16499/0",
            results: "redis://:**@127.0.0.1:16499/1",
            concurrency: "1 (prefork)",
            task_events: false,
            queues: &queues,
            tasks: Some(&tasks),
        };
        // What Celery 5.7.0 printed on 127.0.0.1, but for the platform and the address of the app.
        let expected = "\u{20}
 -------------- w1@lab v5.7.0 (collider)
--- ***** -----\u{20}
-- ******* ---- Linux-6.18-x86_64 2026-11-23 22:10:31
- *** --- * ---\u{20}
- ** ---------- [config]
- ** ---------- .> app:         proj
- ** ---------- .> transport:   redis://:**@127.0.0.1:16499/0
- ** ---------- .> results:     redis://:**@127.0.0.1:16499/1
- *** --- * --- .> concurrency: 1 (prefork)
-- ******* ---- .> task events: OFF (enable -E to monitor tasks in this worker)
--- ***** -----\u{20}
 -------------- [queues]
                .> celery           exchange=celery(direct) key=celery
               \u{20}

[tasks]
  . proj.add
  . proj.slow

";
        assert_eq!(banner.text(), expected);
    }
}
