//! Links the release binary by a layout of its own. A test program unwinds, and cargo knows no linker flags for a
//! profile; that is all this build script is for.

fn main() {
    println!("cargo::rerun-if-changed=.cargo/layout.ld");
    if std::env::var("PROFILE").is_ok_and(|profile| profile == "release") {
        let here = std::env::var("CARGO_MANIFEST_DIR").expect("cargo says where the package is");
        println!("cargo::rustc-link-arg-bins=--no-eh-frame-hdr");
        println!("cargo::rustc-link-arg-bins=-T{here}/.cargo/layout.ld");
    }
}
