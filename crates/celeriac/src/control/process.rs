//! What the system says of this process.
//!
//! From `/proc`, which Linux has: asking `getrusage` needs code that the compiler cannot check. Counterpart:
//! `resource.getrusage` in `celery/worker/worker.py` and `mem_rss` in `celery/utils/debug.py` @ 5.7.0.

use serde_json::{Value, json};

/// Ticks a second in `/proc`; Linux shows this number whatever the kernel's own clock is.
const TICKS_PER_SECOND: f64 = 100.0;

/// Bytes in one block of `getrusage`.
const BLOCK_BYTES: u64 = 512;

/// The keys of `getrusage`; `None` where there is no `/proc`. Seven of them Linux has always left at 0.
pub(super) fn usage() -> Option<Value> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name of the program, in brackets, may hold anything; the numbers follow it.
    let (_, numbers) = stat.rsplit_once(')')?;
    let numbers: Vec<u64> = numbers
        .split_whitespace()
        .map(|word| word.parse().unwrap_or_default())
        .collect();
    // Fields are counted from 1 in proc(5), and the third is the first here.
    let field = |number: usize| numbers.get(number - 3).copied().unwrap_or_default();
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let io = std::fs::read_to_string("/proc/self/io").unwrap_or_default();
    Some(json!({
        "utime": field(14) as f64 / TICKS_PER_SECOND,
        "stime": field(15) as f64 / TICKS_PER_SECOND,
        "maxrss": named(&status, "VmHWM"),
        "ixrss": 0,
        "idrss": 0,
        "isrss": 0,
        "minflt": field(10),
        "majflt": field(12),
        "nswap": 0,
        "inblock": named(&io, "read_bytes") / BLOCK_BYTES,
        "oublock": named(&io, "write_bytes") / BLOCK_BYTES,
        "msgsnd": 0,
        "msgrcv": 0,
        "nsignals": 0,
        "nvcsw": named(&status, "voluntary_ctxt_switches"),
        "nivcsw": named(&status, "nonvoluntary_ctxt_switches"),
    }))
}

/// The memory that the process has now, such as `59.332MB`; `None` where there is no `/proc`.
pub(super) fn memory() -> Option<String> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let megabytes = named(&status, "VmRSS") as f64 / 1024.0;
    Some(format!("{megabytes:.3}MB"))
}

/// The number in a line `name: number`.
fn named(text: &str, name: &str) -> u64 {
    let values = text.lines().filter_map(|line| line.split_once(':'));
    let value = values
        .filter(|(key, _)| *key == name)
        .find_map(|(_, value)| value.split_whitespace().next()?.parse().ok());
    value.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_knows_this_process() {
        let usage = usage().expect("/proc");
        assert_eq!(usage.as_object().map(serde_json::Map::len), Some(16));
        assert!(usage["maxrss"].as_u64() > Some(1000), "{usage}");
        assert!(usage["minflt"].as_u64() > Some(0), "{usage}");
        assert!(memory().expect("/proc").ends_with("MB"));
    }
}
