//! Finds strings in encoded messages by the descriptors.

use std::collections::HashMap;

use prost::Message as _;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, FileDescriptorSet};

/// Nesting of messages, the same as in the decoder.
const DEPTH: usize = 100;
/// Problems that are reported for one request.
const REPORTED: usize = 20;

/// Values that may hold any character but NUL: only the program that they are for reads them.
const FREE: [&str; 4] = [
    ".wsman.EnvironmentVariable.value",
    ".wsman.WorkspaceMetadata.AnnotationsEntry.value",
    ".wsman.MetadataFilter.AnnotationsEntry.value",
    ".contentservice.GitConfig.CustomConfigEntry.value",
];

/// The bytes are not a message of the type.
#[derive(Debug, PartialEq, Eq)]
pub struct Malformed;

/// Strings and nested messages of every message, and the request of every call.
#[derive(Debug)]
pub struct Schema {
    requests: HashMap<String, usize>,
    messages: Vec<HashMap<u32, Field>>,
}

#[derive(Debug)]
struct Field {
    name: String,
    kind: Kind,
    shown: Shown,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text { is_free: bool },
    Message(usize),
}

/// How a path names an element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shown {
    Once,
    Indexed,
    /// Entries of a map have no order: the path names the map.
    Map,
}

impl Schema {
    /// Decodes descriptors.
    pub fn read(descriptors: &[u8]) -> Result<Self, prost::DecodeError> {
        let files = FileDescriptorSet::decode(descriptors)?;
        let mut all = Vec::new();
        for file in &files.file {
            for message in &file.message_type {
                collect(&format!(".{}", file.package()), message, &mut all);
            }
        }
        let numbers: HashMap<&str, usize> =
            all.iter().enumerate().map(|(at, (name, _))| (name.as_str(), at)).collect();
        let is_map = |name: &str| {
            let message = numbers.get(name).and_then(|at| all.get(*at));
            message.is_some_and(|(_, message)| {
                message.options.as_ref().is_some_and(prost_types::MessageOptions::map_entry)
            })
        };
        let messages = all.iter().map(|(name, message)| fields(name, message, &numbers, &is_map)).collect();
        let mut requests = HashMap::new();
        for file in &files.file {
            for service in &file.service {
                for method in service.method.iter().filter(|method| !method.client_streaming()) {
                    let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                    requests.extend(numbers.get(method.input_type()).map(|at| (path, *at)));
                }
            }
        }
        Ok(Self { requests, messages })
    }

    /// The request message of a call, by path.
    pub fn request_of(&self, path: &str) -> Option<usize> {
        self.requests.get(path).copied()
    }

    /// Reports the first few strings that break a rule. Returns whether there are none.
    pub fn scan(
        &self,
        message: usize,
        bytes: &[u8],
        report: &mut impl FnMut(String, &'static str),
    ) -> Result<bool, Malformed> {
        let mut scan = Scan { schema: self, found: 0, report };
        scan.message(message, bytes, "", 0)?;
        Ok(scan.found == 0)
    }
}

/// A message and its nested declarations, by full name.
fn collect<'a>(outer: &str, message: &'a DescriptorProto, all: &mut Vec<(String, &'a DescriptorProto)>) {
    let name = format!("{outer}.{}", message.name());
    for inner in &message.nested_type {
        collect(&name, inner, all);
    }
    all.push((name, message));
}

fn fields(
    name: &str,
    message: &DescriptorProto,
    numbers: &HashMap<&str, usize>,
    is_map: &impl Fn(&str) -> bool,
) -> HashMap<u32, Field> {
    let mut fields = HashMap::new();
    for field in &message.field {
        let kind = match field.r#type() {
            Type::String => {
                let full = format!("{name}.{}", field.name());
                Kind::Text { is_free: FREE.contains(&full.as_str()) }
            }
            Type::Message => match numbers.get(field.type_name()) {
                Some(at) => Kind::Message(*at),
                None => continue,
            },
            _ => continue,
        };
        let shown = match field.label() {
            Label::Repeated if is_map(field.type_name()) => Shown::Map,
            Label::Repeated => Shown::Indexed,
            _ => Shown::Once,
        };
        if let Ok(number) = u32::try_from(field.number()) {
            fields.insert(number, Field { name: field.name().to_owned(), kind, shown });
        }
    }
    fields
}

struct Scan<'a, R> {
    schema: &'a Schema,
    found: usize,
    report: &'a mut R,
}

impl<R: FnMut(String, &'static str)> Scan<'_, R> {
    fn message(
        &mut self,
        message: usize,
        mut bytes: &[u8],
        path: &str,
        depth: usize,
    ) -> Result<(), Malformed> {
        let Some(fields) = self.schema.messages.get(message).filter(|_| depth < DEPTH) else {
            return Err(Malformed);
        };
        let mut counts: HashMap<u32, usize> = HashMap::new();
        while !bytes.is_empty() {
            let (tag, wire_type) = decode_key(&mut bytes).map_err(|_| Malformed)?;
            let field = fields.get(&tag).filter(|_| wire_type == WireType::LengthDelimited);
            let Some(field) = field else {
                skip_field(wire_type, tag, &mut bytes, DecodeContext::default()).map_err(|_| Malformed)?;
                continue;
            };
            let length = decode_varint(&mut bytes).ok().and_then(|length| usize::try_from(length).ok());
            let (content, rest) =
                length.and_then(|length| bytes.split_at_checked(length)).ok_or(Malformed)?;
            bytes = rest;
            let at = counts.entry(tag).or_default();
            *at += 1;
            self.field(field, content, (path, *at - 1), depth)?;
        }
        Ok(())
    }

    fn field(
        &mut self,
        field: &Field,
        content: &[u8],
        (path, at): (&str, usize),
        depth: usize,
    ) -> Result<(), Malformed> {
        let rule = match field.kind {
            Kind::Text { is_free } => match rule(content, is_free) {
                Some(rule) => rule,
                None => return Ok(()),
            },
            Kind::Message(inner) => {
                return self.message(inner, content, &joined(path, field, at), depth + 1);
            }
        };
        self.found += 1;
        if self.found <= REPORTED {
            // For an entry of a map, name the map.
            let of_map = path.ends_with("[]");
            let path = if of_map { path.trim_end_matches("[]").to_owned() } else { joined(path, field, at) };
            (self.report)(path, rule);
        }
        Ok(())
    }
}

fn joined(path: &str, field: &Field, at: usize) -> String {
    let dot = if path.is_empty() { "" } else { "." };
    let suffix = match field.shown {
        Shown::Once => String::new(),
        Shown::Indexed => format!("[{at}]"),
        Shown::Map => "[]".to_owned(),
    };
    format!("{path}{dot}{}{suffix}", field.name)
}

/// The rule that a string breaks.
fn rule(content: &[u8], is_free: bool) -> Option<&'static str> {
    let Ok(text) = std::str::from_utf8(content) else { return Some("must be UTF-8 text") };
    if text.contains('\0') {
        return Some("must not contain NUL");
    }
    let is_bad = |c: char| c.is_control() && !matches!(c, '\t' | '\n' | '\r');
    (!is_free && text.contains(is_bad)).then_some("must not contain control characters")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::contentservice::{CompositeInitializer, WorkspaceInitializer, workspace_initializer::Spec};
    use proto::{FILE_DESCRIPTOR_SET, wsman};

    fn schema() -> Schema {
        Schema::read(FILE_DESCRIPTOR_SET).unwrap()
    }

    fn found(path: &str, bytes: &[u8]) -> Result<Vec<(String, &'static str)>, Malformed> {
        let (schema, mut found) = (schema(), Vec::new());
        let request = schema.request_of(path).unwrap();
        let is_good = schema.scan(request, bytes, &mut |field, rule| found.push((field, rule)))?;
        assert_eq!(is_good, found.is_empty());
        Ok(found)
    }

    const START: &str = "/wsman.WorkspaceManager/StartWorkspace";

    #[test]
    fn every_call_is_known_and_every_exception_is_a_field() {
        let files = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap();
        let methods = files.file.iter().flat_map(|file| &file.service).flat_map(|service| &service.method);
        let scanned = methods.filter(|method| !method.client_streaming());
        assert_eq!(schema().requests.len(), scanned.count());
        let free = schema().messages.into_iter().flat_map(HashMap::into_values);
        let free = free.filter(|field| field.kind == Kind::Text { is_free: true }).count();
        assert_eq!(free, FREE.len());
    }

    #[test]
    fn a_text_is_found_however_deep_it_is() {
        let mut request = wsman::StartWorkspaceRequest { id: "a\0".into(), ..Default::default() };
        let metadata = request.metadata.get_or_insert_default();
        metadata.annotations.insert("a".into(), "\u{1b}[0m\n".into());
        metadata.annotations.insert("b".into(), "\0".into());
        let spec = request.spec.get_or_insert_default();
        spec.ssh_public_keys = vec!["a".into(), "b\u{7}".into()];
        spec.envvars =
            vec![wsman::EnvironmentVariable { name: "A".into(), value: "\u{1b}\0".into(), secret: None }];
        let mut deep = WorkspaceInitializer::default();
        for _ in 0..3 {
            let initializer = vec![WorkspaceInitializer::default(), deep];
            deep = WorkspaceInitializer { spec: Some(Spec::Composite(CompositeInitializer { initializer })) };
        }
        spec.initializer = Some(deep);
        let nul = "must not contain NUL";
        assert_eq!(
            found(START, &request.encode_to_vec()).unwrap(),
            [
                ("id".to_owned(), nul),
                ("metadata.annotations".to_owned(), nul),
                ("spec.envvars[0].value".to_owned(), nul),
                ("spec.ssh_public_keys[1]".to_owned(), "must not contain control characters"),
            ]
        );
    }

    #[test]
    fn few_problems_are_reported_and_broken_messages_are_none() {
        let ids = vec!["\0".to_owned(); 1000];
        let request = proto::spaceport::v1::DiscardRequest { workspaces: ids, ..Default::default() };
        let found_ids = found("/spaceport.v1.ClusterManager/Discard", &request.encode_to_vec()).unwrap();
        assert_eq!(found_ids.len(), REPORTED);
        assert_eq!(found_ids[19].0, "workspaces[19]");
        assert_eq!(found(START, b"\x0a\x02\xff\xfe").unwrap(), [("id".to_owned(), "must be UTF-8 text")]);
        assert_eq!(found(START, b"\x0a\x05a"), Err(Malformed));
        assert_eq!(found(START, &[0xff]), Err(Malformed));
        assert_eq!(found(START, b"").unwrap(), []);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_scanned_without_a_panic(bytes: Vec<u8>) {
            let _ = found(START, &bytes);
        }
    }
}
