//! Sending dead letters again, and dropping them.
//!
//! Each is one step on the server, so that a message is sent again once, whoever else does the same. What arrives
//! meanwhile is left alone.

use std::io;

use celeriac::transport::DeadLetter;
use celeriac::{App, DeadLetters};

use super::text::{counted, printable, short_id};
use super::{Request, find_all};
use crate::exit::{ExitError, ExitStatus};
use crate::output;

/// Puts messages back into their queues. Fails when one of them was not.
pub(super) async fn replay(app: &App, request: &Request) -> anyhow::Result<ExitStatus> {
    let mut sent = 0;
    let mut left = 0;
    for (letter, letters) in find_all(app, request).await? {
        match send(&letters, &letter, request.is_forced).await? {
            true => sent += 1,
            false => left += 1,
        }
    }
    if request.wanted.is_empty() {
        for queue in &request.queues {
            let letters = app.dead_letters(queue);
            let mut pages = letters.pages().await?;
            while let Some(letter) = pages.next().await? {
                if send(&letters, &letter, request.is_forced).await? {
                    pages.has_left();
                    sent += 1;
                } else {
                    left += 1;
                }
            }
        }
    }
    output::to_stdout(&format!("{} sent again.\n", counted(sent)));
    Ok(if left > 0 {
        ExitStatus::Failed
    } else {
        ExitStatus::Ok
    })
}

/// Whether it was sent. What would come back, and may end a Python worker on the way, is not, unless told to.
async fn send(letters: &DeadLetters, letter: &DeadLetter, is_forced: bool) -> anyhow::Result<bool> {
    let why = match letters.check(letter) {
        Err(_) if letter.message.is_none() => "it is no record of a message".to_owned(),
        Err(error) if !is_forced => format!("{error}; -f sends it all the same"),
        _ => match letters.replay(letter).await? {
            true => return Ok(true),
            false => "somebody else has sent or dropped it".to_owned(),
        },
    };
    output::to_stderr(&format!(
        "Not sent: {} ({}): {}\n",
        letter.index,
        short_id(letter),
        printable(&why)
    ));
    Ok(false)
}

/// Destroys messages, after a question.
pub(super) async fn drop_letters(app: &App, request: &Request) -> anyhow::Result<ExitStatus> {
    let meant = find_all(app, request).await?;
    let mut pages = Vec::new();
    let mut count = meant.len();
    if request.wanted.is_empty() {
        for queue in &request.queues {
            let letters = app.dead_letters(queue);
            count += letters.count().await?;
            pages.push((letters.pages().await?, letters));
        }
    }
    if count == 0 {
        output::to_stdout("No dead letters dropped.\n");
        return Ok(ExitStatus::Ok);
    }
    if !request.is_forced {
        confirm(count, &request.queues)?;
    }
    let mut dropped = 0;
    for (letter, letters) in &meant {
        dropped += usize::from(letters.drop(letter).await?);
    }
    for (mut pages, letters) in pages {
        while let Some(letter) = pages.next().await? {
            if letters.drop(&letter).await? {
                pages.has_left();
                dropped += 1;
            }
        }
    }
    output::to_stdout(&format!("{} dropped.\n", counted(dropped)));
    Ok(ExitStatus::Ok)
}

/// Asks as `celery purge` does; whoever does not say yes is not taken to have.
fn confirm(count: usize, queues: &[String]) -> Result<(), ExitError> {
    let of = if queues.len() == 1 { "queue" } else { "queues" };
    output::to_stderr(&format!(
        "WARNING: This will destroy {} of {of}: {}.\n         There is no undo for this operation!\n\n\
         \x20        (to skip this prompt use the -f option)\nAre you sure you want to drop them? [y/N]: ",
        counted(count),
        printable(&queues.join(", "))
    ));
    let mut answer = String::new();
    let read = io::stdin().read_line(&mut answer);
    let is_yes = read.is_ok() && matches!(answer.trim().to_lowercase().as_str(), "y" | "yes");
    if is_yes {
        return Ok(());
    }
    output::to_stderr("Aborted!\n");
    Err(ExitError::new(ExitStatus::Failed, ""))
}
