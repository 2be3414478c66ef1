//! The guest in `tests/guests/http`: a real one, in Rust, that sends the requests its message asks for.

use std::{fs, sync::OnceLock};

use sandhog_demo::guests::{Progress, build_workspace};

use crate::repository;

/// Its bytes; built once, by cargo, if something has changed.
pub fn http_guest() -> Vec<u8> {
    static GUEST: OnceLock<Vec<u8>> = OnceLock::new();
    let build = || {
        let files = build_workspace(&repository().join("tests/guests/http"), Progress::Hidden).unwrap();
        fs::read(files.get("http").unwrap()).unwrap()
    };
    GUEST.get_or_init(build).clone()
}
