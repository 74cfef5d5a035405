//! `celeriac ingest PATH…`: what the task does, for files at hand: no Kafka, no Redis.
//!
//! - here: what is typed, what is printed, the exit code
//! - [`targets`]: which files are meant
//!
//! Nothing is waited for: whoever typed it wants to know. Run again, it goes on where it was: what is loaded stays
//! loaded.

mod targets;

use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};
use std::sync::Arc;
use std::time::Duration;

use celeriac_cli::{Command, CommandFuture, ExitError, ExitStatus, Loaded};
use clap::{Arg, ArgAction, ArgMatches, value_parser};
use futures_util::stream::{self, StreamExt as _};
use indicatif::{HumanCount, ProgressBar, ProgressDrawTarget, ProgressStyle};
use sensor_tasks::process_file::{Error, Examination, Fate, examine, process_file};
use sensor_tasks::sensor_csv::{Report, describe};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{db, options};
use crate::app;
use targets::{Target, find};

const ABOUT: &str = "Load files at hand, without Kafka and Redis";

const LONG_ABOUT: &str = "\
Deal with each file as worker.tasks.process_file_task does: a good file is loaded, known content is recorded as a \
duplicate, a bad file is moved to quarantine with its report. A directory stands for all *.csv files in it.

Files below the watch directory are recorded under the path that the pipeline uses, so that both know of each other. \
Other files may lie anywhere; nothing outside of their directory is touched.

One line for each file goes to stdout, in the order of the arguments. Ctrl+C ends cleanly: a file is loaded whole or not at \
all.";

const AFTER_HELP: &str = "\
Examples:
  celeriac ingest data/split_1.csv
  celeriac ingest --dry-run ~/Downloads
  celeriac ingest --json /srv/archive/2026 > report.jsonl

Exit code 0: every file is loaded, or was before; with --dry-run: every file is good. 1: at least one is not. 69: PostgreSQL \
cannot be reached.";

/// The command.
pub(super) struct Ingest;

impl Command for Ingest {
    fn clap(&self) -> clap::Command {
        clap::Command::new("ingest")
            .about(ABOUT)
            .long_about(LONG_ABOUT)
            .after_help(AFTER_HELP)
            .arg(
                Arg::new("paths")
                    .value_name("PATH")
                    .required(true)
                    .num_args(1..)
                    .value_parser(value_parser!(std::path::PathBuf))
                    .help("A file, or a directory of *.csv files"),
            )
            .arg(flag("dry_run", "Only judge the files and print what is wrong with them; nothing is written or moved"))
            .arg(flag("json", "Print one JSON object for each file"))
            .arg(
                Arg::new("jobs")
                    .long("jobs")
                    .short('j')
                    .value_name("N")
                    .value_parser(value_parser!(u32).range(1..))
                    .help("Files at a time [default: one for each CPU]"),
            )
            .arg(options::watch_dir())
            .arg(options::quarantine_dir())
            .arg(options::log_dir())
            .arg(options::database_url())
    }

    /// The lines on stdout say it all; the log's would be between them and the bar.
    fn default_loglevel(&self) -> &'static str {
        "CRITICAL"
    }

    fn run(&self, matches: &ArgMatches, loaded: Loaded) -> CommandFuture {
        let settings = options::settings(matches, &loaded);
        let paths = matches
            .get_many("paths")
            .into_iter()
            .flatten()
            .cloned()
            .collect::<Vec<_>>();
        let jobs = matches
            .get_one::<u32>("jobs")
            .map_or_else(app::every_core, |jobs| *jobs as usize);
        let is_dry_run = matches.get_flag("dry_run");
        let is_json = matches.get_flag("json");
        Box::pin(async move {
            let settings = settings?;
            let targets = find(&paths, &settings.pipeline.watch_dir)?;
            if !is_dry_run {
                db::check_reachable(&settings).await?;
            }
            let ingest = app::ingest(&settings, u32::try_from(jobs).unwrap_or(u32::MAX))?;
            let run = Run {
                ingest: Arc::new(ingest.impatient()),
                jobs,
                is_dry_run,
                is_json,
            };
            let stop = CancellationToken::new();
            options::until_signal(&stop, run.all(targets, &stop)).await?
        })
    }
}

fn flag(id: &'static str, help: &'static str) -> Arg {
    Arg::new(id)
        .long(id.replace('_', "-"))
        .action(ArgAction::SetTrue)
        .help(help)
}

struct Run {
    ingest: Arc<sensor_tasks::Ingest>,
    jobs: usize,
    is_dry_run: bool,
    is_json: bool,
}

/// What one file came to.
enum Outcome {
    Fate(Fate),
    Examined(Examination),
    Failed(Error),
}

impl Run {
    async fn all(&self, targets: Vec<Target>, stop: &CancellationToken) -> anyhow::Result<()> {
        let bar = progress_bar(targets.iter().map(|target| target.size_bytes).sum());
        let mut counts = Counts::default();
        let outcomes = stream::iter(targets).map(|target| async {
            let outcome = self.one(&target, stop).await;
            (target, outcome)
        });
        let mut outcomes = std::pin::pin!(outcomes.buffered(self.jobs));
        while let Some((target, outcome)) = outcomes.next().await {
            if matches!(outcome, Outcome::Failed(Error::Cancelled)) {
                continue;
            }
            counts.add(&outcome);
            let text = match self.is_json {
                true => format!("{}\n", outcome.to_json(&target.path)),
                false => outcome.to_text(&target.path),
            };
            // A reader who has gone away (`| head`) must not stop the loading.
            bar.suspend(|| drop(std::io::stdout().lock().write_all(text.as_bytes())));
            bar.inc(target.size_bytes);
        }
        bar.finish_and_clear();
        if std::io::stderr().is_terminal() {
            counts.say();
        }
        if stop.is_cancelled() {
            return Err(ExitError::new(
                ExitStatus::Interrupted,
                "interrupted; run it again to go on",
            )
            .into());
        }
        match counts.not_well {
            0 => Ok(()),
            // The lines have said why.
            _ => Err(ExitError::new(ExitStatus::Failed, "").into()),
        }
    }

    async fn one(&self, target: &Target, stop: &CancellationToken) -> Outcome {
        if stop.is_cancelled() {
            return Outcome::Failed(Error::Cancelled);
        }
        let ingest = match &target.root {
            Some(root) => Arc::new(self.ingest.rooted(root.clone())),
            None => Arc::clone(&self.ingest),
        };
        if self.is_dry_run {
            let examined = examine(&ingest, &target.path, stop).await;
            return examined.map_or_else(Outcome::Failed, Outcome::Examined);
        }
        // No task stands behind it; the ledger says so.
        let task_id = format!("ingest-{}", Uuid::new_v4());
        let fate = process_file(&ingest, &target.path, &task_id, stop).await;
        fate.map_or_else(Outcome::Failed, Outcome::Fate)
    }
}

impl Outcome {
    fn is_well(&self) -> bool {
        matches!(
            self,
            Self::Fate(Fate::Loaded { .. } | Fate::Duplicate { .. })
                | Self::Examined(Examination::Good(_))
        )
    }

    fn status(&self) -> &'static str {
        match self {
            Self::Fate(fate) => fate.status(),
            Self::Examined(Examination::Good(_)) => "good",
            Self::Examined(Examination::Bad(_)) => "bad",
            Self::Examined(Examination::Missing) => "missing",
            Self::Failed(_) => "failed",
        }
    }

    fn to_json(&self, path: &str) -> Value {
        let status = self.status();
        match self {
            Self::Fate(fate) => fate.to_json(path),
            Self::Examined(Examination::Good(summary)) => {
                json!({"status": status, "file_path": path, "rows": summary.rows, "devices": summary.devices})
            }
            Self::Examined(Examination::Bad(report)) => {
                json!({"status": status, "file_path": path, "reason": report.summary(), "report": report})
            }
            Self::Examined(Examination::Missing) => json!({"status": status, "file_path": path}),
            Self::Failed(error) => {
                json!({"status": status, "file_path": path, "error": error.to_string()})
            }
        }
    }

    /// `quarantined  data/c.csv: 2 violations (…)`, and below a bad file of a dry run what is wrong with it.
    fn to_text(&self, path: &str) -> String {
        let path = path.escape_debug();
        let more = match self {
            Self::Fate(Fate::Loaded { rows, .. }) => format!(": {} rows", HumanCount(*rows)),
            Self::Fate(Fate::Duplicate { duplicate_of, .. }) => {
                format!(": the content of {duplicate_of}")
            }
            Self::Fate(Fate::Quarantined { reason, .. }) => format!(": {reason}"),
            Self::Examined(Examination::Good(summary)) => {
                format!(
                    ": {} rows of {} devices",
                    HumanCount(summary.rows),
                    summary.devices
                )
            }
            Self::Examined(Examination::Bad(report)) => format!(": {}", violations(report)),
            Self::Fate(Fate::Missing) | Self::Examined(Examination::Missing) => String::new(),
            Self::Failed(error) => format!(": {error}"),
        };
        format!("{:<12} {path}{more}\n", self.status())
    }
}

/// How many there are, and a line for each one that the report has in full.
fn violations(report: &Report) -> String {
    let mut text = format!("{} violation(s)", report.violations);
    for violation in &report.first {
        // Writing to a String cannot fail.
        write!(
            text,
            "\n  {:<14} {}",
            violation.reason.as_str(),
            describe(violation)
        )
        .unwrap_or_default();
    }
    let counted = report.violations.saturating_sub(report.first.len() as u64);
    if counted > 0 {
        write!(text, "\n  and {counted} more").unwrap_or_default();
    }
    text
}

#[derive(Debug, Default)]
struct Counts {
    files: u64,
    rows: u64,
    not_well: u64,
}

impl Counts {
    fn add(&mut self, outcome: &Outcome) {
        self.files += 1;
        self.not_well += u64::from(!outcome.is_well());
        self.rows += match outcome {
            Outcome::Fate(Fate::Loaded { rows, .. }) => *rows,
            Outcome::Examined(Examination::Good(summary)) => summary.rows,
            _ => 0,
        };
    }

    fn say(&self) {
        let Self {
            files,
            rows,
            not_well,
        } = self;
        let text = format!(
            "{files} files, {} rows; {not_well} files were not good\n",
            HumanCount(*rows)
        );
        // Nobody is left to tell when stderr is closed.
        drop(std::io::stderr().lock().write_all(text.as_bytes()));
    }
}

/// On a terminal, unless log lines come there too.
fn progress_bar(bytes: u64) -> ProgressBar {
    let is_quiet = log::max_level() <= log::LevelFilter::Error;
    if !is_quiet || !std::io::stderr().is_terminal() {
        return ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
    }
    let bar = ProgressBar::new(bytes);
    let style = "{elapsed_precise} [{wide_bar}] {bytes}/{total_bytes} {binary_bytes_per_sec} {eta}";
    bar.set_style(ProgressStyle::with_template(style).expect("the template is right"));
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}
