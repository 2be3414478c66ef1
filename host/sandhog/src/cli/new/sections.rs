//! The sections of a template: lines that a project has only with certain features, or only without.
//!
//! A section begins with a line that holds only its condition, such as `{{with http}}`, `{{without http config}}` (neither of
//! them) or `{{with http without config}}`, and ends with the line `{{end}}`. `any` stands for at least one feature.

use clap::ValueEnum as _;

use super::{super::Feature, MODULE, NAME};

/// A template that can't be resolved, with the number of the line.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(super) enum SectionError {
    #[error("line {0}: {1:?} is no feature and no word of a section")]
    Word(usize, String),
    #[error("line {0}: a section begins in another one")]
    Nested(usize),
    #[error("line {0}: no section ends here")]
    NotOpen(usize),
    #[error("line {0}: the section has no end")]
    Unclosed(usize),
}

/// Returns the text of a template without the lines of its sections that the chosen features leave out.
pub(super) fn resolve(text: &str, chosen: &[Feature]) -> Result<String, SectionError> {
    let mut kept = String::new();
    let mut open: Option<(usize, bool)> = None;
    for (line, number) in text.split_inclusive('\n').zip(1..) {
        match (marker(line), open) {
            (None, None | Some((_, true))) => kept.push_str(line),
            (None, Some((_, false))) => {}
            (Some("end"), Some(_)) => open = None,
            (Some("end"), None) => return Err(SectionError::NotOpen(number)),
            (Some(_), Some(_)) => return Err(SectionError::Nested(number)),
            (Some(condition), None) => {
                let holds = holds(condition, chosen).map_err(|word| SectionError::Word(number, word))?;
                open = Some((number, holds));
            }
        }
    }
    match open {
        None => Ok(kept),
        Some((number, _)) => Err(SectionError::Unclosed(number)),
    }
}

/// Returns what is between the braces of a line that holds nothing else.
fn marker(line: &str) -> Option<&str> {
    let line = line.trim();
    let is_placeholder = line == NAME || line == MODULE;
    let inner = line.strip_prefix("{{")?.strip_suffix("}}")?;
    (!is_placeholder).then_some(inner)
}

/// Says whether the condition of a section holds. The error is a word that means nothing.
fn holds(condition: &str, chosen: &[Feature]) -> Result<bool, String> {
    let mut wanted = None;
    let mut holds = true;
    for word in condition.split_whitespace() {
        match (word, wanted) {
            ("with", _) => wanted = Some(true),
            ("without", _) => wanted = Some(false),
            ("any", Some(wanted)) => holds &= chosen.is_empty() != wanted,
            (word, Some(wanted)) => {
                let feature = Feature::from_str(word, false).map_err(|_unknown| word.to_owned())?;
                holds &= chosen.contains(&feature) == wanted;
            }
            (word, None) => return Err(word.to_owned()),
        }
    }
    Ok(holds)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
first
{{with http}}
http
{{end}}
{{with http without config}}
http alone
{{end}}
{{with http config}}
both
{{end}}
{{without http config}}
neither
{{end}}
{{with any}}
some
{{end}}
{{name}}
last";

    #[track_caller]
    fn check(chosen: &[Feature], kept: &[&str]) {
        let lines = [&["first"], kept, &["{{name}}", "last"]].concat();
        assert_eq!(resolve(TEXT, chosen), Ok(lines.join("\n")), "{chosen:?}");
    }

    #[test]
    fn a_section_stays_where_its_condition_holds() {
        use Feature::{Config, Http, Keyvalue};
        check(&[], &["neither"]);
        check(&[Keyvalue], &["neither", "some"]);
        check(&[Config], &["some"]);
        check(&[Http], &["http", "http alone", "some"]);
        check(&[Config, Keyvalue, Http, Http], &["http", "both", "some"]);
    }

    #[test]
    fn a_malformed_section_is_an_error_with_its_line() {
        let word = |number, word: &str| Err(SectionError::Word(number, word.to_owned()));
        assert_eq!(resolve("a\n{{with htp}}\n{{end}}\n", &[]), word(2, "htp"));
        assert_eq!(resolve("{{wiht http}}\n{{end}}\n", &[]), word(1, "wiht"));
        assert_eq!(
            resolve("{{with http}}\n{{with config}}\n{{end}}\n{{end}}\n", &[]),
            Err(SectionError::Nested(2))
        );
        assert_eq!(resolve("a\nb\n{{with http}}\n", &[]), Err(SectionError::Unclosed(3)));
        assert_eq!(resolve("{{end}}\n", &[]), Err(SectionError::NotOpen(1)));
    }
}
