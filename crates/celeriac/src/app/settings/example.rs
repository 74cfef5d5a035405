//! The text of `celeriac.example.toml`: every setting with its meaning and its default.
//!
//! Guarantee: the file in the repository says what the code does; a test compares the two, and
//! `UPDATE_EXAMPLE=1 cargo test -p celeriac settings` writes the file anew. What stands below the
//! marker line is the program's and is kept.

use super::values::{
    BrokerTransportOptions, Entry, ResultBackendTransportOptions, Section, Settings,
};

/// Below this line the file belongs to the program.
#[cfg(test)]
const MARKER: &str = "# ---- tables of the program ----";

const HEAD: &str = "\
# Every setting with its default. To change one, copy its line into celeriac.toml (in the working
# directory, or named by --config or CELERIAC_CONFIG) without the leading #.
#
# The names are Celery's. A flag wins over the environment (CELERY_BROKER_URL, CELERY_RESULT_BACKEND),
# that over the file, that over the default. Lengths of time are seconds.
";

impl Settings {
    /// The settings' part of an example file: each with its documentation and, commented out, its default.
    pub fn example() -> String {
        let mut text = HEAD.to_owned();
        push_entries(&mut text, &Self::catalogue());
        for (table, entries) in [
            (Self::TABLES[0], BrokerTransportOptions::catalogue()),
            (Self::TABLES[1], ResultBackendTransportOptions::catalogue()),
        ] {
            text.push_str(&format!("\n[{table}]\n"));
            push_entries(&mut text, &entries);
        }
        text
    }
}

fn push_entries(text: &mut String, entries: &[Entry]) {
    for entry in entries {
        text.push('\n');
        for line in entry.doc {
            text.push_str(format!("#{line}").trim_end());
            text.push('\n');
        }
        text.push_str(&format!("#{} = {}\n", entry.name, entry.default));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::PathBuf;

    use toml::Table;

    use super::*;

    fn example_path() -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../celeriac.example.toml")
    }

    /// The same text with every default in force.
    fn uncommented(text: &str) -> String {
        text.lines()
            .map(|line| match line.strip_prefix('#') {
                Some(setting) if !setting.starts_with(' ') && setting.contains(" = ") => setting,
                _ => line,
            })
            .collect::<Vec<_>>()
            .join("\n")
    }

    #[test]
    fn the_example_file_says_what_the_code_does() {
        let path = example_path();
        let present = std::fs::read_to_string(&path).unwrap_or_default();
        let programs = present.split_once(MARKER).map_or("\n", |(_, own)| own);
        let expected = format!("{}\n{MARKER}{programs}", Settings::example());
        if std::env::var_os("UPDATE_EXAMPLE").is_some() {
            std::fs::write(&path, &expected).unwrap();
            return;
        }
        assert_eq!(
            present, expected,
            "celeriac.example.toml is not up to date: UPDATE_EXAMPLE=1 cargo test -p celeriac settings"
        );
        present
            .parse::<Table>()
            .expect("the whole example file is TOML");
    }

    #[test]
    fn the_example_has_every_setting_and_its_values_are_the_defaults() {
        let table: Table = uncommented(&Settings::example()).parse().unwrap();
        let names: BTreeSet<&str> = table.keys().map(String::as_str).collect();
        let expected: BTreeSet<&str> = Settings::catalogue()
            .iter()
            .map(|entry| entry.name)
            .chain(Settings::TABLES)
            .collect();
        assert_eq!(names, expected);
        let mut settings = Settings {
            worker_prefetch_multiplier: 99,
            ..Settings::default()
        };
        for (name, value) in &table {
            if let Some(outcome) = settings.set(name, value) {
                assert!(outcome.is_ok(), "{name} refuses its own default");
            }
        }
        assert_eq!(settings, Settings::default());
    }
}
