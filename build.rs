//! Migrations are part of the binary, and cargo would not notice a new one without this.

fn main() {
    println!("cargo:rerun-if-changed=migrations");
}
