//! Reads named fields from an encoded request. All other fields are skipped, neither decoded nor kept.

use std::collections::BTreeMap;

use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, FieldDescriptorProto, FileDescriptorSet};
use serde_json::Value;

/// Characters of a text that are kept.
const LETTERS: usize = 256;
/// Values of a repeated field that are kept.
const VALUES: usize = 16;

/// Path to a field of a message.
#[derive(Debug, Clone)]
pub struct Field {
    /// Field numbers of the messages around it, then its own.
    numbers: Vec<u32>,
    kind: Kind,
    is_list: bool,
}

#[derive(Debug, Clone)]
enum Kind {
    Text,
    Bool,
    Unsigned,
    Signed,
    Enum(BTreeMap<i64, String>),
    /// The seconds of a `google.protobuf` duration or timestamp, or the paths of a field mask: their first field.
    First(Box<Kind>),
}

impl Field {
    /// Finds a field by names joined by dots, in a message named as in descriptors (`.package.Message`).
    pub fn find(files: &FileDescriptorSet, message: &str, path: &str) -> Result<Self, String> {
        let (mut message, mut numbers, mut is_list) = (message.to_owned(), Vec::new(), false);
        let mut names = path.split('.').peekable();
        while let Some(name) = names.next() {
            let found = message_of(files, &message).ok_or_else(|| format!("{message} is unknown"))?;
            let field = found.field.iter().find(|field| field.name() == name);
            let field = field.ok_or_else(|| format!("{name} is no field of {message}"))?;
            numbers.push(u32::try_from(field.number()).map_err(|_| format!("{name} has no number"))?);
            is_list |= field.label() == Label::Repeated;
            if names.peek().is_none() {
                let kind = kind(files, field).ok_or_else(|| format!("{name} cannot be recorded"))?;
                is_list |= field.type_name() == ".google.protobuf.FieldMask";
                return Ok(Self { numbers, kind, is_list });
            }
            field.type_name().clone_into(&mut message);
        }
        Err("names no field".to_owned())
    }

    /// The value in an encoded message; `None` if it is absent or the message is malformed there.
    pub fn value(&self, message: &[u8]) -> Option<Value> {
        let mut values = Values { is_list: self.is_list, kept: Vec::new(), seen: 0 };
        collect(message, &self.numbers, &self.kind, &mut values);
        if !self.is_list {
            return values.kept.pop();
        }
        let more = values.seen - values.kept.len();
        if more > 0 {
            values.kept.push(Value::String(format!("and {more} more")));
        }
        (!values.kept.is_empty()).then_some(Value::Array(values.kept))
    }
}

struct Values {
    is_list: bool,
    kept: Vec<Value>,
    seen: usize,
}

fn collect(mut message: &[u8], numbers: &[u32], kind: &Kind, values: &mut Values) -> Option<()> {
    let (wanted, inner) = numbers.split_first()?;
    while !message.is_empty() {
        let (number, wire_type) = decode_key(&mut message).ok()?;
        if number != *wanted {
            skip_field(wire_type, number, &mut message, DecodeContext::default()).ok()?;
            continue;
        }
        match wire_type {
            WireType::LengthDelimited => {
                let length = usize::try_from(decode_varint(&mut message).ok()?).ok()?;
                let (content, rest) = message.split_at_checked(length)?;
                message = rest;
                match kind {
                    _ if !inner.is_empty() => collect(content, inner, kind, values)?,
                    Kind::First(kind) => collect(content, &[1], kind, values)?,
                    Kind::Text => values.add(text(content)),
                    // Packed lists of numbers: no recorded field is one.
                    _ => return None,
                }
            }
            WireType::Varint => {
                let number = decode_varint(&mut message).ok()?;
                values.add(scalar(kind, number)?);
            }
            _ => skip_field(wire_type, number, &mut message, DecodeContext::default()).ok()?,
        }
    }
    Some(())
}

impl Values {
    fn add(&mut self, value: Value) {
        self.seen += 1;
        if !self.is_list {
            // The last occurrence counts, as in decoders.
            self.kept.clear();
        }
        if self.kept.len() < VALUES {
            self.kept.push(value);
        }
    }
}

/// A text, shortened to [`LETTERS`].
pub fn text(content: &[u8]) -> Value {
    let text = String::from_utf8_lossy(content.get(..content.len().min(4 * LETTERS)).unwrap_or_default());
    let mut short: String = text.chars().take(LETTERS).collect();
    if content.len() > 4 * LETTERS || text.chars().nth(LETTERS).is_some() {
        short.push('…');
    }
    Value::String(short)
}

fn scalar(kind: &Kind, number: u64) -> Option<Value> {
    // Negative numbers are encoded as their two's complement.
    let signed = i64::from_ne_bytes(number.to_ne_bytes());
    Some(match kind {
        Kind::Bool => Value::Bool(number != 0),
        Kind::Unsigned => number.into(),
        Kind::Signed => signed.into(),
        Kind::Enum(names) => names.get(&signed).map_or_else(|| signed.into(), |name| name.as_str().into()),
        Kind::Text | Kind::First(_) => return None,
    })
}

fn kind(files: &FileDescriptorSet, field: &FieldDescriptorProto) -> Option<Kind> {
    Some(match field.r#type() {
        Type::String => Kind::Text,
        Type::Bool => Kind::Bool,
        Type::Uint32 | Type::Uint64 => Kind::Unsigned,
        Type::Int32 | Type::Int64 => Kind::Signed,
        Type::Enum => Kind::Enum(enum_of(files, field.type_name())?),
        Type::Message => match field.type_name() {
            ".google.protobuf.Duration" | ".google.protobuf.Timestamp" => Kind::First(Box::new(Kind::Signed)),
            ".google.protobuf.FieldMask" => Kind::First(Box::new(Kind::Text)),
            _ => return None,
        },
        _ => return None,
    })
}

fn enum_of(files: &FileDescriptorSet, name: &str) -> Option<BTreeMap<i64, String>> {
    let found = files.file.iter().find_map(|file| {
        let path = name.strip_prefix('.')?.strip_prefix(file.package())?.strip_prefix('.')?;
        let in_message = || {
            let (message, last) = path.rsplit_once('.')?;
            let message = message_in(file.message_type.as_slice(), message)?;
            message.enum_type.iter().find(|found| found.name() == last)
        };
        file.enum_type.iter().find(|found| found.name() == path).or_else(in_message)
    })?;
    let values = found.value.iter();
    Some(values.map(|value| (i64::from(value.number()), value.name().to_owned())).collect())
}

fn message_of<'a>(files: &'a FileDescriptorSet, name: &str) -> Option<&'a DescriptorProto> {
    files.file.iter().find_map(|file| {
        let path = name.strip_prefix('.')?.strip_prefix(file.package())?.strip_prefix('.')?;
        message_in(&file.message_type, path)
    })
}

fn message_in<'a>(messages: &'a [DescriptorProto], path: &str) -> Option<&'a DescriptorProto> {
    let mut parts = path.split('.');
    let first = parts.next()?;
    let mut message = messages.iter().find(|message| message.name() == first)?;
    for part in parts {
        message = message.nested_type.iter().find(|message| message.name() == part)?;
    }
    Some(message)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message as _;
    use serde_json::json;

    use super::*;
    use proto::spaceport::v1;
    use proto::{FILE_DESCRIPTOR_SET, wsman};

    fn find(message: &str, path: &str) -> Result<Field, String> {
        Field::find(&FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap(), message, path)
    }

    fn start() -> wsman::StartWorkspaceRequest {
        let placement = wsman::Placement {
            regions: (0..20).map(|n| format!("region-{n}")).collect(),
            require_region: true,
            ..wsman::Placement::default()
        };
        wsman::StartWorkspaceRequest {
            id: "ws\n\u{202e}é".repeat(100),
            r#type: 1,
            spec: Some(wsman::StartWorkspaceSpec { placement: Some(placement), ..Default::default() }),
            ..Default::default()
        }
    }

    #[test]
    fn named_fields_are_read_whatever_their_kind_and_long_ones_are_cut() {
        let bytes = start().encode_to_vec();
        let value = |path: &str| find(".wsman.StartWorkspaceRequest", path).unwrap().value(&bytes);
        assert_eq!(value("type"), Some(json!("PREBUILD")));
        assert_eq!(value("spec.placement.require_region"), Some(json!(true)));
        assert_eq!(value("metadata.owner"), None);
        let regions = value("spec.placement.regions").unwrap();
        assert_eq!(regions.as_array().unwrap().len(), 17);
        let Some(Value::String(id)) = value("id") else { panic!("no id") };
        assert_eq!(id.chars().count(), LETTERS + 1);

        let drain = v1::StartDrainRequest {
            deadline: Some(prost_types::Duration { seconds: 90, nanos: 0 }),
            rate_per_minute: 7,
            ..Default::default()
        };
        let read =
            |path: &str| find(".spaceport.v1.StartDrainRequest", path).unwrap().value(&drain.encode_to_vec());
        assert_eq!((read("deadline"), read("rate_per_minute")), (Some(json!(90)), Some(json!(7))));
        let update = v1::UpdateRequest {
            update_mask: Some(prost_types::FieldMask { paths: vec!["weight".to_owned()] }),
            version: -1,
            ..Default::default()
        };
        let read =
            |path: &str| find(".spaceport.v1.UpdateRequest", path).unwrap().value(&update.encode_to_vec());
        assert_eq!((read("update_mask"), read("version")), (Some(json!(["weight"])), Some(json!(-1))));
    }

    #[test]
    fn only_fields_with_a_single_value_can_be_recorded() {
        assert!(find(".wsman.StartWorkspaceRequest", "metadata").is_err());
        assert!(find(".wsman.StartWorkspaceRequest", "nothing").is_err());
        assert!(find(".spaceport.v1.RegisterRequest", "kubeconfig").is_err(), "bytes are never recorded");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            for path in ["id", "type", "spec.placement.regions", "metadata.owner"] {
                let _ = find(".wsman.StartWorkspaceRequest", path).unwrap().value(&bytes);
            }
        }
    }
}
