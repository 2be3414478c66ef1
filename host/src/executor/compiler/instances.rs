//! How many instances a component comes to: its own, and those of the components that it instantiates, down to the last. A
//! few bytes can stand for millions.

use wasmparser::{
    BinaryReaderError, ComponentAlias, ComponentExternalKind, ComponentInstance, ComponentOuterAliasKind,
    ComponentTypeRef, Instance, Payload,
};

/// Instances of components that one file may come to. What composers make of many parts has dozens.
const MAX_OF_COMPONENTS: u64 = 1_000;
/// The same with instances of core modules.
const MAX_OF_ALL: u64 = 10_000;

/// What an instance of one component comes to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Count {
    of_components: u64,
    of_modules: u64,
}

/// A component of which it is not said what it is: one that is imported, or an export of an instance.
const UNKNOWN: Count = Count {
    of_components: u64::MAX,
    of_modules: u64::MAX,
};

impl Count {
    fn add(&mut self, other: Self) {
        self.of_components = self.of_components.saturating_add(other.of_components);
        self.of_modules = self.of_modules.saturating_add(other.of_modules);
    }
}

/// Why a file has too many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TooMany {
    OfComponents {
        bound: u64,
    },
    OfAll {
        bound: u64,
    },
    /// It instantiates a component that is not in it.
    Unknown,
}

/// A module or component that is being read.
#[derive(Debug)]
enum Open {
    Module,
    Component(Contents),
}

#[derive(Debug, Default)]
struct Contents {
    /// What can be instantiated, by its index.
    components: Vec<Count>,
    count: Count,
}

/// The count of a file that is being read, section by section.
#[derive(Debug, Default)]
pub(super) struct Instances {
    /// Those that contain what is read now, the outermost first.
    open: Vec<Open>,
}

impl Instances {
    /// Counts what a section has.
    #[expect(clippy::wildcard_enum_match_arm, reason = "most sections instantiate nothing")]
    pub(super) fn add(&mut self, payload: &Payload<'_>) -> Result<Option<TooMany>, BinaryReaderError> {
        match payload {
            Payload::Version { encoding, .. } => self.open.push(match encoding {
                wasmparser::Encoding::Module => Open::Module,
                wasmparser::Encoding::Component => Open::Component(Contents::default()),
            }),
            Payload::End(_) => self.end(),
            Payload::ComponentAliasSection(aliases) => {
                for alias in aliases.clone() {
                    self.alias(&alias?);
                }
            }
            Payload::ComponentImportSection(imports) => {
                for import in imports.clone() {
                    if matches!(import?.ty, ComponentTypeRef::Component(_)) {
                        self.define(UNKNOWN);
                    }
                }
            }
            Payload::ComponentExportSection(exports) => {
                for export in exports.clone() {
                    let export = export?;
                    // What is exported can be instantiated by the index of its export, too.
                    if export.kind == ComponentExternalKind::Component {
                        self.define(self.component(0, export.index));
                    }
                }
            }
            Payload::ComponentInstanceSection(instances) => {
                for instance in instances.clone() {
                    if let ComponentInstance::Instantiate { component_index, .. } = instance? {
                        self.count(self.component(0, component_index));
                    }
                }
            }
            Payload::InstanceSection(instances) => {
                for instance in instances.clone() {
                    if let Instance::Instantiate { .. } = instance? {
                        self.count(Count {
                            of_components: 0,
                            of_modules: 1,
                        });
                    }
                }
            }
            _ => {}
        }
        Ok(self.too_many())
    }

    fn alias(&mut self, alias: &ComponentAlias<'_>) {
        match alias {
            ComponentAlias::InstanceExport {
                kind: ComponentExternalKind::Component,
                ..
            } => self.define(UNKNOWN),
            ComponentAlias::Outer {
                kind: ComponentOuterAliasKind::Component,
                count,
                index,
            } => self.define(self.component(*count, *index)),
            ComponentAlias::InstanceExport { .. }
            | ComponentAlias::CoreInstanceExport { .. }
            | ComponentAlias::Outer { .. } => {}
        }
    }

    /// What an instance comes to of a component that is known so many levels further out by this index.
    fn component(&self, levels: u32, index: u32) -> Count {
        let levels = usize::try_from(levels).unwrap_or(usize::MAX);
        let index = usize::try_from(index).unwrap_or(usize::MAX);
        match self.open.iter().rev().nth(levels) {
            Some(Open::Component(contents)) => contents.components.get(index).copied().unwrap_or(UNKNOWN),
            Some(Open::Module) | None => UNKNOWN,
        }
    }

    fn define(&mut self, component: Count) {
        if let Some(Open::Component(contents)) = self.open.last_mut() {
            contents.components.push(component);
        }
    }

    fn count(&mut self, instance: Count) {
        if let Some(Open::Component(contents)) = self.open.last_mut() {
            contents.count.add(instance);
        }
    }

    fn end(&mut self) {
        if let Some(Open::Component(contents)) = self.open.pop() {
            let mut count = contents.count;
            count.add(Count {
                of_components: 1,
                of_modules: 0,
            });
            self.define(count);
        }
    }

    fn too_many(&self) -> Option<TooMany> {
        let Some(Open::Component(Contents { count, .. })) = self.open.last() else {
            return None;
        };
        if count.of_components == UNKNOWN.of_components {
            return Some(TooMany::Unknown);
        }
        if count.of_components > MAX_OF_COMPONENTS {
            return Some(TooMany::OfComponents {
                bound: MAX_OF_COMPONENTS,
            });
        }
        let all = count.of_components.saturating_add(count.of_modules);
        (all > MAX_OF_ALL).then_some(TooMany::OfAll { bound: MAX_OF_ALL })
    }
}
