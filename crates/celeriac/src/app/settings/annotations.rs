//! `task_annotations`: options of tasks, by the task's name or `*` for all, which win over what the tasks say themselves.
//!
//! Counterpart: `celery/app/annotations.py`, `celery/app/task.py::Task.annotate` @ 5.7.0. As there, `*` wins over a name.
//! Difference: an option that tasks do not have is refused, and no code can be named.

use toml::{Table, Value};

use super::kinds::{
    CountOrNone, Flag, Kind, Name, Priority, RateLimitOrNone, Seconds, SecondsOrNever, of_tables,
    tables_of,
};
use super::serializers::{CompressionName, SerializerName};
use crate::handler::{MaxRetries, TaskOptions};

/// The name that stands for all tasks.
const ALL: &str = "*";

/// Tables of task names and their options. Of several, the first that has the name counts.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TaskAnnotations {
    /// What is in them has been applied once, to see that it can be.
    tables: Vec<Table>,
}

impl TaskAnnotations {
    /// Sets the options that are annotated for a task.
    pub(crate) fn annotate(&self, task: &str, options: &mut TaskOptions) {
        for name in [task, ALL] {
            let found = self.tables.iter().find_map(|table| table.get(name));
            if let Some(Value::Table(annotation)) = found {
                for (option, value) in annotation {
                    // Read before, or it would not be here.
                    set(options, option, value);
                }
            }
        }
    }
}

/// [`TaskAnnotations`] in TOML.
pub(crate) struct Annotations;

impl Kind for Annotations {
    type Value = TaskAnnotations;
    const EXPECTED: &'static str = "a table of task names, or \"*\", and their options: \
                                    {\"proj.add\" = {rate_limit = \"10/s\", time_limit = 60}}; or a list of such tables";

    fn read(toml: &Value) -> Option<TaskAnnotations> {
        let tables: Vec<Table> = tables_of(toml)?.into_iter().cloned().collect();
        let can_be_set = tables.iter().all(can_be_set);
        can_be_set.then_some(TaskAnnotations { tables })
    }

    fn write(value: &TaskAnnotations) -> Value {
        of_tables(value.tables.clone())
    }
}

fn can_be_set(table: &Table) -> bool {
    let mut scratch = TaskOptions::default();
    table.values().all(|annotation| {
        annotation.as_table().is_some_and(|annotation| {
            let mut options = annotation.iter();
            options.all(|(option, value)| set(&mut scratch, option, value).is_some())
        })
    })
}

/// `None`: tasks have no such option, or it cannot have this value.
fn set(options: &mut TaskOptions, option: &str, value: &Value) -> Option<()> {
    let flag = || Flag::read(value);
    match option {
        "acks_late" => options.acks_late = Some(flag()?),
        "acks_on_failure" => options.acks_on_failure = Some(flag()?),
        "acks_on_timeout" => options.acks_on_timeout = Some(flag()?),
        "acks_on_failure_or_timeout" => options.acks_on_failure_or_timeout = Some(flag()?),
        "reject_on_worker_lost" => options.reject_on_worker_lost = Some(flag()?),
        "ignore_result" => options.ignore_result = Some(flag()?),
        "store_errors_even_if_ignored" => options.store_errors_even_if_ignored = Some(flag()?),
        "track_started" => options.track_started = Some(flag()?),
        "send_events" => options.send_events = Some(flag()?),
        "max_retries" => {
            options.max_retries = Some(match CountOrNone::read(value)? {
                Some(times) => MaxRetries::Times(u32::try_from(times).ok()?),
                None => MaxRetries::Unlimited,
            });
        }
        "default_retry_delay" => options.default_retry_delay = Some(Seconds::read(value)?),
        // "none" would be the settings' limit here, and no limit in Celery, which also has 0 for that.
        "rate_limit" => options.rate_limit = Some(RateLimitOrNone::read(value)??),
        "time_limit" => options.time_limit = Some(SecondsOrNever::read(value)??),
        "soft_time_limit" => options.soft_time_limit = Some(SecondsOrNever::read(value)??),
        "expires" => options.expires = Some(Seconds::read(value)?),
        "priority" => options.priority = Some(Priority::read(value)??),
        "queue" => options.queue = Some(Name::read(value)?),
        "serializer" => options.serializer = Some(SerializerName::read(value)?),
        "compression" => options.compression = Some(CompressionName::read(value)??),
        _ => return None,
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn annotations(toml: &str) -> Option<TaskAnnotations> {
        let table: Table = toml.parse().unwrap();
        Annotations::read(&table["task_annotations"])
    }

    #[test]
    fn an_annotation_wins_over_the_task_and_that_of_all_tasks_over_that() {
        let annotations = annotations(
            r#"
            [[task_annotations]]
            "proj.add" = {rate_limit = "10/s", time_limit = 60, max_retries = "none"}
            [[task_annotations]]
            "proj.add" = {acks_late = true}
            "*" = {time_limit = 5, priority = 3}
            "#,
        )
        .unwrap();
        let mut options = TaskOptions {
            time_limit: Some(Duration::from_secs(1)),
            track_started: Some(true),
            ..TaskOptions::default()
        };
        let mut other = options.clone();
        annotations.annotate("proj.add", &mut options);
        assert_eq!(options.time_limit, Some(Duration::from_secs(5)));
        assert_eq!(options.rate_limit, "10/s".parse().ok());
        assert_eq!(options.max_retries, Some(MaxRetries::Unlimited));
        assert_eq!(
            (options.acks_late, options.track_started),
            (None, Some(true))
        );
        annotations.annotate("proj.other", &mut other);
        assert_eq!((other.rate_limit, other.priority), (None, Some(3)));
        let written = Annotations::write(&annotations);
        assert_eq!(Annotations::read(&written), Some(annotations));
    }

    #[test]
    fn what_tasks_do_not_have_is_refused() {
        for text in [
            "task_annotations = 1",
            "task_annotations = [1]",
            "task_annotations = {a = 1}",
            "task_annotations = {a = {rate_limits = \"1/s\"}}",
            "task_annotations = {a = {rate_limit = \"1/d\"}}",
            "task_annotations = {a = {rate_limit = \"none\"}}",
            "task_annotations = {a = {acks_late = 1}}",
            "task_annotations = {a = {max_retries = -1}}",
        ] {
            assert_eq!(annotations(text), None, "{text}");
        }
    }
}
