//! Walks an encoded request before it is decoded, without allocating for its content.

use prost::encoding::{WireType, decode_key, decode_varint};

use super::schema::{Content, Schema};

/// Nesting of messages, the request included. Existing clients nest about eight.
pub(super) const DEPTH: usize = 32;

/// Why a request is not decoded.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Broken {
    /// The bytes are not a message of the type.
    Malformed,
    /// Nested deeper than [`DEPTH`].
    Deep {
        /// Where the limit is exceeded.
        field: String,
    },
    /// Repeated fields have too many elements.
    Many(Vec<Many>),
}

/// A field with too many elements.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Many {
    /// Path to where the limit was exceeded.
    pub(super) field: String,
    pub(super) found: u64,
    pub(super) limit: u32,
}

/// Counts the elements of all repeated fields. What a decoder would skip is skipped.
pub(super) fn scan(schema: &Schema, request: usize, bytes: &[u8]) -> Result<(), Broken> {
    let mut scan = Scan { schema, found: vec![0; schema.limits().len()], path: Vec::new(), many: Vec::new() };
    scan.message(request, bytes)?;
    if scan.many.is_empty() {
        return Ok(());
    }
    let many = scan.many.into_iter().map(|(counter, field)| Many {
        field,
        found: scan.found.get(counter).copied().unwrap_or_default(),
        limit: schema.limits().get(counter).copied().unwrap_or_default(),
    });
    Err(Broken::Many(many.collect()))
}

struct Scan<'a> {
    schema: &'a Schema,
    found: Vec<u64>,
    path: Vec<&'a str>,
    /// Counters of fields over their limit, and where.
    many: Vec<(usize, String)>,
}

impl<'a> Scan<'a> {
    /// Recurses at most [`DEPTH`] times.
    fn message(&mut self, message: usize, mut bytes: &[u8]) -> Result<(), Broken> {
        while !bytes.is_empty() {
            let (number, wire_type) = decode_key(&mut bytes).map_err(|_| Broken::Malformed)?;
            let content = value(wire_type, &mut bytes)?;
            let Some(field) = self.schema.field(message, number) else { continue };
            if let Some(counter) = field.counter {
                self.count(counter, &field.name, elements(field.content, content));
            }
            if let (Content::Message(inner), Some(content)) = (field.content, content) {
                self.path.push(&field.name);
                if self.path.len() >= DEPTH {
                    return Err(Broken::Deep { field: self.path.join(".") });
                }
                self.message(inner, content)?;
                self.path.pop();
            }
        }
        Ok(())
    }

    fn count(&mut self, counter: usize, name: &'a str, elements: usize) {
        let Some((found, limit)) = self.found.get_mut(counter).zip(self.schema.limits().get(counter)) else {
            return;
        };
        let (before, limit) = (*found, u64::from(*limit));
        *found = found.saturating_add(u64::try_from(elements).unwrap_or(u64::MAX));
        if before <= limit && *found > limit {
            let field = self.path.iter().copied().chain([name]).collect::<Vec<_>>().join(".");
            self.many.push((counter, field));
        }
    }
}

/// Reads the value of a field; returns its content if it has a length.
fn value<'b>(wire_type: WireType, bytes: &mut &'b [u8]) -> Result<Option<&'b [u8]>, Broken> {
    let mut take = |length: usize| {
        let (content, rest) = bytes.split_at_checked(length).ok_or(Broken::Malformed)?;
        *bytes = rest;
        Ok(content)
    };
    match wire_type {
        WireType::SixtyFourBit => take(8).map(|_| None),
        WireType::ThirtyTwoBit => take(4).map(|_| None),
        WireType::Varint => {
            decode_varint(bytes).map_err(|_| Broken::Malformed)?;
            Ok(None)
        }
        WireType::LengthDelimited => {
            let length = decode_varint(bytes).map_err(|_| Broken::Malformed)?;
            let length = usize::try_from(length).map_err(|_| Broken::Malformed)?;
            let (content, rest) = bytes.split_at_checked(length).ok_or(Broken::Malformed)?;
            *bytes = rest;
            Ok(Some(content))
        }
        // Groups nest, and no message here has any.
        WireType::StartGroup | WireType::EndGroup => Err(Broken::Malformed),
    }
}

/// Elements that one occurrence of a repeated field adds.
fn elements(content: Content, bytes: Option<&[u8]>) -> usize {
    match (content, bytes) {
        (Content::Varints, Some(packed)) => packed.iter().filter(|byte| **byte < 0x80).count(),
        (Content::Fixed(size), Some(packed)) => packed.len().div_ceil(size),
        (Content::Message(_) | Content::Text, _) | (_, None) => 1,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message as _;
    use prost_types::FileDescriptorSet;

    use super::*;
    use proto::FILE_DESCRIPTOR_SET;
    use proto::contentservice::workspace_initializer::Spec;
    use proto::contentservice::{CompositeInitializer, WorkspaceInitializer};
    use proto::wsman::{
        PortSpec, StartWorkspaceRequest, StartWorkspaceSpec, UpdateSshKeyRequest, WorkspaceMetadata,
    };

    const START: &str = "/wsman.WorkspaceManager/StartWorkspace";

    fn schema() -> Schema {
        Schema::new(&FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap())
    }

    fn scan_as(method: &str, bytes: &[u8]) -> Result<(), Broken> {
        let schema = schema();
        scan(&schema, schema.request(method).unwrap(), bytes)
    }

    fn start(spec: StartWorkspaceSpec) -> Vec<u8> {
        StartWorkspaceRequest { spec: Some(spec), ..Default::default() }.encode_to_vec()
    }

    fn many(result: Result<(), Broken>) -> Vec<(String, u64, u32)> {
        match result {
            Err(Broken::Many(many)) => many.into_iter().map(|m| (m.field, m.found, m.limit)).collect(),
            other => panic!("{other:?}"),
        }
    }

    fn nested(depth: usize) -> WorkspaceInitializer {
        let mut initializer = WorkspaceInitializer::default();
        for _ in 0..depth {
            let composite = CompositeInitializer { initializer: vec![initializer] };
            initializer = WorkspaceInitializer { spec: Some(Spec::Composite(composite)) };
        }
        initializer
    }

    #[test]
    fn a_repeated_field_may_have_as_many_elements_as_its_limit_and_no_more() {
        let ports = |count| {
            start(StartWorkspaceSpec { ports: vec![PortSpec::default(); count], ..Default::default() })
        };
        assert_eq!(scan_as(START, &ports(1_000)), Ok(()));
        assert_eq!(many(scan_as(START, &ports(200_000))), [("spec.ports".to_owned(), 200_000, 1_000)]);
    }

    #[test]
    fn every_field_over_its_limit_is_named_maps_and_packed_numbers_too() {
        let annotations = (0..5_000).map(|n| (n.to_string(), String::new())).collect();
        let request = StartWorkspaceRequest {
            metadata: Some(WorkspaceMetadata { annotations, ..Default::default() }),
            spec: Some(StartWorkspaceSpec {
                feature_flags: vec![300; 101],
                ssh_public_keys: vec![String::new(); 1_001],
                ..Default::default()
            }),
            ..Default::default()
        };
        let mut found = many(scan_as(START, &request.encode_to_vec()));
        found.sort();
        let expected = [
            ("metadata.annotations", 5_000, 4_000),
            ("spec.feature_flags", 101, 100),
            ("spec.ssh_public_keys", 1_001, 1_000),
        ];
        assert_eq!(found, expected.map(|(name, found, limit)| (name.to_owned(), found, limit)));
        let keys = UpdateSshKeyRequest { keys: vec![String::new(); 1_001], ..Default::default() };
        let found = many(scan_as("/wsman.WorkspaceManager/UpdateSSHKey", &keys.encode_to_vec()));
        assert_eq!(found, [("keys".to_owned(), 1_001, 1_000)]);
    }

    #[test]
    fn elements_in_pieces_of_a_message_and_at_every_depth_count_together() {
        // A message may come in pieces, which decoders merge.
        let piece = start(StartWorkspaceSpec { ports: vec![PortSpec::default(); 600], ..Default::default() });
        let found = many(scan_as(START, &[piece.clone(), piece].concat()));
        assert_eq!(found, [("spec.ports".to_owned(), 1_200, 1_000)]);
        let eleven = CompositeInitializer { initializer: vec![nested(10); 10] };
        let initializer = Some(WorkspaceInitializer { spec: Some(Spec::Composite(eleven)) });
        let found = many(scan_as(START, &start(StartWorkspaceSpec { initializer, ..Default::default() })));
        assert_eq!((found[0].1, found[0].2), (110, 100), "{found:?}");
    }

    #[test]
    fn messages_nest_to_a_depth_and_no_deeper() {
        let request =
            |depth| start(StartWorkspaceSpec { initializer: Some(nested(depth)), ..Default::default() });
        assert_eq!(scan_as(START, &request(14)), Ok(()));
        let deep = scan_as(START, &request(15));
        assert!(matches!(deep, Err(Broken::Deep { .. })), "{deep:?}");
        // So deep that unbounded recursion would overflow the stack.
        let wrap = |key: u8, inner: &[u8]| {
            let mut outer = vec![key];
            prost::encoding::encode_varint(inner.len() as u64, &mut outer);
            outer.extend(inner);
            outer
        };
        let mut initializer = Vec::new();
        for _ in 0..5_000 {
            initializer = wrap(0x2a, &wrap(0x0a, &initializer));
        }
        let bytes = wrap(0x22, &wrap(0x22, &initializer));
        assert!(matches!(scan_as(START, &bytes), Err(Broken::Deep { .. })));
    }

    #[test]
    fn malformed_messages_are_rejected_and_unknown_fields_skipped() {
        for malformed in [&[0xff][..], &[0x0a, 0x05, 0x01], &[0x0b], &[0x0c], &[0x09, 0x00], &[0x0d], &[0x00]]
        {
            assert_eq!(scan_as(START, malformed), Err(Broken::Malformed), "{malformed:?}");
        }
        let mut unknown = Vec::new();
        prost::encoding::string::encode(4_000, &"x".to_owned(), &mut unknown);
        assert_eq!(scan_as(START, &unknown.repeat(10_000)), Ok(()));
        assert_eq!(scan_as(START, &[]), Ok(()));
    }

    proptest! {
        #[test]
        fn any_bytes_are_judged_and_what_passes_decodes_to_no_more_elements_than_the_limits(
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let judged = scan_as(START, &bytes);
            if let (Ok(()), Ok(request)) = (judged, StartWorkspaceRequest::decode(&*bytes)) {
                prop_assert!(request.spec.unwrap_or_default().feature_flags.len() <= 100);
            }
        }

        #[test]
        fn every_request_within_its_limits_passes(ports in 0..1_001_usize, flags in 0..101_usize, depth in 0..15_usize) {
            let spec = StartWorkspaceSpec {
                ports: vec![PortSpec { port: 8080, ..Default::default() }; ports],
                feature_flags: vec![7; flags],
                initializer: Some(nested(depth)),
                ..Default::default()
            };
            prop_assert_eq!(scan_as(START, &start(spec)), Ok(()));
        }
    }
}
