//! Judges requests by their bytes, before anything is built from them, and keeps large ones off the async threads.
//!
//! Decoding amplifies: an empty element is two bytes on the wire and a hundred in memory, and what checks it adds as much
//! again. So every repeated field has a limit of elements ([`counts`]), messages nest to a depth, and a message is decoded
//! only once its bytes keep to both. Behind [`super::access`]: a replica that passes a write on does not decode it.

mod counts;
mod layer;
mod pool;
mod scan;
mod schema;

use prost::Message as _;
use prost_types::FileDescriptorSet;
use tonic::Status;

use self::pool::Pool;
use self::scan::{Broken, DEPTH};
use self::schema::Schema;
use super::parse::Problems;
use proto::FILE_DESCRIPTOR_SET;

pub use self::layer::BoundsLayer;

/// Bytes of a message from which on it is decoded, parsed and answered away from the async threads. Below it the work
/// takes less than a millisecond.
const LARGE: usize = 64 * 1024;

/// What requests may hold, and where large ones are served.
#[derive(Debug)]
pub struct Bounds {
    schema: Schema,
    pool: Pool,
}

impl Bounds {
    /// `workers` is a small runtime for large requests alone.
    pub fn new(workers: tokio::runtime::Handle) -> Result<Self, prost::DecodeError> {
        let files = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET)?;
        Ok(Self { schema: Schema::new(&files), pool: Pool::new(workers) })
    }

    /// Whether a message may be decoded.
    fn check(&self, request: usize, message: &[u8]) -> Result<(), Status> {
        let broken = match scan::scan(&self.schema, request, message) {
            Ok(()) => return Ok(()),
            Err(broken) => broken,
        };
        let mut problems = Problems::default();
        match broken {
            Broken::Malformed => return Err(Status::invalid_argument("the request cannot be decoded")),
            Broken::Deep { field } => {
                problems.add(field, format_args!("must not nest more than {DEPTH} messages"));
            }
            Broken::Many(many) => {
                for many in many {
                    let rule =
                        format_args!("must have at most {} elements in all, got {}", many.limit, many.found)
                            .to_string();
                    problems.add(many.field, rule);
                }
            }
        }
        problems.finish(None)
    }
}
