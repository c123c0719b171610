//! A PROXY header: the same address comes of it however it is split, what follows it is left, and nothing is taken without end.

use shardcast::{
    limits::{PROXY_V1_BYTES_MAX, PROXY_V2_BYTES_MAX},
    shard::proxy_header::{Client, HeaderError, HeaderReader, version_2},
};

pub fn run(data: &[u8]) {
    let (whole, taken) = read([data]);
    assert!(taken <= PROXY_V1_BYTES_MAX.max(PROXY_V2_BYTES_MAX), "{taken} bytes");
    for split in 0..=data.len().min(64) {
        let (first, second) = data.split_at(split);
        assert_eq!(read([first, second]), (whole, taken), "split at {split}");
    }
    assert_eq!(read(data.chunks(1)), (whole, taken), "byte by byte");
    if let Ok(Some(Client::At(client))) = whole {
        let (again, _) = read([&version_2(Some((client, client)))[..]]);
        assert_eq!(again, whole, "what is read can be written");
    }
}

/// What comes of the pieces, and how many bytes are the header's.
fn read<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Result<Option<Client>, HeaderError>, usize) {
    let (mut reader, mut taken) = (HeaderReader::default(), 0);
    for piece in pieces {
        let mut input = piece;
        let read = reader.receive(&mut input);
        taken += piece.len() - input.len();
        if read != Ok(None) {
            return (read, taken);
        }
    }
    (Ok(None), taken)
}
