//! The macro that makes a shape of the protocol: a struct with the names of its members in JSON and in the query protocol.

/// Makes structs of shapes. A member is `name: Type = "InJson"`, `name: Type = "InJson" / "InQuery"`, and ends with
/// `required` if a request without it is refused or an answer always has it.
///
/// Each struct is read and written in both protocols, so that what one side writes the other can read in tests.
macro_rules! wire_shapes {
    ($(
        $(#[$attribute:meta])*
        $shape:ident = $wire_shape:literal {
            $(
                $(#[$member_attribute:meta])*
                $member:ident: $type:ty = $json:literal $(/ $query:literal)? $(, $required:ident)?;
            )*
        }
    )*) => {$(
        $(#[$attribute])*
        #[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
        pub struct $shape {
            $(
                $(#[$member_attribute])*
                #[serde(
                    rename = $json,
                    default,
                    deserialize_with = "crate::value::from_json",
                    skip_serializing_if = "crate::value::is_absent"
                )]
                pub $member: $type,
            )*
        }

        impl $crate::value::WireValue for $shape {
            fn from_json<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                <Self as serde::Deserialize>::deserialize(deserializer)
            }

            fn from_form(node: &$crate::form::FormNode, _: &str) -> Result<Self, $crate::error::SqsError> {
                Ok(Self {
                    $($member: {
                        let names = &[$($query,)? $json];
                        match node.any_child(names) {
                            Some(child) => $crate::value::WireValue::from_form(child, $json)?,
                            None => <$type>::default(),
                        }
                    },)*
                })
            }

            fn is_absent(&self) -> bool {
                false
            }

            fn write_xml(&self, xml: &mut $crate::xml::XmlWriter, name: &str) {
                let start = xml.len();
                xml.open(name);
                let opened = xml.len();
                self.write_members(xml);
                if xml.len() == opened {
                    xml.truncate(start);
                    xml.empty(name);
                } else {
                    xml.close(name);
                }
            }

            fn missing(&self) -> Option<&'static str> {
                $($(
                    if $crate::shape::$required(&self.$member) {
                        return Some($json);
                    }
                )?)*
                None
            }
        }

        impl $shape {
            fn write_members(&self, xml: &mut $crate::xml::XmlWriter) {
                $(
                    if !$crate::value::WireValue::is_absent(&self.$member) {
                        let names = [$($query,)? $json];
                        let [name, ..] = names;
                        $crate::value::WireValue::write_xml(&self.$member, xml, name);
                    }
                )*
            }

            /// The shape's name and those of its members in the model of AWS, each with its name in the query protocol.
            #[cfg(test)]
            pub(crate) const MODEL: (&'static str, &'static [(&'static str, &'static str)]) =
                ($wire_shape, &[$(($json, [$($query,)? $json][0])),*]);
        }
    )*};
}

/// Returns whether a member that is marked `required` is missing.
pub(crate) fn required<T: crate::value::WireValue>(member: &T) -> bool {
    member.is_absent()
}

pub(crate) use wire_shapes;
