//! A cheap scan of a file: counts what makes compiling expensive, and reads which tools made the file.
//!
//! The bounds are far above the files of toolchains, and far below those that the engine would take. A file that is within all
//! bounds and still takes too long meets the limits of the process.

use wasmparser::{FunctionBody, KnownCustom, Parser, Payload, ProducersSectionReader};

use super::{
    Refusal, Toolchain,
    instances::{InstanceCounter, TooMany},
};
use crate::wasm::refused;
use sandhog_queue::printable::printable;

/// The most levels of nested components and modules. Toolchains make three or four.
const MAX_DEPTH: usize = 16;
/// The most languages, tools and SDKs that are shown, of each kind.
const MAX_PRODUCERS: usize = 16;
/// The most bytes of a name or a version that are shown.
const MAX_PRODUCER_BYTES: usize = 100;

/// The counts of a file, over all its modules and components.
#[derive(Debug, Default)]
struct FileCounts {
    modules: u64,
    instances: u64,
    types: u64,
    imports: u64,
    exports: u64,
    functions: u64,
    globals: u64,
    segments: u64,
    aliases: u64,
}

impl FileCounts {
    fn check(&self) -> Result<(), Refusal> {
        let bounds = [
            (self.modules, 1_000, "modules and components"),
            (self.instances, 10_000, "instances"),
            (self.types, 200_000, "types"),
            (self.imports, 50_000, "imports"),
            (self.exports, 200_000, "exports"),
            (self.functions, 500_000, "functions"),
            (self.globals, 200_000, "globals and tables"),
            (self.segments, 200_000, "segments of data and elements"),
            (self.aliases, 200_000, "aliases and canonical functions"),
        ];
        match bounds.iter().find(|(found, bound, _)| found > bound) {
            Some((found, bound, what)) => Err(too_much(&format!("{found} {what}"), &bound.to_string())),
            None => Ok(()),
        }
    }
}

/// The largest function, in bytes of its body (2 MiB). Compiling takes more than proportionally long.
const MAX_BODY_BYTES: usize = 2 * 1024 * 1024;
/// The most local variables of one function.
const MAX_LOCALS: u64 = 30_000;

fn too_much(found: &str, bound: &str) -> Refusal {
    Refusal::Invalid(format!("it has {found}, more than the {bound} that are accepted"))
}

/// Reads a whole module or component, without validating it.
///
/// # Errors
///
/// The file is out of bounds, or can't be parsed.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the parser knows more kinds of sections than have to be counted"
)]
pub(crate) fn scan(wasm: &[u8]) -> Result<Toolchain, Refusal> {
    let invalid = |error: wasmparser::BinaryReaderError| refused(&error);
    let mut counts = FileCounts::default();
    let mut toolchain = Toolchain::default();
    let mut depth = 0_usize;
    let mut instances = InstanceCounter::default();
    for payload in Parser::new(0).parse_all(wasm) {
        let payload = payload.map_err(invalid)?;
        match &payload {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return Err(too_much(
                        &format!("{depth} levels of components"),
                        &MAX_DEPTH.to_string(),
                    ));
                }
            }
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::CodeSectionEntry(body) => check_body(body)?,
            Payload::CustomSection(custom) => {
                if let KnownCustom::Producers(producers) = custom.as_known() {
                    toolchain.add(producers);
                }
            }
            _ => {}
        }
        counts.add(&payload);
        counts.check()?;
        if let Some(too_many) = instances.add(&payload).map_err(invalid)? {
            return Err(too_many_instances(too_many));
        }
    }
    Ok(toolchain)
}

fn too_many_instances(too_many: TooMany) -> Refusal {
    let (what, bound) = match too_many {
        TooMany::OfComponents { bound } => ("instances of components", bound),
        TooMany::OfAll { bound } => ("instances", bound),
        TooMany::Unknown => {
            return Refusal::Invalid(
                "it instantiates a component that it imports or takes from an instance, so that nobody can say how many \
                instances it comes to: compose it into one whose parts are known"
                    .to_owned(),
            );
        }
    };
    too_much(
        &format!("more {what} than are accepted, those of its parts included"),
        &bound.to_string(),
    )
}

fn check_body(body: &FunctionBody<'_>) -> Result<(), Refusal> {
    let invalid = |error: wasmparser::BinaryReaderError| refused(&error);
    let bytes = body.range().len();
    if bytes > MAX_BODY_BYTES {
        return Err(too_much(
            &format!("a function of {bytes} bytes"),
            &MAX_BODY_BYTES.to_string(),
        ));
    }
    let mut locals = 0_u64;
    for group in body.get_locals_reader().map_err(invalid)? {
        let (count, _) = group.map_err(invalid)?;
        locals = locals.saturating_add(count.into());
        if locals > MAX_LOCALS {
            return Err(too_much(
                &format!("a function with {locals} local variables or more"),
                &MAX_LOCALS.to_string(),
            ));
        }
    }
    Ok(())
}

impl FileCounts {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the parser knows more kinds of sections than have to be counted"
    )]
    fn add(&mut self, payload: &Payload<'_>) {
        let (counter, count) = match payload {
            Payload::Version { .. } => (&mut self.modules, 1),
            Payload::TypeSection(section) => (&mut self.types, section.count()),
            Payload::ComponentTypeSection(section) => (&mut self.types, section.count()),
            Payload::CoreTypeSection(section) => (&mut self.types, section.count()),
            Payload::ImportSection(section) => (&mut self.imports, section.count()),
            Payload::ComponentImportSection(section) => (&mut self.imports, section.count()),
            Payload::ExportSection(section) => (&mut self.exports, section.count()),
            Payload::ComponentExportSection(section) => (&mut self.exports, section.count()),
            Payload::FunctionSection(section) => (&mut self.functions, section.count()),
            Payload::GlobalSection(section) => (&mut self.globals, section.count()),
            Payload::TableSection(section) => (&mut self.globals, section.count()),
            Payload::MemorySection(section) => (&mut self.globals, section.count()),
            Payload::TagSection(section) => (&mut self.globals, section.count()),
            Payload::DataSection(section) => (&mut self.segments, section.count()),
            Payload::ElementSection(section) => (&mut self.segments, section.count()),
            Payload::InstanceSection(section) => (&mut self.instances, section.count()),
            Payload::ComponentInstanceSection(section) => (&mut self.instances, section.count()),
            Payload::ComponentAliasSection(section) => (&mut self.aliases, section.count()),
            Payload::ComponentCanonicalSection(section) => (&mut self.aliases, section.count()),
            _ => return,
        };
        *counter = counter.saturating_add(count.into());
    }
}

impl Toolchain {
    /// Adds the tools of a section. Tools that can't be read are left out: the list is for people only.
    fn add(&mut self, producers: ProducersSectionReader<'_>) {
        for field in producers.into_iter().map_while(Result::ok) {
            let kind = match field.name {
                "language" => &mut self.languages,
                "processed-by" => &mut self.tools,
                "sdk" => &mut self.sdks,
                _ => continue,
            };
            for value in field.values.into_iter().map_while(Result::ok).take(MAX_PRODUCERS) {
                let text = format!(
                    "{} {}",
                    printable(value.name, MAX_PRODUCER_BYTES),
                    printable(value.version, MAX_PRODUCER_BYTES)
                );
                let text = text.trim().to_owned();
                if kind.len() < MAX_PRODUCERS && !kind.contains(&text) {
                    kind.push(text);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scanned(text: &str) -> Result<Toolchain, String> {
        scan(&wat::parse_str(text).unwrap()).map_err(|refusal| format!("{refusal:?}"))
    }

    #[test]
    fn what_is_out_of_bounds_is_refused_by_name() {
        let check = |text: &str, said: &str| {
            let refused = scanned(text).unwrap_err();
            assert!(refused.contains(said), "{refused}");
        };
        let locals = format!("(module (func (local {})))", "i32 ".repeat(30_001));
        check(&locals, "local variables");
        let body = format!("(module (func {}))", "nop ".repeat(2 * 1024 * 1024));
        check(&body, "a function of");
        let nested = format!("{}{}", "(component ".repeat(18), ")".repeat(18));
        check(&nested, "levels of components");
        let modules = format!("(component {})", "(core module)".repeat(1000));
        check(&modules, "modules and components");
        let functions = format!("(module {})", "(func)".repeat(500_001));
        check(&functions, "functions");
        assert!(scanned("(module (func (local i32)))").is_ok());
    }

    /// 3 KB came to 250,000 instances of components, which no limit counted.
    #[test]
    fn instances_of_parts_count_for_the_whole() {
        let refused = |text: &str, said: &str| {
            let refused = scanned(text).unwrap_err();
            assert!(refused.contains(said), "{refused}");
        };
        let many = |count: usize, text: &str| text.repeat(count);
        let squared = |first: usize, second: usize| {
            format!(
                "(component (component $middle (component $leaf) {}) {})",
                many(first, "(instance (instantiate $leaf))"),
                many(second, "(instance (instantiate $middle))")
            )
        };
        assert!(scanned(&squared(31, 31)).is_ok());
        refused(&squared(500, 500), "more than the 1000");
        refused(&squared(32, 31), "instances of components");
        let aliased = format!(
            "(component (component $leaf) (component $middle (alias outer 1 $leaf (component $same)) {}) {})",
            many(40, "(instance (instantiate $same))"),
            many(40, "(instance (instantiate $middle))")
        );
        refused(&aliased, "instances of components");
        let exported = format!(
            "(component (component $leaf) (export $same \"same\" (component $leaf)) {})",
            many(1001, "(instance (instantiate $same))")
        );
        refused(&exported, "instances of components");
        let modules = format!(
            "(component (component $many (core module $leaf) {}) {})",
            many(200, "(core instance (instantiate $leaf))"),
            many(60, "(instance (instantiate $many))")
        );
        refused(&modules, "more than the 10000");
        refused(
            "(component (import \"part\" (component $part)) (instance (instantiate $part)))",
            "a component that it imports",
        );
        assert!(scanned("(component (import \"part\" (component $part)))").is_ok());
    }

    #[test]
    fn the_tools_that_made_a_file_are_read_and_made_printable() {
        let text = r#"(component
            (@producers (language "Rust" "") (processed-by "wit-component" "0.254.2"))
            (core module (@producers (language "Rust" "") (language "C\1b" "11") (sdk "x" "1"))))"#;
        let toolchain = scanned(text).unwrap();
        assert_eq!(toolchain.languages, ["Rust", "C\\u{1b} 11"]);
        assert_eq!(toolchain.tools, ["wit-component 0.254.2"]);
        assert_eq!(toolchain.sdks, ["x 1"]);
    }
}
