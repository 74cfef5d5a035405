//! `dead-letter list | show | replay | drop`: the messages that no worker could run.
//!
//! - here: the command line, and which letters are meant.
//! - `text`: how they are shown. `change`: sending again and dropping.
//!
//! Counterpart: none in Celery, which destroys such messages on Redis; the question before dropping is that of
//! `celery/bin/purge.py` @ 5.7.0.

mod change;
mod text;

use celeriac::transport::DeadLetter;
use celeriac::{App, DeadLetters};
use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::exit::{ExitError, ExitStatus};
use crate::program::{Loaded, Program};

const EXAMPLES: &str = "\
A worker keeps a message that nobody can run in the list <queue>.dead, with the reason.
It is meant by its place in the list, its id, or the first 4 or more characters of that.

Examples:
  PROGRAM -A APP dead-letter list
  PROGRAM -A APP dead-letter list -Q hipri,lopri --json
  PROGRAM -A APP dead-letter show 0
  PROGRAM -A APP dead-letter replay 5f0c1e2a 77b0
  PROGRAM -A APP dead-letter replay --all
  PROGRAM -A APP dead-letter drop --all -f";

/// The shortest beginning of an id that is taken for one.
const PREFIX_MIN: usize = 4;

/// Longer numbers are not taken for a place in the list.
const PLACE_DIGITS_MAX: usize = 7;

/// The command's options.
pub(crate) fn clap() -> Command {
    let flag = |id: &'static str| Arg::new(id).long(id).action(ArgAction::SetTrue);
    Command::new("dead-letter")
        .about("Look at messages that no worker could run, send them again, or drop them")
        .after_help(EXAMPLES)
        .arg(
            Arg::new("action")
                .value_name("ACTION")
                .required(true)
                .value_parser(["list", "show", "replay", "drop"])
                .hide_possible_values(true)
                .help("list, show, replay or drop"),
        )
        .arg(
            Arg::new("letter")
                .value_name("LETTER")
                .num_args(0..)
                .help("Which ones (show: one): the place in the list, or the id, or its beginning"),
        )
        .arg(
            Arg::new("queues")
                .short('Q')
                .long("queues")
                .value_name("QUEUES")
                .value_delimiter(',')
                .help("Comma separated list of queues [default: task_default_queue]"),
        )
        .arg(flag("all").help("replay, drop: all that are there"))
        .arg(flag("json").help("list, show: as JSON"))
        .arg(
            flag("force")
                .short('f')
                .help("drop: do not ask. replay: also what cannot be read, and comes back"),
        )
}

/// What was typed.
struct Request {
    /// The letters, as typed; empty with `--all`.
    wanted: Vec<String>,
    queues: Vec<String>,
    is_json: bool,
    is_forced: bool,
}

/// Does what the first argument says.
///
/// # Errors
/// The app cannot be made, the broker is away, or nothing is there that is meant.
pub(crate) async fn run(
    program: &Program,
    matches: &ArgMatches,
    loaded: Loaded,
) -> anyhow::Result<ExitStatus> {
    let action = matches
        .get_one::<String>("action")
        .expect("clap has seen to it that there is one");
    let request = Request::of(matches, &loaded);
    check(action, &request, matches)?;
    let app = (program.build_app)(&loaded)?;
    let done = match action.as_str() {
        "list" => text::list(&app, &request).await,
        "show" => text::show(&app, &request).await,
        "replay" => change::replay(&app, &request).await,
        _ => change::drop_letters(&app, &request).await,
    };
    done.map_err(|error| match error.is::<celeriac::transport::Error>() {
        true => {
            let queues = request.queues.join(", ");
            let url = app.broker_url();
            error.context(format!(
                "cannot reach the dead letters of {queues} at {url}"
            ))
        }
        false => error,
    })
}

impl Request {
    fn of(matches: &ArgMatches, loaded: &Loaded) -> Self {
        let texts = |id: &str| {
            let values = matches.get_many::<String>(id);
            values.unwrap_or_default().cloned().collect::<Vec<_>>()
        };
        let mut queues = texts("queues");
        queues.retain(|queue| !queue.is_empty());
        if queues.is_empty() {
            queues.push(loaded.settings.task_default_queue.clone());
        }
        Self {
            wanted: texts("letter"),
            queues,
            is_json: matches.get_flag("json"),
            is_forced: matches.get_flag("force"),
        }
    }
}

/// What does not go together.
fn check(action: &str, request: &Request, matches: &ArgMatches) -> Result<(), ExitError> {
    let is_all = matches.get_flag("all");
    let wanted = request.wanted.len();
    let is_change = matches!(action, "replay" | "drop");
    let wrong = match action {
        "list" if wanted > 0 => "list shows all; use show for one",
        "show" if wanted != 1 => "show takes one place or id; see the list",
        _ if is_change && wanted == 0 && !is_all => "which ones? Name a place or id, or say --all",
        _ if is_change && wanted > 0 && is_all => "either places and ids, or --all",
        _ if is_change && request.is_json => "--json goes with list and show",
        _ if !is_change && is_all => "--all goes with replay and drop",
        _ if !is_change && request.is_forced => "--force goes with replay and drop",
        _ => return Ok(()),
    };
    Err(ExitError::usage(wrong))
}

/// Each letter that is meant, and the letters of its queue. All before any is changed, since places move then.
async fn find_all(app: &App, request: &Request) -> anyhow::Result<Vec<(DeadLetter, DeadLetters)>> {
    let mut found = Vec::new();
    for wanted in &request.wanted {
        found.push(find(app, &request.queues, wanted).await?);
    }
    Ok(found)
}

/// The one letter that is meant, and the letters of its queue.
async fn find(
    app: &App,
    queues: &[String],
    wanted: &str,
) -> anyhow::Result<(DeadLetter, DeadLetters)> {
    let mut found = Vec::new();
    for queue in queues {
        let letters = app.dead_letters(queue);
        let mut pages = letters.pages().await?;
        while let Some(letter) = pages.next().await? {
            if is_meant(&letter, wanted) {
                found.push((letter, letters.clone()));
            }
        }
    }
    let queues = queues.join(", ");
    match found.len() {
        0 => anyhow::bail!("no dead letter {wanted:?} in {queues}"),
        1 => Ok(found.remove(0)),
        count => {
            anyhow::bail!("{wanted:?} means {count} dead letters in {queues}; type more of the id")
        }
    }
}

fn is_meant(letter: &DeadLetter, wanted: &str) -> bool {
    if wanted.len() <= PLACE_DIGITS_MAX && wanted.bytes().all(|byte| byte.is_ascii_digit()) {
        return wanted.parse() == Ok(letter.index);
    }
    wanted.len() >= PREFIX_MIN && letter.id.starts_with(wanted)
}
