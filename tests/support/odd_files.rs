//! Sensor files as no two programs may read them differently: good rows in every dialect, and here and there a field, a
//! record or a header that is wrong in one of the ways in which files are. The same seed gives the same bytes.

use crate::random::Random;

/// Texts for any field: right at a limit, right in an odd notation, or wrong.
const FIELDS: [&str; 44] = [
    "",
    " ",
    "0",
    "1",
    "-0.0",
    "+.5",
    "5.",
    ".",
    "1e-400",
    "1e999",
    "1E2",
    "1e",
    "0.1e-0002",
    "NaN",
    "inf",
    "-Infinity",
    "NULL",
    "0x1F",
    "1_0",
    "22.7C",
    "\u{663}",
    "\u{ff11}",
    "50.000000000000001",
    "50.00001",
    "-50",
    "100.0",
    "true ",
    "TRUE",
    "\tFalse",
    "no",
    "2",
    "1594512094.0000005",
    "1594512094.00000050000000000000000001",
    "946684799.9999999",
    "946684799.9999994",
    "4102444799.9999999",
    "15945120943859746e-7",
    "1e-99999999999999999999",
    "\"\"",
    "\"a,b\"",
    "\"two\nlines\"",
    "\"never closed",
    "b\"8",
    "\u{1f321}\u{301}\u{200b}",
];

/// Whole lines to put in between.
const LINES: [&[u8]; 9] = [
    b"",
    b" ",
    b",",
    b"1,2,3",
    b"\"a\"b,1,1,1,1,1,1,1,1",
    b"1594512094,\xff\xfe,0,0,1,0,1,0,0",
    b"1594512094,nul\0,0,0,1,0,1,0,0",
    b"1594512094,d,0,0,1,0,1,0,0,surplus",
    b"\x0b\x1f\x7f,\xc2\x85,\xe2\x80\xa8,0,1,0,1,0,0",
];

/// Bytes of one file.
pub fn odd(seed: u32) -> Vec<u8> {
    let mut random = Random::new(seed);
    let names = random.columns();
    let (line_end, is_quoted) = (random.pick(&["\n", "\r\n", "\r"]), random.one_in(3));
    // Half of all files are good.
    let is_bad = random.one_in(2);
    let mut file = Vec::new();
    if random.one_in(4) {
        file.extend("\u{feff}".as_bytes());
    }
    let line = |file: &mut Vec<u8>, fields: &[String]| {
        let text = match is_quoted {
            true => format!("\"{}\"", fields.join("\",\"")),
            false => fields.join(","),
        };
        file.extend(text.as_bytes());
        file.extend(line_end.as_bytes());
    };
    let header: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    line(&mut file, &header);
    for row in 0..20 + random.below(60) {
        let mut fields: Vec<String> = names.iter().map(|name| random.value(name, row)).collect();
        if is_bad && random.one_in(8) {
            let place = random.below(fields.len());
            random.pick(&FIELDS).clone_into(&mut fields[place]);
        }
        line(&mut file, &fields);
        if is_bad && random.one_in(20) {
            file.extend(random.pick(&LINES));
            file.extend(line_end.as_bytes());
        }
    }
    if random.one_in(4) {
        file.truncate(file.len() - line_end.len());
    }
    file
}

impl Random {
    /// The nine columns in any order, and some that nobody asked for.
    fn columns(&mut self) -> Vec<&'static str> {
        let mut names = vec![
            "ts", "device", "co", "humidity", "light", "lpg", "motion", "smoke", "temp",
        ];
        for extra in [" note ", "Temp", ""] {
            if self.one_in(4) {
                names.push(extra);
            }
        }
        for last in (1..names.len()).rev() {
            let other = self.below(last + 1);
            names.swap(last, other);
        }
        names
    }

    /// A good value for a column, in one of the notations that are allowed.
    fn value(&mut self, column: &str, row: usize) -> String {
        let share = self.next() as f64 / u64::MAX as f64;
        let text = match column {
            "ts" => {
                let ts = 1_594_512_094.0 + row as f64 + share;
                return match self.below(3) {
                    0 => format!("{ts:e}"),
                    1 => format!("{ts:.7}"),
                    _ => format!("{ts:.0}"),
                };
            }
            "device" => self
                .pick(&[
                    "b8:27:eb:bf:9d:51",
                    "00:0f:00:70:91:0a",
                    "\u{6e29}\u{5ea6} 7",
                    "a\tb\\N",
                ])
                .to_owned(),
            "light" | "motion" => self.pick(&["true", "False", "1", "0"]).to_owned(),
            "humidity" => (share * 100.0).to_string(),
            "temp" => format!("{:.3}", share * 100.0 - 50.0),
            "co" | "lpg" | "smoke" => match self.one_in(5) {
                true => format!("{share:e}"),
                false => share.to_string(),
            },
            _ => "not looked at".to_owned(),
        };
        match self.one_in(6) {
            true => format!(" {text}\t"),
            false => text,
        }
    }
}
