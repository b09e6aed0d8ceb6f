//! Describes the wire format as lines, one fact each.

use anyhow::Result;
use prost::Message;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorSet};

/// Every field, value, reserved number and method, sorted.
pub fn lines(descriptors: &[u8]) -> Result<Vec<String>> {
    let set = FileDescriptorSet::decode(descriptors)?;
    let mut lines = Vec::new();
    for file in set.file.iter().filter(|file| !file.name().starts_with("google/")) {
        let package = file.package();
        for message in &file.message_type {
            list_message(package, message, &mut lines);
        }
        for enumeration in &file.enum_type {
            list_enum(package, enumeration, &mut lines);
        }
        for service in &file.service {
            for method in &service.method {
                let stream = |on: bool| if on { "stream " } else { "" };
                lines.push(format!(
                    "{package}.{}.{}({}{}) -> {}{}",
                    service.name(),
                    method.name(),
                    stream(method.client_streaming()),
                    bare(method.input_type()),
                    stream(method.server_streaming()),
                    bare(method.output_type()),
                ));
            }
        }
    }
    lines.sort();
    Ok(lines)
}

fn list_message(scope: &str, message: &DescriptorProto, lines: &mut Vec<String>) {
    let name = format!("{scope}.{}", message.name());
    lines.extend(message.field.iter().map(|field| {
        format!("{name}.{} = {} {}", field.name(), field.number(), type_of(&name, message, field))
    }));
    // A message's range excludes its end.
    lines.extend(message.reserved_range.iter().map(|range| reserved(&name, range.start(), range.end() - 1)));
    lines.extend(message.reserved_name.iter().map(|field| format!("{name} reserves {field}")));
    for nested in message.nested_type.iter().filter(|nested| !is_map_entry(nested)) {
        list_message(&name, nested, lines);
    }
    for enumeration in &message.enum_type {
        list_enum(&name, enumeration, lines);
    }
}

fn list_enum(scope: &str, enumeration: &EnumDescriptorProto, lines: &mut Vec<String>) {
    let name = format!("{scope}.{}", enumeration.name());
    lines.extend(
        enumeration.value.iter().map(|value| format!("{name}.{} = {}", value.name(), value.number())),
    );
    // An enum's range includes its end.
    lines.extend(enumeration.reserved_range.iter().map(|range| reserved(&name, range.start(), range.end())));
    lines.extend(enumeration.reserved_name.iter().map(|value| format!("{name} reserves {value}")));
}

fn reserved(name: &str, first: i32, last: i32) -> String {
    if first == last {
        format!("{name} reserves {first}")
    } else {
        format!("{name} reserves {first} to {last}")
    }
}

/// The type as in a `.proto` file, with the oneof of the field.
fn type_of(scope: &str, message: &DescriptorProto, field: &FieldDescriptorProto) -> String {
    let entry = message.nested_type.iter().find(|nested| {
        is_map_entry(nested) && bare(field.type_name()) == format!("{scope}.{}", nested.name())
    });
    if let Some([key, value]) = entry.map(|entry| entry.field.as_slice()) {
        return format!("map<{}, {}>", bare_type(key), bare_type(value));
    }
    let bare = bare_type(field);
    if field.proto3_optional() {
        return format!("optional {bare}");
    }
    if field.label() == Label::Repeated {
        return format!("repeated {bare}");
    }
    let oneof = field.oneof_index.and_then(|index| message.oneof_decl.get(usize::try_from(index).ok()?));
    oneof.map_or(bare.clone(), |oneof| format!("{bare} (oneof {})", oneof.name()))
}

fn bare_type(field: &FieldDescriptorProto) -> String {
    match field.r#type() {
        Type::Message | Type::Enum | Type::Group => bare(field.type_name()).to_owned(),
        scalar => scalar.as_str_name().trim_start_matches("TYPE_").to_lowercase(),
    }
}

/// Full name of a type, without the leading dot of descriptors.
fn bare(name: &str) -> &str {
    name.trim_start_matches('.')
}

fn is_map_entry(message: &DescriptorProto) -> bool {
    message.options.as_ref().is_some_and(prost_types::MessageOptions::map_entry)
}
