//! Embedded migrations are read by a macro, which Cargo does not see: a changed file must build this crate again.

fn main() {
    println!("cargo:rerun-if-changed=../migrations");
}
