//! The stored form of processed messages: one row per segment, its keys packed, with a checksum.

use super::ProcessedMessageKey;

/// Messages that were noted in one go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ProcessedSegment {
    /// Unique in the store, and ascending.
    pub(crate) number: u64,
    /// When the newest of them was noted.
    pub(crate) noted_ms: u64,
    /// The messages, in the order noted.
    pub(crate) keys: Vec<ProcessedMessageKey>,
}

/// A row of the table of segments.
#[derive(Debug)]
pub(crate) struct StoredSegment {
    pub(crate) number: u64,
    pub(crate) noted_ms: u64,
    pub(crate) checksum: i64,
    /// The keys, one behind another.
    pub(crate) keys: Vec<u8>,
}

impl ProcessedSegment {
    /// Returns the row of this segment.
    pub(crate) fn encode(&self) -> StoredSegment {
        let mut keys = Vec::with_capacity(self.keys.len() * ProcessedMessageKey::LEN);
        for key in &self.keys {
            keys.extend_from_slice(&key.0);
        }
        StoredSegment {
            number: self.number,
            noted_ms: self.noted_ms,
            checksum: checksum(self.number, self.noted_ms, &keys),
            keys,
        }
    }

    /// Returns the segment of a row, or a text for people about the damage.
    pub(crate) fn decode(stored: &StoredSegment) -> Result<Self, String> {
        let number = stored.number;
        let noted_ms = stored.noted_ms;
        let (keys, rest) = stored.keys.as_chunks();
        if keys.is_empty() || !rest.is_empty() {
            return Err(format!("it has {} bytes of keys", stored.keys.len()));
        }
        let computed = checksum(number, noted_ms, &stored.keys);
        if computed != stored.checksum {
            return Err(format!("its checksum is {computed}, not {} as stored", stored.checksum));
        }
        Ok(Self {
            number,
            noted_ms,
            keys: keys.iter().copied().map(ProcessedMessageKey).collect(),
        })
    }
}

fn checksum(number: u64, noted_ms: u64, keys: &[u8]) -> i64 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&number.to_le_bytes());
    hasher.update(&noted_ms.to_le_bytes());
    hasher.update(keys);
    hasher.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment() -> ProcessedSegment {
        ProcessedSegment {
            number: 7,
            noted_ms: 1_700_000_000_000,
            keys: vec![ProcessedMessageKey([1; 16]), ProcessedMessageKey([2; 16])],
        }
    }

    #[test]
    fn a_row_says_what_the_segment_said() {
        assert_eq!(ProcessedSegment::decode(&segment().encode()).unwrap(), segment());
    }

    #[test]
    fn every_flipped_bit_of_a_row_is_noticed() {
        for bit in 0..32 * 8 {
            let mut row = segment().encode();
            row.keys[bit / 8] ^= 1 << (bit % 8);
            assert!(ProcessedSegment::decode(&row).is_err(), "bit {bit} of the keys");
        }
        for bit in 0..63 {
            let mut number = segment().encode();
            let mut noted = segment().encode();
            let mut checksum = segment().encode();
            number.number ^= 1 << bit;
            noted.noted_ms ^= 1 << bit;
            checksum.checksum ^= 1 << bit;
            for row in [number, noted, checksum] {
                assert!(ProcessedSegment::decode(&row).is_err(), "bit {bit} of {row:?}");
            }
        }
    }

    #[test]
    fn a_row_of_any_other_length_is_damaged() {
        for length in 0..32 {
            let mut row = segment().encode();
            row.keys.truncate(length);
            // Even with a right checksum: half a key is no key, and a segment without keys is never written.
            row.checksum = checksum(row.number, row.noted_ms, &row.keys);
            assert_eq!(ProcessedSegment::decode(&row).is_ok(), length == 16, "{length} bytes");
        }
    }
}
