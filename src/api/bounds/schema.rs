//! Schema of requests from the descriptors: the fields of each message, which of them are repeated, and their limits.

use std::collections::{BTreeMap, HashMap};

use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, FieldDescriptorProto, FileDescriptorSet};

use super::counts::{COUNTS, OTHERWISE};

/// The messages of all unary and server-streaming methods.
#[derive(Debug)]
pub(super) struct Schema {
    /// Index of the request message by full method name.
    methods: HashMap<String, usize>,
    messages: Vec<Message>,
    limits: Vec<u32>,
}

#[derive(Debug, Default)]
struct Message {
    fields: BTreeMap<u32, Field>,
}

/// A field that the scan needs: a message, or repeated.
#[derive(Debug)]
pub(super) struct Field {
    pub(super) name: String,
    pub(super) content: Content,
    /// Index of its counter, if it is repeated.
    pub(super) counter: Option<usize>,
}

/// How the bytes of a length-delimited field are interpreted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    /// Index of the message.
    Message(usize),
    /// String or bytes: one element.
    Text,
    /// Packed elements of a variable length.
    Varints,
    /// Packed elements of this many bytes each.
    Fixed(usize),
}

impl Schema {
    pub(super) fn new(files: &FileDescriptorSet) -> Self {
        let mut known = HashMap::new();
        for file in &files.file {
            for message in &file.message_type {
                collect(&mut known, &format!(".{}", file.package()), message);
            }
        }
        let mut building =
            Building { known, indexes: HashMap::new(), messages: Vec::new(), limits: Vec::new() };
        let mut methods = HashMap::new();
        for file in &files.file {
            for service in &file.service {
                for method in service.method.iter().filter(|method| !method.client_streaming()) {
                    let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                    methods.insert(path, building.message(method.input_type()));
                }
            }
        }
        Self { methods, messages: building.messages, limits: building.limits }
    }

    /// The request message of a method; `None` if it is not served or its client streams.
    pub(super) fn request(&self, method: &str) -> Option<usize> {
        self.methods.get(method).copied()
    }

    pub(super) fn field(&self, message: usize, number: u32) -> Option<&Field> {
        self.messages.get(message)?.fields.get(&number)
    }

    /// Limit of elements by counter.
    pub(super) fn limits(&self) -> &[u32] {
        &self.limits
    }
}

fn collect<'a>(known: &mut HashMap<String, &'a DescriptorProto>, scope: &str, message: &'a DescriptorProto) {
    let name = format!("{scope}.{}", message.name());
    for nested in &message.nested_type {
        collect(known, &name, nested);
    }
    known.insert(name, message);
}

struct Building<'a> {
    known: HashMap<String, &'a DescriptorProto>,
    indexes: HashMap<String, usize>,
    messages: Vec<Message>,
    limits: Vec<u32>,
}

impl Building<'_> {
    /// Index of a message. Messages may contain themselves, so the index is assigned before the fields are read.
    fn message(&mut self, name: &str) -> usize {
        if let Some(index) = self.indexes.get(name) {
            return *index;
        }
        let index = self.messages.len();
        self.indexes.insert(name.to_owned(), index);
        self.messages.push(Message::default());
        let fields = self.known.get(name).map(|message| message.field.as_slice()).unwrap_or_default();
        for field in fields {
            let Some((number, field)) = self.field(name, field) else { continue };
            if let Some(message) = self.messages.get_mut(index) {
                message.fields.insert(number, field);
            }
        }
        index
    }

    fn field(&mut self, of: &str, field: &FieldDescriptorProto) -> Option<(u32, Field)> {
        let number = u32::try_from(field.number()).ok()?;
        let content = match field.r#type() {
            Type::Message | Type::Group => Content::Message(self.message(field.type_name())),
            Type::String | Type::Bytes => Content::Text,
            Type::Fixed64 | Type::Sfixed64 | Type::Double => Content::Fixed(8),
            Type::Fixed32 | Type::Sfixed32 | Type::Float => Content::Fixed(4),
            _ => Content::Varints,
        };
        let counter = (field.label() == Label::Repeated).then(|| {
            self.limits.push(limit(&full_name(of, field.name())).unwrap_or(OTHERWISE));
            self.limits.len() - 1
        });
        if counter.is_none() && !matches!(content, Content::Message(_)) {
            return None;
        }
        Some((number, Field { name: field.name().to_owned(), content, counter }))
    }
}

fn full_name(message: &str, field: &str) -> String {
    format!("{}.{field}", message.trim_start_matches('.'))
}

fn limit(name: &str) -> Option<u32> {
    COUNTS.iter().find(|(known, _)| *known == name).map(|(_, limit)| *limit)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use prost::Message as _;

    use super::*;
    use proto::FILE_DESCRIPTOR_SET;

    /// Full names of the repeated fields of requests.
    fn repeated(files: &FileDescriptorSet) -> BTreeSet<String> {
        let mut known = HashMap::new();
        for file in &files.file {
            for message in &file.message_type {
                collect(&mut known, &format!(".{}", file.package()), message);
            }
        }
        let methods = files.file.iter().flat_map(|file| &file.service).flat_map(|service| &service.method);
        // Requests that their caller streams are bounded in size, and counted where they are parsed.
        let methods = methods.filter(|method| !method.client_streaming());
        let mut todo: Vec<String> = methods.map(|method| method.input_type().to_owned()).collect();
        let (mut seen, mut found) = (BTreeSet::new(), BTreeSet::new());
        while let Some(name) = todo.pop() {
            if !seen.insert(name.clone()) {
                continue;
            }
            for field in &known[&name].field {
                if field.label() == Label::Repeated {
                    found.insert(full_name(&name, field.name()));
                }
                if field.r#type() == Type::Message {
                    todo.push(field.type_name().to_owned());
                }
            }
        }
        found
    }

    #[test]
    fn every_repeated_field_of_every_request_has_a_limit_and_every_limit_is_of_one() {
        let files = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap();
        let listed: BTreeSet<String> = COUNTS.iter().map(|(name, _)| (*name).to_owned()).collect();
        assert_eq!(listed.len(), COUNTS.len(), "a field is listed twice");
        assert_eq!(repeated(&files), listed, "fields of requests (left), fields in COUNTS (right)");
        assert_eq!(Schema::new(&files).limits().len(), listed.len());
    }

    #[test]
    fn every_method_has_its_request_unless_its_caller_streams() {
        let files = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap();
        let schema = Schema::new(&files);
        for file in &files.file {
            for service in &file.service {
                for method in &service.method {
                    let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                    assert_eq!(schema.request(&path).is_some(), !method.client_streaming(), "{path}");
                }
            }
        }
    }

    #[test]
    fn the_documentation_lists_the_limits() {
        let page = include_str!("../../../docs/decisions/005-request-bounds.md");
        for (name, limit) in COUNTS {
            assert!(page.contains(&format!("| `{name}` | {limit} |")), "{name} with {limit}");
        }
    }
}
