//! The example handlers build here, with whatever toolchain there is.

use std::fs;

use sandhog_demo::guests::{self, Progress};

#[test]
fn every_example_becomes_a_module_that_says_what_it_is() {
    let files = guests::build(Progress::Hidden).unwrap();
    assert_eq!(files.keys().collect::<Vec<_>>(), ["orders", "report", "thumbnail"]);
    for file in files.values() {
        let wasm = fs::read(file).unwrap();
        assert!(wasm.starts_with(b"\0asm"), "{}", file.display());
        // The custom section from which the host makes a component.
        let section = b"component-type:wit-bindgen";
        assert!(
            wasm.windows(section.len()).any(|window| window == section),
            "{}",
            file.display()
        );
    }
}
