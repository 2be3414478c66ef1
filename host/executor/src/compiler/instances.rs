//! Counts the instances of a component: its own, and those of all the components that it instantiates. A few bytes can stand
//! for millions of instances.

use wasmparser::{
    BinaryReaderError, ComponentAlias, ComponentExternalKind, ComponentInstance, ComponentOuterAliasKind,
    ComponentTypeRef, Instance, Payload,
};

/// The most instances of components of one file. A component that composers make of many parts has dozens.
const MAX_OF_COMPONENTS: u64 = 1_000;
/// The most instances of components and of core modules together.
const MAX_OF_ALL: u64 = 10_000;

/// The instances that one instance of a component comes to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct InstanceCount {
    of_components: u64,
    of_modules: u64,
}

/// The count of a component that is not in the file: one that is imported, or an export of an instance.
const UNKNOWN: InstanceCount = InstanceCount {
    of_components: u64::MAX,
    of_modules: u64::MAX,
};

impl InstanceCount {
    fn add(&mut self, other: Self) {
        self.of_components = self.of_components.saturating_add(other.of_components);
        self.of_modules = self.of_modules.saturating_add(other.of_modules);
    }
}

/// A file has too many instances.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TooMany {
    OfComponents {
        bound: u64,
    },
    OfAll {
        bound: u64,
    },
    /// The file instantiates a component that is not in it.
    Unknown,
}

/// A module or component that is being read.
#[derive(Debug)]
enum OpenItem {
    Module,
    Component(ComponentContents),
}

#[derive(Debug, Default)]
struct ComponentContents {
    /// The components that can be instantiated, by their index.
    components: Vec<InstanceCount>,
    count: InstanceCount,
}

/// Counts the instances of a file, section by section.
#[derive(Debug, Default)]
pub(crate) struct InstanceCounter {
    /// The modules and components around the current section, the outermost first.
    open: Vec<OpenItem>,
}

impl InstanceCounter {
    /// Counts a section. Returns the reason if the file has too many instances.
    ///
    /// # Errors
    ///
    /// The section can't be parsed.
    #[expect(clippy::wildcard_enum_match_arm, reason = "most sections instantiate nothing")]
    pub(crate) fn add(&mut self, payload: &Payload<'_>) -> Result<Option<TooMany>, BinaryReaderError> {
        match payload {
            Payload::Version { encoding, .. } => self.open.push(match encoding {
                wasmparser::Encoding::Module => OpenItem::Module,
                wasmparser::Encoding::Component => OpenItem::Component(ComponentContents::default()),
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
                    // An exported component can be instantiated by the index of its export, too.
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
                        self.count(InstanceCount {
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

    /// Returns the count of the component that has this index so many levels further out.
    fn component(&self, levels: u32, index: u32) -> InstanceCount {
        let levels = usize::try_from(levels).unwrap_or(usize::MAX);
        let index = usize::try_from(index).unwrap_or(usize::MAX);
        match self.open.iter().rev().nth(levels) {
            Some(OpenItem::Component(contents)) => contents.components.get(index).copied().unwrap_or(UNKNOWN),
            Some(OpenItem::Module) | None => UNKNOWN,
        }
    }

    fn define(&mut self, component: InstanceCount) {
        if let Some(OpenItem::Component(contents)) = self.open.last_mut() {
            contents.components.push(component);
        }
    }

    fn count(&mut self, instance: InstanceCount) {
        if let Some(OpenItem::Component(contents)) = self.open.last_mut() {
            contents.count.add(instance);
        }
    }

    fn end(&mut self) {
        if let Some(OpenItem::Component(contents)) = self.open.pop() {
            let mut count = contents.count;
            count.add(InstanceCount {
                of_components: 1,
                of_modules: 0,
            });
            self.define(count);
        }
    }

    fn too_many(&self) -> Option<TooMany> {
        let Some(OpenItem::Component(ComponentContents { count, .. })) = self.open.last() else {
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
