//! The bindings are those of the contract in `wit/`.

use std::fs;
use std::path::Path;

#[test]
fn the_bindings_are_generated_from_the_contract_as_it_is() {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files: Vec<_> = fs::read_dir(package.join("../../wit"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "wit"));
    files.sort();
    let contract: String = files.iter().map(|file| fs::read_to_string(file).unwrap()).collect();
    let generated_from = fs::read_to_string(package.join("src/bindings/contract.wit")).unwrap();
    assert!(
        contract == generated_from,
        "wit/ has changed since guest-sdk/rust/src/bindings was generated from it.\n\
         Run guest-sdk/rust/bindings.sh (its first lines say how to install wit-bindgen)."
    );
}
