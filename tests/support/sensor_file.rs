//! Sensor files to drop: small ones, large ones and bad ones, no two alike.

use std::fmt::Write as _;
use std::path::Path;

/// The nine columns.
pub const HEADER: &str = "ts,device,co,humidity,light,lpg,motion,smoke,temp\n";

const DEVICES: [&str; 3] = [
    "00:0f:00:70:91:0a",
    "1c:bf:ce:15:ec:4d",
    "b8:27:eb:bf:9d:51",
];

/// Good rows under their header; files of different seeds share no row.
pub fn good(seed: u32, rows: u32) -> String {
    let mut text = HEADER.to_owned();
    for row in 0..rows {
        let mixed = (seed * 7919 + row).wrapping_mul(2_654_435_761) >> 8;
        let share = |of: u32| f64::from(mixed % of) / f64::from(of);
        writeln!(
            text,
            "{}.{seed:06},{},{:.6},{:.1},{},{:.6},{},{:.6},{:.2}",
            1_594_512_094 + row,
            DEVICES[row as usize % DEVICES.len()],
            share(997),
            share(1009) * 100.0,
            row % 3 == 0,
            share(991),
            row % 5 == 0,
            share(983),
            share(977) * 100.0 - 50.0,
        )
        .expect("a string takes everything");
    }
    text
}

/// Good rows, and between them one with a temperature that is no number and one with too high a humidity.
pub fn bad(seed: u32) -> String {
    let mut text = good(seed, 5);
    text.push_str("1594512200,b8:27:eb:bf:9d:51,0.1,50,true,0.1,false,0.1,hot\n");
    text.push_str("1594512201,b8:27:eb:bf:9d:51,0.1,120,true,0.1,false,0.1,20\n");
    text
}

/// Writes the text under a name that nobody watches, and renames it into its place.
///
/// # Panics
/// The directory cannot be written.
pub fn drop_by_rename(directory: &Path, name: &str, text: impl AsRef<[u8]>) {
    let unfinished = directory.join(format!("{name}.tmp"));
    std::fs::write(&unfinished, text).expect("a test's directory can be written");
    std::fs::rename(&unfinished, directory.join(name)).expect("one file system");
}
