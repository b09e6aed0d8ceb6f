//! Codec of the workspace API's server: prost's, but it allocates the buffer of a response once. A list of thousands takes
//! megabytes, and a growing buffer would copy them repeatedly.

use std::marker::PhantomData;

use prost::Message;
use tonic::Status;
use tonic::codec::{BufferSettings, Codec, EncodeBuf, Encoder};
use tonic_prost::ProstCodec;

/// Codec for responses of type `T` to requests of type `U`.
#[derive(Debug, Clone)]
pub struct Reserving<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for Reserving<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for Reserving<T, U>
where
    T: Message + 'static,
    U: Message + Default + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ReservingEncoder<T>;
    type Decoder = <ProstCodec<T, U> as Codec>::Decoder;

    fn encoder(&mut self) -> Self::Encoder {
        ReservingEncoder(PhantomData)
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstCodec::<T, U>::raw_decoder(BufferSettings::default())
    }
}

/// Encodes responses.
#[derive(Debug, Clone)]
pub struct ReservingEncoder<T>(PhantomData<T>);

impl<T: Message> Encoder for ReservingEncoder<T> {
    type Item = T;
    type Error = Status;

    fn encode(&mut self, item: T, buf: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buf.reserve(item.encoded_len());
        item.encode_raw(buf);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use futures::stream;
    use http_body_util::BodyExt;
    use tonic::codec::{EncodeBody, SingleMessageCompressionOverride};

    use super::*;
    use crate::wsman::GetWorkspacesResponse;

    #[tokio::test]
    async fn answers_of_any_length_are_framed_one_after_the_other() {
        let answers = [0, 1, 9_000, 300_000].map(|length| GetWorkspacesResponse {
            next_page_token: "x".repeat(length),
            ..GetWorkspacesResponse::default()
        });
        let encoder = Reserving::<GetWorkspacesResponse, ()>::default().encoder();
        let messages = stream::iter(answers.clone().map(Ok));
        let body = EncodeBody::new_server(
            encoder,
            messages,
            None,
            SingleMessageCompressionOverride::default(),
            None,
        );
        let mut bytes = body.collect().await.unwrap().to_bytes();
        for answer in answers {
            let header = bytes.split_to(5);
            let length = usize::try_from(u32::from_be_bytes(header[1..].try_into().unwrap())).unwrap();
            assert_eq!(GetWorkspacesResponse::decode(bytes.split_to(length)).unwrap(), answer);
        }
        assert!(bytes.is_empty());
    }
}
