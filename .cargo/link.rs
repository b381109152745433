//! Links the release binary with a linker script of its own. Test programs unwind and cannot be linked by it, and cargo
//! has no linker flags for one profile: that is all this build script is for.

fn main() {
    println!("cargo::rerun-if-changed=.cargo/layout.ld");
    if std::env::var("PROFILE").is_ok_and(|profile| profile == "release") {
        let here = std::env::var("CARGO_MANIFEST_DIR").expect("cargo says where the package is");
        println!("cargo::rustc-link-arg-bins=--no-eh-frame-hdr");
        println!("cargo::rustc-link-arg-bins=-T{here}/.cargo/layout.ld");
    }
}
