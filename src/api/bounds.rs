//! Checks the encoded request before it is decoded, and serves large requests on their own threads.
//!
//! Decoding amplifies: an empty element is two bytes on the wire and a hundred in memory, and validation doubles that.
//! So every repeated field has a limit of elements ([`counts`]) and nesting has a limit; only a message within both is
//! decoded. This runs behind [`super::access`]: a replica that forwards a write does not decode it.

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

/// From this size on a message is decoded, parsed and answered off the async threads. Smaller ones take less than 1 ms.
const LARGE: usize = 64 * 1024;

/// Limits of requests, and the threads for large ones.
#[derive(Debug)]
pub struct Bounds {
    schema: Schema,
    pool: Pool,
}

impl Bounds {
    /// `workers` is a small runtime that serves only large requests.
    pub fn new(workers: tokio::runtime::Handle) -> Result<Self, prost::DecodeError> {
        let files = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET)?;
        Ok(Self { schema: Schema::new(&files), pool: Pool::new(workers) })
    }

    /// Checks the limits of one encoded message.
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
