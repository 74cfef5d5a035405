//! Every kind of file, from its drop to its fate: a small corpus of the test's own, and the shared one in two seeds
//! where `HARNESS` names it.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::Write as _;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;

use celeriac_tests::pipeline::{LedgerRow, Pipeline};
use celeriac_tests::sensor_file::{HEADER, good};

/// What must become of a file.
#[derive(Debug)]
enum Fate {
    /// Loaded, with so many rows.
    Rows(i64),
    /// Quarantined, and the report has all these reason classes.
    Reasons(Vec<String>),
    /// One of a set of equal files with so many rows: whichever comes first is loaded.
    OneOfEqual(i64),
    /// Left alone, with no row in the ledger.
    Ignored,
}

type Corpus = Vec<(OsString, Fate)>;

/// Announces all files of `in/`, and compares what becomes of them with the table.
async fn check(pipeline: &Pipeline, corpus: &Corpus) {
    let announced = pipeline.command(["produce", "--once"]).output();
    let announced = announced.expect("the program runs");
    assert!(announced.status.success(), "{announced:?}");
    let _running = (pipeline.worker("worker").await, pipeline.consumer().await);
    pipeline.has_no_lag(pipeline.topic.name()).await;
    pipeline.has_no_messages().await;

    let ledger = pipeline.ledger().await;
    let mut by_name: BTreeMap<_, _> = ledger.iter().map(|row| (&*row.file_name, row)).collect();
    assert_eq!(by_name.len(), ledger.len(), "each file once");
    let mut wrong = Vec::new();
    for (name, fate) in corpus {
        let row = by_name.remove(&*in_ledger(name));
        let is_there = pipeline.path("in").join(name).symlink_metadata().is_ok();
        // Only a bad file is moved.
        if !is_right(fate, row) || is_there == matches!(fate, Fate::Reasons(_)) {
            wrong.push(format!(
                "{name:?}: {fate:?}, but {row:?} (there: {is_there})"
            ));
        }
    }
    wrong.extend(by_name.keys().map(|name| format!("{name:?} in the ledger")));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let duplicates = ledger.iter().filter(|row| row.state == "duplicate").count();
    let is_equal = |(_, fate): &&(OsString, Fate)| matches!(fate, Fate::OneOfEqual(_));
    assert_eq!(duplicates, corpus.iter().filter(is_equal).count() - 1);
    pipeline.check_tables().await;
}

fn is_right(fate: &Fate, row: Option<&LedgerRow>) -> bool {
    match (fate, row) {
        (Fate::Ignored, None) => true,
        (Fate::Rows(rows), Some(row)) => row.state == "loaded" && row.row_count == Some(*rows),
        (Fate::OneOfEqual(rows), Some(row)) => {
            ["loaded", "duplicate"].contains(&&*row.state) && row.row_count == Some(*rows)
        }
        (Fate::Reasons(reasons), Some(row)) => {
            let report: serde_json::Value =
                serde_json::from_str(row.reasons.as_deref().unwrap_or("null")).expect("JSON");
            let has = |reason: &String| report["by_reason"].get(reason).is_some();
            row.state == "quarantined" && reasons.iter().all(has)
        }
        _ => false,
    }
}

/// A name as the producer's record and with it the ledger write it.
fn in_ledger(name: &OsStr) -> String {
    let chunks = name.as_bytes().utf8_chunks();
    let texts = chunks.map(|chunk| {
        let escaped = chunk.invalid().iter().map(|byte| format!("%{byte:02X}"));
        format!("{}{}", chunk.valid(), escaped.collect::<String>())
    });
    texts.collect()
}

/// A pipeline that watches `in/`.
async fn pipeline() -> Pipeline {
    let mut pipeline = Pipeline::new("[pipeline]\nsettle_ms = 100\n").await;
    let watched = pipeline.path("in").to_str().expect("UTF-8").to_owned();
    pipeline.set("WATCH_DIR", watched);
    pipeline
}

/// A good file with the first row changed.
fn with(seed: u32, old: &str, new: &str) -> Vec<u8> {
    let text = good(seed, 20);
    assert!(text.contains(old), "{old} is not in it");
    text.replacen(old, new, 1).into_bytes()
}

#[tokio::test]
async fn every_kind_of_file_comes_to_its_fate() {
    let reasons = |reason: &str| Fate::Reasons(vec![reason.to_owned()]);
    let quoted = good(2, 20).replace(',', "\",\"").replace('\n', "\"\r\n\"");
    let quoted = format!("\u{feff}\"{}", quoted.trim_end_matches('"'));
    let files: Vec<(&[u8], Vec<u8>, Fate)> = vec![
        (b"plain.csv", good(1, 20).into(), Fate::Rows(20)),
        (b"quoted crlf bom.CSV", quoted.into(), Fate::Rows(20)),
        (
            b"scientific.csv",
            with(3, "1594512094.000003", "1.594512094e9"),
            Fate::Rows(20),
        ),
        (
            "new\nline \u{1f321};'$(x)`.csv".as_bytes(),
            good(4, 20).into(),
            Fate::Rows(20),
        ),
        (b"one_row.csv", good(5, 1).into(), Fate::Rows(1)),
        (b"copy_1.csv", good(6, 20).into(), Fate::OneOfEqual(20)),
        (b"copy_2.csv", good(6, 20).into(), Fate::OneOfEqual(20)),
        (b"latin1_\xE9.csv", good(7, 20).into(), reasons("bad_name")),
        (b"empty.csv", Vec::new(), reasons("empty")),
        (b"header_only.csv", HEADER.into(), reasons("empty")),
        (
            b"no_temp.csv",
            with(8, ",temp", ",tmp"),
            reasons("missing_column"),
        ),
        (b"word.csv", with(9, "true", "perhaps"), reasons("bad_bool")),
        (
            b"nan.csv",
            with(10, ",true,", ",true,NaN,"),
            reasons("field_count"),
        ),
        (
            b"when.csv",
            with(11, "1594512094.", "-1594512094."),
            reasons("bad_ts"),
        ),
        (
            b"utf16.csv",
            b"\xff\xfet\0s\0".to_vec(),
            reasons("encoding"),
        ),
        (b".hidden.csv", good(12, 20).into(), Fate::Ignored),
        (b"upload.csv.part", good(13, 20).into(), Fate::Ignored),
    ];
    let pipeline = pipeline().await;
    let directory = pipeline.path("in");
    fs::create_dir(&directory).expect("a directory");
    let mut corpus = Corpus::new();
    for (name, content, fate) in files {
        let name = OsStr::from_bytes(name);
        fs::write(directory.join(name), content).expect("room");
        corpus.push((name.to_owned(), fate));
    }
    fs::create_dir(directory.join("dir.csv")).expect("a directory");
    let outside = pipeline.path("outside.csv");
    fs::write(&outside, good(14, 20)).expect("room");
    symlink(&outside, directory.join("link.csv")).expect("a link");
    let mode = rustix::fs::Mode::RWXU;
    rustix::fs::mkfifoat(rustix::fs::CWD, directory.join("fifo.csv"), mode).expect("a FIFO");
    corpus.extend(["dir.csv", "link.csv", "fifo.csv"].map(|name| (name.into(), Fate::Ignored)));

    check(&pipeline, &corpus).await;
    assert_eq!(
        fs::read_to_string(outside).expect("it is there"),
        good(14, 20)
    );
}

#[tokio::test]
async fn every_file_of_the_shared_corpus_comes_to_its_fate() {
    shared_corpus("7").await;
}

#[tokio::test]
async fn every_file_of_the_shared_corpus_comes_to_its_fate_with_another_seed() {
    shared_corpus("31").await;
}

async fn shared_corpus(seed: &str) {
    let harness = std::env::var_os("HARNESS").map(PathBuf::from);
    let script = harness.map(|harness| harness.join("corpus/make_corpus.py"));
    let Some(script) = script.filter(|script| script.exists()) else {
        let line = "HARNESS names no shared corpus; the test's own one covers the same kinds\n";
        // Not worth failing for.
        std::io::stderr().write_all(line.as_bytes()).ok();
        return;
    };
    let pipeline = pipeline().await;
    let made = Command::new("python3")
        .arg(script)
        .arg(pipeline.directory())
        .args(["--seed", seed])
        .output()
        .expect("python3 runs");
    assert!(made.status.success(), "{made:?}");
    let table = fs::read_to_string(pipeline.path("expected.tsv")).expect("the table");
    let corpus: Corpus = table.lines().skip(1).map(expectation).collect();
    assert!(!corpus.is_empty());
    check(&pipeline, &corpus).await;
}

/// A line of `expected.tsv`: file, expect, rows, reason classes with `+` between them, and remarks.
fn expectation(line: &str) -> (OsString, Fate) {
    let fields: Vec<&str> = line.split('\t').collect();
    let [name, expect, rows, reasons, ..] = fields[..] else {
        panic!("{line:?}")
    };
    // Nothing is unreadable for root; the file has these rows.
    let is_readable = reasons == "unreadable" && rustix::process::geteuid().is_root();
    let fate = match expect {
        _ if is_readable => Fate::Rows(50),
        // Which of the two is first is left open.
        _ if name.starts_with("copy_") => Fate::OneOfEqual(50),
        "ingest" => Fate::Rows(rows.parse().expect("a number")),
        "quarantine" => Fate::Reasons(reasons.split('+').map(str::to_owned).collect()),
        "ignore" => Fate::Ignored,
        _ => panic!("{line:?}"),
    };
    (unescape(name), fate)
}

/// A name as `expected.tsv` writes it, to bytes.
fn unescape(name: &str) -> OsString {
    let mut bytes = Vec::new();
    let mut rest = name.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'\\' => match rest
                .next()
                .expect("a backslash is followed by what it escapes")
            {
                b't' => b'\t',
                b'n' => b'\n',
                b'r' => b'\r',
                b'x' => {
                    let mut digit = || char::from(rest.next()?).to_digit(16);
                    let code = digit().zip(digit()).map(|(high, low)| high * 16 + low);
                    u8::try_from(code.expect("two hex digits")).expect("two digits fit")
                }
                other => other,
            },
            plain => plain,
        });
    }
    OsString::from_vec(bytes)
}
