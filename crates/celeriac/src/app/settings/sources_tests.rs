//! What wins over what, and what is said about a wrong file.

use std::time::Duration;

use super::*;

/// The settings that `file` and `environment` give, without anything of the real environment.
fn load(
    file: &str,
    environment: &[(&str, &str)],
    flags: &Sources,
) -> Result<LoadedSettings, SettingsError> {
    let directory = tempfile::tempdir().unwrap();
    if !file.is_empty() {
        fs::write(directory.path().join(DEFAULT_FILE), file).unwrap();
    }
    let value = |name: &str| {
        let found = environment.iter().find(|(variable, _)| *variable == name);
        found.map(|(_, value)| (*value).to_owned())
    };
    Settings::load_from(flags, value, directory.path())
}

fn settings(file: &str, environment: &[(&str, &str)]) -> Settings {
    load(file, environment, &Sources::default())
        .unwrap()
        .settings
}

/// The error without the directory, which differs each time.
fn error(file: &str) -> String {
    let sources = Sources {
        program_tables: vec!["pipeline".to_owned()],
        ..Sources::default()
    };
    let text = load(file, &[], &sources).unwrap_err().to_string();
    let start = text.find(DEFAULT_FILE).expect("the error names the file");
    text[start..].to_owned()
}

#[test]
fn without_anything_the_defaults_hold() {
    assert_eq!(settings("", &[]), Settings::default());
}

#[test]
fn flag_wins_over_environment_over_file_over_default() {
    let file = "broker_url = 'redis://file/0'";
    let environment = [("CELERY_BROKER_URL", "redis://environment/0")];
    let flags = Sources {
        broker_url: Some("redis://flag/0".to_owned()),
        ..Sources::default()
    };
    assert_eq!(settings("", &[]).broker_url, "redis://localhost:6379/0");
    assert_eq!(settings(file, &[]).broker_url, "redis://file/0");
    assert_eq!(
        settings(file, &environment).broker_url,
        "redis://environment/0"
    );
    let loaded = load(file, &environment, &flags).unwrap();
    assert_eq!(loaded.settings.broker_url, "redis://flag/0");
}

#[test]
fn an_empty_variable_is_not_set() {
    let settings = settings(
        "broker_url = 'redis://file/0'",
        &[("CELERY_BROKER_URL", "")],
    );
    assert_eq!(settings.broker_url, "redis://file/0");
}

#[test]
fn the_words_for_none_are_understood() {
    let file = "\
result_backend = 'disabled'
result_expires = 0
worker_concurrency = 'auto'
broker_connection_max_retries = 'none'
task_default_priority = 'none'
";
    let settings = settings(file, &[]);
    assert_eq!(settings.result_backend, None);
    assert_eq!(settings.result_expires, None);
    assert_eq!(settings.worker_concurrency, None);
    assert_eq!(settings.broker_connection_max_retries, None);
    assert_eq!(settings.task_default_priority, None);
}

#[test]
fn tables_of_options_are_read_and_the_programs_own_are_handed_on() {
    let file = "\
worker_concurrency = 3
[broker_transport_options]
visibility_timeout = 1.5
priority_steps = [0, 5]
[result_backend_transport_options]
global_keyprefix = 'team'
[pipeline]
settle_ms = 10
";
    let sources = Sources {
        program_tables: vec!["pipeline".to_owned()],
        ..Sources::default()
    };
    let loaded = load(file, &[], &sources).unwrap();
    let options = &loaded.settings.broker_transport_options;
    assert_eq!(loaded.settings.worker_concurrency, Some(3));
    assert_eq!(options.visibility_timeout, Duration::from_millis(1500));
    assert_eq!(options.priority_steps, [0, 5]);
    assert_eq!(
        loaded
            .settings
            .result_backend_transport_options
            .global_keyprefix,
        "team"
    );
    assert_eq!(
        loaded.tables["pipeline"]["settle_ms"].as_integer(),
        Some(10)
    );
    assert_eq!(loaded.tables.len(), 1);
    assert!(loaded.file.is_some_and(|file| file.ends_with(DEFAULT_FILE)));
}

#[test]
fn what_is_wrong_is_said_in_one_line_with_file_key_and_expectation() {
    for (file, expected) in [
        (
            "worker_prefetch_multiplyer = 4",
            "celeriac.toml: unknown setting worker_prefetch_multiplyer; did you mean worker_prefetch_multiplier?",
        ),
        (
            "CELERY_BROKER_URL = 'redis://h'",
            "celeriac.toml: unknown setting CELERY_BROKER_URL; did you mean broker_url?",
        ),
        (
            "[pipelin]",
            "celeriac.toml: unknown setting pipelin; did you mean pipeline?",
        ),
        (
            "xyz = 1",
            "celeriac.toml: unknown setting xyz (celeriac.example.toml lists all that there are)",
        ),
        (
            "[broker_transport_options]\nvisibility_timeut = 1",
            "celeriac.toml: unknown setting broker_transport_options.visibility_timeut; did you mean visibility_timeout?",
        ),
        (
            "task_acks_late = 'yes'",
            "celeriac.toml: task_acks_late = \"yes\": expected true or false",
        ),
        (
            "worker_concurrency = -1",
            "celeriac.toml: worker_concurrency = -1: expected a whole number, 0 or more, or \"auto\"",
        ),
        (
            "[broker_transport_options]\npriority_steps = [3, 6]",
            "celeriac.toml: broker_transport_options.priority_steps = [3, 6]: expected a list of ascending whole numbers from 0 to 255 that starts with 0",
        ),
        (
            "pipeline = 1",
            "celeriac.toml: pipeline = 1: expected a table: a line with its name in [brackets], the options below it",
        ),
    ] {
        assert_eq!(error(file), expected);
    }
}

#[test]
fn a_line_that_is_not_toml_is_named_by_its_number_and_not_quoted() {
    let text = error("worker_concurrency = 3\nbroker_url = redis://:secret@h\n");
    assert!(text.starts_with("celeriac.toml, line 2: "), "{text}");
    assert!(!text.contains("secret"), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
}

#[test]
fn a_file_that_was_named_and_is_missing_is_an_error() {
    let sources = Sources {
        config: Some(PathBuf::from("/nowhere/celeriac.toml")),
        ..Sources::default()
    };
    let error = load("", &[], &sources).unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot read the settings file /nowhere/celeriac.toml"
    );
    assert!(std::error::Error::source(&error).is_some());
}

#[test]
fn the_flag_or_variable_that_is_wrong_is_named() {
    let flags = Sources {
        broker_url: Some("nonsense".to_owned()),
        ..Sources::default()
    };
    let flag = load("", &[], &flags).unwrap_err().to_string();
    assert!(
        flag.starts_with("--broker: broker_url = \"nonsense\": expected a URL"),
        "{flag}"
    );
    let variable = load(
        "",
        &[("CELERY_RESULT_BACKEND", "nonsense")],
        &Sources::default(),
    )
    .unwrap_err();
    assert_eq!(
        variable.to_string(),
        "environment variable CELERY_RESULT_BACKEND: result_backend = \"nonsense\": expected a URL like \
         \"redis://host:6379/1\", or \"disabled://\" for no results"
    );
}

#[test]
fn passwords_show_in_no_error_and_in_no_debug_output() {
    let url = "redis://:secret@h:1/0";
    let sources = Sources {
        broker_url: Some(url.to_owned()),
        result_backend: Some(url.to_owned()),
        ..Sources::default()
    };
    assert!(!format!("{sources:?}").contains("secret"));
    let loaded = load("", &[], &sources).unwrap();
    let shown = format!("{:?}", loaded.settings);
    assert!(!shown.contains("secret"), "{shown}");
    assert!(shown.contains("redis://:**@h:1/0"), "{shown}");
    for file in [
        "broker_url = 'redis//:secret@h'",
        "broker_url = ['redis://:secret@h']",
        "worker_concurrency = 'redis://:secret@h'",
        "broker_url = { url = 'redis://:secret@h' }",
    ] {
        let text = error(file);
        assert!(!text.contains("secret"), "{text}");
    }
}
