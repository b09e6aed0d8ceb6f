//! Reads named fields of a request: resolved in the descriptors once, then found in each encoded request without
//! decoding all of it.

use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, FileDescriptorSet, MethodDescriptorProto};

/// Field numbers of the messages on the way, then of the field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldPath {
    messages: Vec<u32>,
    field: u32,
}

/// A method by its full name, such as `/wsman.WorkspaceManager/StopWorkspace`.
pub fn method<'a>(files: &'a FileDescriptorSet, full: &str) -> Option<&'a MethodDescriptorProto> {
    let (service, method) = full.trim_start_matches('/').split_once('/')?;
    files.file.iter().find_map(|file| {
        let name = service.strip_prefix(file.package())?.strip_prefix('.')?;
        let service = file.service.iter().find(|service| service.name() == name)?;
        service.method.iter().find(|found| found.name() == method)
    })
}

impl FieldPath {
    /// Finds a field by names, in a message named as in descriptors (`.package.Message`).
    pub fn find(files: &FileDescriptorSet, message: &str, names: &[String]) -> Result<Self, String> {
        let (mut message, mut numbers) = (message.to_owned(), Vec::new());
        let mut names = names.iter().peekable();
        while let Some(name) = names.next() {
            let found =
                message_of(files, &message).ok_or_else(|| format!("needs {message}, which is unknown"))?;
            let field = found.field.iter().find(|field| field.name() == name);
            let field = field.ok_or_else(|| format!("{name} is no field of {}", found.name()))?;
            if field.label() == Label::Repeated {
                return Err(format!("{name} is repeated"));
            }
            let number = u32::try_from(field.number()).map_err(|_| format!("{name} has no number"))?;
            match (field.r#type(), names.peek()) {
                (Type::Message, Some(_)) => {
                    field.type_name().clone_into(&mut message);
                    numbers.push(number);
                }
                (Type::String | Type::Enum | Type::Bool, None) => {
                    return Ok(Self { messages: numbers, field: number });
                }
                (_, None) => return Err(format!("{name} is no text, enum or truth value")),
                (_, Some(_)) => return Err(format!("{name} has no fields")),
            }
        }
        Err("names no field".to_owned())
    }

    /// The field's bytes in an encoded message; empty if absent. `None` if the message is malformed.
    pub fn value(&self, message: &[u8]) -> Option<Vec<u8>> {
        // A message may come in pieces, which decoders merge; so does this.
        let mut encoded = message.to_vec();
        for number in &self.messages {
            encoded = occurrences(&encoded, *number)?.concat();
        }
        Some(occurrences(&encoded, self.field)?.pop().unwrap_or_default())
    }
}

/// Contents of every occurrence of a field.
fn occurrences(mut message: &[u8], number: u32) -> Option<Vec<Vec<u8>>> {
    let mut found = Vec::new();
    while !message.is_empty() {
        let (tag, wire_type) = decode_key(&mut message).ok()?;
        match wire_type {
            WireType::LengthDelimited if tag == number => {
                let length = usize::try_from(decode_varint(&mut message).ok()?).ok()?;
                let (content, rest) = message.split_at_checked(length)?;
                found.push(content.to_vec());
                message = rest;
            }
            WireType::Varint if tag == number => {
                // Zero is encoded as absence.
                let value = decode_varint(&mut message).ok()?;
                found.push(if value == 0 { Vec::new() } else { value.to_string().into_bytes() });
            }
            _ => skip_field(wire_type, tag, &mut message, DecodeContext::default()).ok()?,
        }
    }
    Some(found)
}

fn message_of<'a>(files: &'a FileDescriptorSet, name: &str) -> Option<&'a DescriptorProto> {
    files.file.iter().find_map(|file| {
        let path = name.strip_prefix('.')?.strip_prefix(file.package())?.strip_prefix('.')?;
        let mut parts = path.split('.');
        let first = parts.next()?;
        let mut message = file.message_type.iter().find(|message| message.name() == first)?;
        for part in parts {
            message = message.nested_type.iter().find(|message| message.name() == part)?;
        }
        Some(message)
    })
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;
    use proto::{FILE_DESCRIPTOR_SET, wsman};

    fn find(message: &str, path: &str) -> Result<FieldPath, String> {
        let files = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap();
        FieldPath::find(&files, message, &path.split('.').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn fields_are_found_by_name_and_read_from_the_bytes() {
        let request = wsman::StartWorkspaceRequest {
            id: "ws".to_owned(),
            r#type: 1,
            metadata: Some(wsman::WorkspaceMetadata { owner: "jane".to_owned(), ..Default::default() }),
            ..Default::default()
        };
        let bytes = request.encode_to_vec();
        let value = |path: &str| find(".wsman.StartWorkspaceRequest", path).unwrap().value(&bytes).unwrap();
        assert_eq!(value("metadata.owner"), b"jane");
        assert_eq!((value("id"), value("type")), (b"ws".to_vec(), b"1".to_vec()));
        assert_eq!(value("metadata.meta_id"), b"", "absent");
        let path = find(".wsman.StartWorkspaceRequest", "metadata.owner").unwrap();
        assert_eq!(path.value(&[0xff]), None, "malformed");
        assert_eq!(path.value(b""), Some(Vec::new()));
    }

    #[test]
    fn an_invalid_key_field_is_rejected_by_name() {
        let refused = |path: &str| find(".wsman.StartWorkspaceRequest", path).unwrap_err();
        assert_eq!(refused("owner"), "owner is no field of StartWorkspaceRequest");
        assert_eq!(refused("metadata"), "metadata is no text, enum or truth value");
        assert_eq!(refused("id.owner"), "id has no fields");
        assert_eq!(refused("metadata.annotations"), "annotations is repeated");
    }

    #[test]
    fn methods_are_found_by_their_full_name() {
        let files = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap();
        let found = method(&files, "/wsman.WorkspaceManager/Subscribe").unwrap();
        assert!(found.server_streaming());
        assert!(method(&files, "/spaceport.v1.ClusterManager/List").is_some());
        assert!(method(&files, "/wsman.WorkspaceManager/Nothing").is_none());
    }

    #[test]
    fn any_bytes_have_a_value_or_are_malformed() {
        let request = wsman::StartWorkspaceRequest {
            id: "ws".to_owned(),
            metadata: Some(wsman::WorkspaceMetadata { owner: "jane".to_owned(), ..Default::default() }),
            ..Default::default()
        };
        let path = find(".wsman.StartWorkspaceRequest", "metadata.owner").unwrap();
        fuzz::target("start-requests", &[&request.encode_to_vec()], |input| {
            if let (Some(value), Ok(decoded)) =
                (path.value(input), wsman::StartWorkspaceRequest::decode(input))
            {
                assert_eq!(value, decoded.metadata.unwrap_or_default().owner.into_bytes());
            }
        });
    }
}
