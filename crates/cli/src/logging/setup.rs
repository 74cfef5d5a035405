//! Puts the log together: level, form, place, colours.

use std::io::{self, IsTerminal, Write};

use anyhow::Context;
use celeriac::{clock, log_lines};
use env_logger::{Builder, Target, WriteStyle};
use log::{LevelFilter, Record};

use super::file::LogFile;
use super::level::Level;
use super::options::{Format, LogOptions};
use super::{json, line};

/// Libraries whose INFO is about themselves. They speak from WARNING on, unless the level is DEBUG.
const LIBRARIES: [&str; 9] = [
    "celery",
    "librdkafka",
    "mio",
    "notify",
    "rdkafka",
    "redis",
    "rustls",
    "sqlx",
    "tokio",
];

/// Starts the log of this process.
///
/// # Errors
/// The log file cannot be opened.
pub(crate) fn start(options: &LogOptions, no_color: bool) -> anyhow::Result<()> {
    let is_coloured = !no_color && options.file.is_none() && io::stderr().is_terminal();
    let (level, format) = (options.level, options.format);
    let mut builder = Builder::new();
    builder
        .filter_level(level.filter())
        // What is written has the colours already or has none; nothing is to be added or taken out.
        .write_style(if is_coloured {
            WriteStyle::Always
        } else {
            WriteStyle::Never
        })
        .format(move |out, record| write(out, record, level, format, is_coloured));
    for library in LIBRARIES {
        builder.filter_module(library, library_level(level));
    }
    if let Some(path) = &options.file {
        let file = LogFile::open(path)
            .with_context(|| format!("cannot open the log file {}", path.display()))?;
        builder.target(Target::Pipe(Box::new(file)));
    }
    // Two programs in one process (tests) share the first one's log.
    drop(builder.try_init());
    Ok(())
}

fn library_level(level: Level) -> LevelFilter {
    if level == Level::Debug {
        LevelFilter::Debug
    } else {
        level.filter().min(LevelFilter::Warn)
    }
}

fn write(
    out: &mut impl Write,
    record: &Record<'_>,
    level: Level,
    format: Format,
    is_coloured: bool,
) -> io::Result<()> {
    // `log` has no level above Error; here ends what it let through for CRITICAL.
    if Level::of(record) < level {
        return Ok(());
    }
    let (at, process) = (clock::now(), log_lines::process_name());
    match format {
        Format::Text => line::write(out, record, at, &process, is_coloured),
        Format::Json => json::write(out, record, at, &process),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_quiet_unless_everything_is_asked_for() {
        for (level, expected) in [
            (Level::Debug, LevelFilter::Debug),
            (Level::Info, LevelFilter::Warn),
            (Level::Warning, LevelFilter::Warn),
            (Level::Critical, LevelFilter::Error),
        ] {
            assert_eq!(library_level(level), expected, "{level:?}");
        }
    }

    #[test]
    fn only_critical_records_pass_at_critical() {
        let error = Record::builder()
            .level(log::Level::Error)
            .args(format_args!("bad"))
            .build();
        let pairs = [("severity", "CRITICAL")];
        let critical = error.to_builder().key_values(&pairs).build();
        let lines = |record: &Record<'_>| {
            let mut out = Vec::new();
            write(&mut out, record, Level::Critical, Format::Text, false).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert_eq!(lines(&error), "");
        assert!(lines(&critical).ends_with(": CRITICAL/MainProcess] bad\n"));
    }
}
