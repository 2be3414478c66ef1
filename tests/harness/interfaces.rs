//! Every interface that the packages behind the host's imports have, and guests that import them.

#![expect(
    clippy::indexing_slicing,
    reason = "what is not there in the sources of a package fails the test"
)]

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use wit_component::{StringEncoding, embed_component_metadata};
use wit_parser::{
    InterfaceId, Resolve,
    abi::{AbiVariant, WasmType},
};

use crate::{guests::text_of_handler, hostile::repeated, repository};

/// `wasi:logging`, for which the host has no package.
const LOGGING: &str = "package wasi:logging@0.1.0-draft;
    interface logging {
        enum level { trace, debug, info, warn, error, critical }
        log: func(level: level, context: string, message: string);
    }";

/// Packages that belong together, by the interfaces that they have.
#[derive(Debug)]
pub struct Packages {
    resolve: Resolve,
    /// By the name that a document calls each, such as `wasi:cli/run@0.2`.
    interfaces: BTreeMap<String, InterfaceId>,
}

impl Packages {
    /// Those that have this interface.
    pub fn with(name: &str) -> Self {
        let mut all = Self::all().into_iter();
        all.find(|packages| packages.interfaces.contains_key(name)).unwrap()
    }

    /// All that the host links something of: its own, and those of the engine as its sources have them.
    pub fn all() -> Vec<Self> {
        let sources = sources();
        let of = |package: &str, path: &str| sources[package].join(path);
        let host = |path: &str| repository().join("host/executor/wit").join(path);
        let mut all: Vec<_> = [
            of("wasmtime-wasi", "src/p2/wit"),
            of("wasmtime-wasi", "src/p3/wit"),
            of("wasmtime-wasi-http", "wit"),
            of("wasmtime-wasi-http", "src/p3/wit"),
            of("wasmtime-wasi-config", "wit"),
            host("keyvalue"),
            host("keyvalue-draft2"),
            host("wasi-messaging"),
            host("wasmcloud-messaging"),
        ]
        .iter()
        .map(|directory| Self::in_directory(directory))
        .collect();
        let mut logging = Resolve::default();
        logging.push_str("logging.wit", LOGGING).unwrap();
        all.push(Self::of(logging));
        all
    }

    fn in_directory(directory: &Path) -> Self {
        let mut resolve = Resolve::default();
        resolve.push_dir(directory).unwrap();
        Self::of(resolve)
    }

    fn of(mut resolve: Resolve) -> Self {
        resolve.push_dir(repository().join("wit")).unwrap();
        let interfaces = resolve
            .interfaces
            .iter()
            .filter_map(|(id, _)| Some((shown(&resolve.id_of(id)?), id)));
        let interfaces = interfaces.collect();
        Self { resolve, interfaces }
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.interfaces.keys().map(String::as_str)
    }

    /// The name and the whole version of an interface.
    pub fn id(&self, name: &str) -> String {
        self.resolve.id_of(self.interfaces[name]).unwrap()
    }

    /// A handler that imports these interfaces, with every function that they have.
    pub fn importing(&self, names: &[&str]) -> Vec<u8> {
        let imports: String = names
            .iter()
            .map(|name| self.functions(self.interfaces[*name], &self.id(name)))
            .collect();
        self.handler(names, &imports, "(global.get $ok)")
    }

    /// A handler that imports these functions of these interfaces.
    pub fn handler(&self, names: &[&str], imports: &str, handle: &str) -> Vec<u8> {
        let mut resolve = self.resolve.clone();
        let world = repeated(names, |name| format!("import {};", self.id(name)));
        let world = format!("package test:interfaces; world guest {{ {world} export sandhog:worker/handler@0.1.0; }}");
        let package = resolve.push_str("interfaces.wit", &world).unwrap();
        let world = resolve.select_world(&[package], Some("guest")).unwrap();
        let text = text_of_handler(handle, (imports, ""), 16);
        let mut module = wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
        module
    }

    fn functions(&self, interface: InterfaceId, id: &str) -> String {
        let interface = &self.resolve.interfaces[interface];
        let mut text = String::new();
        for function in interface.functions.values() {
            let signature = self.resolve.wasm_signature(AbiVariant::GuestImport, function);
            let (parameters, results) = (types(&signature.params), types(&signature.results));
            let name = &function.name;
            writeln!(
                text,
                r#"(import "{id}" "{name}" (func (param {parameters}) (result {results})))"#
            )
            .unwrap();
        }
        for (name, ty) in &interface.types {
            if matches!(self.resolve.types[*ty].kind, wit_parser::TypeDefKind::Resource) {
                writeln!(text, r#"(import "{id}" "[resource-drop]{name}" (func (param i32)))"#).unwrap();
            }
        }
        text
    }
}

/// Where the sources of the engine's packages are.
fn sources() -> &'static BTreeMap<String, PathBuf> {
    static SOURCES: OnceLock<BTreeMap<String, PathBuf>> = OnceLock::new();
    SOURCES.get_or_init(read_sources)
}

fn read_sources() -> BTreeMap<String, PathBuf> {
    // What other platforms need may not be there.
    let system = if cfg!(target_os = "macos") {
        "apple-darwin"
    } else {
        "unknown-linux-gnu"
    };
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--offline", "--filter-platform"])
        .arg(format!("{}-{system}", std::env::consts::ARCH))
        .arg("--manifest-path")
        .arg(repository().join("Cargo.toml"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap().iter();
    packages
        .map(|package| {
            let manifest = PathBuf::from(package["manifest_path"].as_str().unwrap());
            let directory = manifest.parent().unwrap().to_owned();
            (package["name"].as_str().unwrap().to_owned(), directory)
        })
        .collect()
}

/// An interface with the part of its version that says what it is compatible with.
fn shown(id: &str) -> String {
    let Some((name, version)) = id.split_once('@') else {
        return id.to_owned();
    };
    if version.contains('-') {
        return id.to_owned();
    }
    let parts: Vec<_> = version.split('.').take(2).collect();
    format!("{name}@{}", parts.join("."))
}

fn types(types: &[WasmType]) -> String {
    let name = |ty: &WasmType| match ty {
        WasmType::I32 | WasmType::Pointer | WasmType::Length => "i32 ",
        WasmType::I64 | WasmType::PointerOrI64 => "i64 ",
        WasmType::F32 => "f32 ",
        WasmType::F64 => "f64 ",
    };
    types.iter().map(name).collect()
}
