//! Every file of the shared corpus, in two seeds. The corpus lies beside the checkout (`HARNESS`); where it is not there,
//! the unit tests and the other files here cover the same kinds.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::world::World;

fn corpus() -> Option<PathBuf> {
    let beside = || {
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../shared")
            .into()
    };
    let script = PathBuf::from(std::env::var_os("HARNESS").unwrap_or_else(beside))
        .join("corpus/make_corpus.py");
    script.exists().then_some(script)
}

/// A name as `expected.tsv` writes it, to bytes.
fn unescape(name: &str) -> OsString {
    let (mut bytes, mut rest) = (Vec::new(), name.as_bytes());
    while let Some((&byte, tail)) = rest.split_first() {
        let (decoded, used) = match (byte, tail) {
            (b'\\', [b'x', high, low, ..]) => {
                let digits = [*high, *low];
                let digits = std::str::from_utf8(&digits).expect("hex digits");
                (u8::from_str_radix(digits, 16).expect("hex digits"), 4)
            }
            (b'\\', [b't', ..]) => (b'\t', 2),
            (b'\\', [b'n', ..]) => (b'\n', 2),
            (b'\\', [b'r', ..]) => (b'\r', 2),
            (b'\\', [b'\\', ..]) => (b'\\', 2),
            _ => (byte, 1),
        };
        bytes.push(decoded);
        rest = &rest[used..];
    }
    OsString::from_vec(bytes)
}

/// A path as a message names it: a `file://` URL where it is not UTF-8.
fn message_path(path: &Path) -> String {
    match path.to_str() {
        Some(text) => text.to_owned(),
        None => {
            let bytes = path.as_os_str().as_bytes().iter();
            let encoded: String = bytes
                .map(|&byte| {
                    if byte.is_ascii_graphic() && byte != b'%' {
                        char::from(byte).to_string()
                    } else {
                        format!("%{byte:02X}")
                    }
                })
                .collect();
            format!("file://{encoded}")
        }
    }
}

async fn check_seed(script: &Path, seed: &str) {
    let world = World::new().await;
    let made = tempfile::tempdir().expect("a temporary directory");
    let status = Command::new("python3")
        .arg(script)
        .arg(made.path())
        .args(["--seed", seed])
        .output()
        .expect("python3 runs");
    assert!(status.status.success(), "{status:?}");
    std::fs::remove_dir(world.path("")).expect("it is empty");
    std::fs::rename(made.path().join("in"), world.path("")).expect("one file system");
    let expected = std::fs::read_to_string(made.path().join("expected.tsv")).expect("the table");
    let is_root = rustix::process::geteuid().is_root();
    let (mut wrong, mut rows, mut fates) = (Vec::new(), 0, 0);
    for line in expected.lines().skip(1) {
        let [name, expect, want_rows, reason, ..] = line.split('\t').collect::<Vec<_>>()[..] else {
            panic!("{line:?}")
        };
        if expect == "ignore" || (is_root && reason == "unreadable") {
            continue;
        }
        let path = message_path(&world.path("").join(unescape(name)));
        let result = world.result(&path, name).await;
        let status = match expect {
            "ingest" => "loaded",
            "quarantine" => "quarantined",
            other => other,
        };
        let has = |reason: &str| result["reasons"].get(reason).is_some();
        let is_right = result["status"] == status
            && (expect != "ingest"
                || result["rows"] == want_rows.parse::<u64>().expect("a number"))
            && (expect != "quarantine" || reason.split('+').all(has));
        if !is_right {
            wrong.push(format!("{name}: {expect} {reason}, but {result}"));
        }
        rows += want_rows.parse::<i64>().expect("a number");
        fates += 1;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(
        world.number("select count(*) from raw_sensor_data").await,
        rows
    );
    assert_eq!(world.ledger().await.len(), fates);
    world.check_invariants().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_file_of_the_corpus_ends_as_its_table_says() {
    if let Some(script) = corpus() {
        for seed in ["7", "31"] {
            check_seed(&script, seed).await;
        }
    }
}
