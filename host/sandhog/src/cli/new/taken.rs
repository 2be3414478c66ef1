//! Names that the tools of a language reserve: a project of such a name could not be built.

use super::super::Language;

/// The names of the SDKs and of the languages' own libraries.
const BY_SDKS: [&str; 7] = ["sandhog", "sandhog-guest", "alloc", "core", "proc-macro", "std", "test"];

/// The directories that cargo makes beside a program, whose names a program can't have.
const BY_CARGO: [&str; 4] = ["build", "deps", "examples", "incremental"];

/// The words of the language in one of its editions: such a package builds only until another crate names it.
const BY_RUST: [&str; 52] = [
    "abstract", "as", "async", "await", "become", "box", "break", "const", "continue", "crate", "do", "dyn", "else",
    "enum", "extern", "false", "final", "fn", "for", "gen", "if", "impl", "in", "let", "loop", "macro", "match", "mod",
    "move", "mut", "override", "priv", "pub", "ref", "return", "safe", "self", "static", "struct", "super", "trait",
    "true", "try", "type", "typeof", "unsafe", "unsized", "use", "virtual", "where", "while", "yield",
];

/// The dependencies of a project, because a package can't depend on itself; and the name of the project's manifest, on systems
/// that ignore capitals.
const BY_PROJECTS: [&str; 3] = ["cargo", "serde", "serde-json"];

/// Returns the owner of a name, if it has one.
pub(crate) fn by(language: Language, name: &str) -> Option<&'static str> {
    if BY_SDKS.contains(&name) {
        return Some("an SDK or a standard library");
    }
    let is_in = |names: &[&str]| names.contains(&name);
    match language {
        Language::Rust | Language::CommandRust if is_in(&BY_CARGO) => Some("cargo, for its own directories"),
        Language::Rust | Language::CommandRust if is_in(&BY_RUST) => Some("Rust, as a word of the language"),
        Language::Rust | Language::CommandRust if is_in(&BY_PROJECTS) => Some("what the project is made of"),
        Language::Typescript if name == "typescript" => Some("what the project is made of"),
        // These languages build from files with fixed names, and the name of the project is only that of a file.
        Language::Rust
        | Language::CommandRust
        | Language::Javascript
        | Language::Typescript
        | Language::Python
        | Language::Go
        | Language::CommandGo
        | Language::C
        | Language::Cpp
        | Language::Zig
        | Language::CommandC
        | Language::CommandZig => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_the_tools_keep_for_themselves_is_refused() {
        // Each made a project that cargo refuses.
        for name in BY_CARGO {
            assert!(by(Language::CommandRust, name).is_some(), "{name}");
        }
        for (language, name) in [
            (Language::Rust, "match"),
            (Language::Rust, "serde"),
            (Language::Typescript, "typescript"),
            (Language::Python, "sandhog"),
        ] {
            assert!(by(language, name).is_some(), "{language:?} {name}");
        }
    }

    #[test]
    fn a_name_that_only_another_language_keeps_is_free() {
        for (language, name) in [
            (Language::Python, "build"),
            (Language::Go, "fmt"),
            (Language::C, "match"),
            (Language::Rust, "orders"),
            (Language::CommandZig, "examples"),
        ] {
            assert_eq!(by(language, name), None, "{language:?} {name}");
        }
    }
}
