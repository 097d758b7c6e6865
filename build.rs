//! A new migration is part of the binary, and cargo would not see it otherwise.

fn main() {
    println!("cargo:rerun-if-changed=migrations");
}
