use super::*;

/// What comes of `bytes` in one piece, and what is left of them.
fn whole(bytes: &[u8]) -> (Result<Option<Client>, HeaderError>, usize) {
    let mut input = bytes;
    let read = HeaderReader::default().receive(&mut input);
    (read, input.len())
}

fn at(text: &str) -> Client {
    Client::At(text.parse().expect("an address"))
}

/// A header of version 2, written by hand.
fn v2(version_and_command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let mut header = b"\x0D\x0A\x0D\x0A\x00\x0D\x0A\x51\x55\x49\x54\x0A".to_vec();
    header.extend([version_and_command, family]);
    header.extend(u16::try_from(rest.len()).expect("short").to_be_bytes());
    header.extend(rest);
    header
}

/// Headers, and who they say is there.
fn headers() -> Vec<(Vec<u8>, Client)> {
    let v4 = [192, 0, 2, 7, 198, 51, 100, 1, 0x1F, 0x90, 0x07, 0x8F];
    let mut v6 = [0; 36];
    v6[..4].copy_from_slice(&[0x20, 0x01, 0x0D, 0xB8]);
    v6[15] = 9;
    v6[32..].copy_from_slice(&[0xFF, 0xFF, 0x07, 0x8F]);
    let mut mapped = v6;
    mapped[..16].copy_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF, 192, 0, 2, 7]);
    let with_tlvs = [&v4[..], &[0x04, 0, 3, 0, 0, 0], &[0xEA, 0, 200], &[0xEA; 200]].concat();
    vec![
        (b"PROXY TCP4 192.0.2.7 198.51.100.1 8080 1935\r\n".to_vec(), at("192.0.2.7:8080")),
        (b"PROXY TCP6 2001:db8::9 2001:db8::1 65535 1935\r\n".to_vec(), at("[2001:db8::9]:65535")),
        (b"PROXY TCP6 ::ffff:192.0.2.7 ::1 0 1935\r\n".to_vec(), at("192.0.2.7:0")),
        (b"PROXY UNKNOWN\r\n".to_vec(), Client::Itself),
        (b"PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n".to_vec(), Client::Itself),
        (v2(0x21, 0x11, &v4), at("192.0.2.7:8080")),
        (v2(0x21, 0x11, &with_tlvs), at("192.0.2.7:8080")),
        (v2(0x21, 0x21, &v6), at("[2001:db8::9]:65535")),
        (v2(0x21, 0x21, &mapped), at("192.0.2.7:65535")),
        (v2(0x20, 0x00, &[]), Client::Itself),
        (v2(0x20, 0x11, &v4), Client::Itself),
        (v2(0x21, 0x00, &[]), Client::Itself),
        (v2(0x21, 0x31, &[b'/'; 216]), Client::Itself),
    ]
}

#[test]
fn headers_are_read_however_they_are_split_and_what_follows_is_left() {
    for (header, client) in headers() {
        let sent = [&header[..], b"\x03what follows"].concat();
        assert_eq!(whole(&sent), (Ok(Some(client)), 13), "{header:?}");
        for split in 0..=header.len() {
            let (first, mut second) = sent.split_at(split);
            let (mut reader, mut input) = (HeaderReader::default(), first);
            let mut read = reader.receive(&mut input).expect("sound");
            if read.is_none() {
                assert!(input.is_empty());
                read = reader.receive(&mut second).expect("sound");
            }
            assert_eq!((read, input.len() + second.len()), (Some(client), 13), "{header:?} at {split}");
        }
    }
}

#[test]
fn a_part_of_a_header_is_waited_for() {
    for (header, _) in headers() {
        for end in 0..header.len() {
            assert_eq!(whole(&header[..end]), (Ok(None), 0), "{header:?} to {end}");
        }
    }
}

#[test]
fn whoever_sends_no_header_is_known_by_the_first_byte_that_differs() {
    for (bytes, taken) in [
        (&b"\x03\0\0\0\0"[..], 1),
        (b"GET / HTTP/1.1\r\n", 1),
        (b"\x16\x03\x01\x02", 1),
        (b"PROXX TCP4", 5),
        (b"PROXY\tTCP4", 6),
        (b"\r\n\r\n\0\r\nQUIT\r", 12),
        (b"\r\n\r\n\r\n", 5),
    ] {
        assert_eq!(whole(bytes), (Err(HeaderError::Absent), bytes.len() - taken), "{bytes:?}");
    }
}

#[test]
fn broken_headers_are_refused() {
    let long = format!("PROXY UNKNOWN {}", "x".repeat(200));
    let longest = u16::try_from(PROXY_V2_BYTES_MAX).expect("short");
    for bytes in [
        b"PROXY TCP4 192.0.2.7 198.51.100.1 8080\r\n".to_vec(),
        b"PROXY TCP4 192.0.2.7 198.51.100.1 8080 1935 1\r\n".to_vec(),
        b"PROXY TCP4  192.0.2.7 198.51.100.1 8080 1935\r\n".to_vec(),
        b"PROXY TCP4 2001:db8::9 2001:db8::1 1 2\r\n".to_vec(),
        b"PROXY TCP6 192.0.2.7 198.51.100.1 1 2\r\n".to_vec(),
        b"PROXY TCP4 192.0.2.7 198.51.100.256 1 2\r\n".to_vec(),
        b"PROXY TCP4 192.0.2.7 198.51.100.1 65536 2\r\n".to_vec(),
        b"PROXY TCP4 192.0.2.7 198.51.100.1 +1 2\r\n".to_vec(),
        b"PROXY TCP4 192.0.2.7 198.51.100.1 01 2\r\n".to_vec(),
        b"PROXY UDP4 192.0.2.7 198.51.100.1 1 2\r\n".to_vec(),
        b"PROXY \r\n".to_vec(),
        b"PROXY TCP4 \xFF\r\n".to_vec(),
        long.into_bytes(),
        b"PROXY TCP4 0.0.0.0 198.51.100.1 8080 1935\r\n".to_vec(),
        b"PROXY TCP6 :: ::1 0 1935\r\n".to_vec(),
        b"PROXY TCP6 ::ffff:0.0.0.0 ::1 0 1935\r\n".to_vec(),
        v2(0x21, 0x11, &[0; 12]),
        v2(0x21, 0x21, &[0; 36]),
        v2(0x11, 0x11, &[0; 12]),
        v2(0x22, 0x11, &[0; 12]),
        v2(0x21, 0x11, &[0; 11]),
        v2(0x21, 0x11, &[0; 3]),
        v2(0x21, 0x21, &[0; 35]),
        v2(0x21, 0x11, &[192, 0, 2, 7, 198, 51, 100, 1, 0, 1, 0, 2, 4, 0]),
        v2(0x21, 0x11, &[192, 0, 2, 7, 198, 51, 100, 1, 0, 1, 0, 2, 4, 0, 1]),
        [&v2(0x21, 0x11, &[])[..14], &longest.to_be_bytes()].concat(),
    ] {
        assert!(matches!(whole(&bytes).0, Err(HeaderError::Broken(_))), "{:?}", String::from_utf8_lossy(&bytes));
    }
}

/// Whichever byte of it is another.
#[test]
fn a_header_with_a_wrong_checksum_is_refused() {
    assert_eq!(crc32c(b"123456789".iter()), 0xE306_9283);
    let addresses = [192, 0, 2, 7, 198, 51, 100, 1, 0x1F, 0x90, 0x07, 0x8F];
    let unique_id = [5, 0, 2, 0xAB, 0xCD];
    let mut header = v2(0x21, 0x11, &[&addresses[..], &unique_id, &[3, 0, 4, 0, 0, 0, 0], &unique_id].concat());
    let place = V2_FIXED_BYTES + addresses.len() + unique_id.len() + 3;
    let sum = crc32c(header.iter()).to_be_bytes();
    header[place..place + 4].copy_from_slice(&sum);
    assert_eq!(whole(&header), (Ok(Some(at("192.0.2.7:8080"))), 0));
    // But the byte that says that it is one.
    for byte in (V2_FIXED_BYTES..header.len()).filter(|byte| *byte != place - 3) {
        let mut broken = header.clone();
        broken[byte] ^= 1;
        assert!(matches!(whole(&broken).0, Err(HeaderError::Broken(_))), "byte {byte}");
    }
}

#[test]
fn a_line_may_have_107_bytes() {
    let line = |bytes: usize| format!("PROXY UNKNOWN {}\r\n", "x".repeat(bytes - 16)).into_bytes();
    assert_eq!(whole(&line(107)).0, Ok(Some(Client::Itself)));
    assert!(matches!(whole(&line(108)).0, Err(HeaderError::Broken(_))));
}

#[test]
fn what_is_written_is_read() {
    for (source, destination) in [
        ("192.0.2.7:8080", "198.51.100.1:1935"),
        ("[2001:db8::9]:1", "[2001:db8::1]:1935"),
        ("192.0.2.7:8080", "[2001:db8::1]:1935"),
        ("[2001:db8::9]:1", "198.51.100.1:1935"),
    ] {
        let header = version_2(Some((source.parse().unwrap(), destination.parse().unwrap())));
        assert_eq!(whole(&header), (Ok(Some(at(source))), 0));
    }
    assert_eq!(whole(&version_2(None)), (Ok(Some(Client::Itself)), 0));
}
