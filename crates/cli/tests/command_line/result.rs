//! `result`: what is typed wrongly, no backend, and one that is away. What it prints is in `tests/whole/results.rs`.

use crate::process::{NO_BROKER, Start, adder};

#[test]
fn a_wrong_command_line_is_explained() {
    let head =
        "Usage: adder result [OPTIONS] TASK_ID\nTry 'adder result --help' for help.\n\nError: ";
    for (typed, message) in [
        ("", "Missing argument 'TASK_ID'."),
        (
            "x --timeout soon",
            "Invalid value for '--timeout': 'soon' is not a valid float.",
        ),
        (
            "x --timeout -1",
            "Invalid value for '--timeout': '-1': cannot convert float seconds to Duration: value is negative",
        ),
    ] {
        let ended = adder(&format!("result {typed}"));
        assert_eq!(
            (ended.code, ended.stderr),
            (Some(2), format!("{head}{message}\n")),
            "{typed}"
        );
    }
}

#[test]
fn without_a_backend_celerys_words_are_said() {
    for option in ["", " --traceback"] {
        let ended = adder(&format!("result x{option}"));
        let text = "Error: No result backend is configured.\nPlease see the documentation for more information.\n";
        assert_eq!(
            (ended.code, &*ended.stdout, &*ended.stderr),
            (Some(1), "", text)
        );
    }
    let unknown = adder("result x -t proj.nope");
    let text =
        "Error: Task of kind 'proj.nope' never registered, please make sure it's imported.\n";
    assert_eq!((unknown.code, &*unknown.stderr), (Some(1), text));
}

#[test]
fn a_backend_that_is_away_ends_it_with_69() {
    for options in ["--traceback", "--timeout 0.5"] {
        let ended = Start::new("adder", format!("result x {options}").split(' '))
            .env("CELERY_RESULT_BACKEND", NO_BROKER)
            .run();
        let text = "Error: cannot ask the result backend at redis://:**@127.0.0.1:1/0: Connection refused (os error 111)\n";
        assert_eq!((ended.code, &*ended.stderr), (Some(69), text), "{options}");
    }
}
