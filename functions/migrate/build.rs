//! Has the function built again when a migration is added: cargo does not see what a macro reads.

fn main() {
    println!("cargo::rerun-if-changed=../../migrations");
}
