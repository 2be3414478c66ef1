//! The answer on the child's standard output: the length of a head (4 bytes, little-endian), the head (JSON), the artifact.

use std::io::{self, Write};

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt as _};

use super::{Compiled, Facts, Refusal};

/// The longest head that is read, in bytes (1 MiB).
const MAX_HEAD_BYTES: u32 = 1024 * 1024;

#[derive(Debug, Serialize, Deserialize)]
struct AnswerHead {
    verdict: Result<Facts, Refusal>,
    /// The number of bytes after the head.
    artifact_bytes: u64,
}

/// Writes an answer.
///
/// # Errors
///
/// The parent does not read.
pub(crate) fn write(output: &mut dyn Write, answer: Result<&Compiled, &Refusal>) -> io::Result<()> {
    let (verdict, artifact) = match answer {
        Ok(compiled) => (Ok(compiled.facts.clone()), &*compiled.artifact),
        Err(refusal) => (Err(refusal.clone()), [].as_slice()),
    };
    let head = serde_json::to_vec(&AnswerHead {
        verdict,
        artifact_bytes: u64::try_from(artifact.len()).unwrap_or(u64::MAX),
    })?;
    let length = u32::try_from(head.len()).map_err(io::Error::other)?;
    output.write_all(&length.to_le_bytes())?;
    output.write_all(&head)?;
    output.write_all(artifact)?;
    output.flush()
}

/// Reads an answer to the end of the stream. Never holds more than `max_artifact_bytes` and a head.
///
/// # Errors
///
/// The stream is not one whole answer.
///
/// # Cancel safety
///
/// Not safe: the part that was read is lost.
pub(crate) async fn read(
    input: &mut (impl AsyncRead + Unpin),
    max_artifact_bytes: u64,
) -> io::Result<Result<Compiled, Refusal>> {
    let bad = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what);
    let length = input.read_u32_le().await?;
    if length > MAX_HEAD_BYTES {
        return Err(bad("its head is too long"));
    }
    let mut head = Vec::new();
    input.take(length.into()).read_to_end(&mut head).await?;
    let AnswerHead {
        verdict,
        artifact_bytes,
    } = serde_json::from_slice(&head)?;
    if artifact_bytes > max_artifact_bytes {
        return Err(bad("its artifact is too long"));
    }
    let mut artifact = Vec::new();
    input.take(artifact_bytes).read_to_end(&mut artifact).await?;
    if u64::try_from(artifact.len()) != Ok(artifact_bytes) {
        return Err(bad("its artifact is cut short"));
    }
    if input.read(&mut [0]).await? != 0 {
        return Err(bad("it goes on behind its end"));
    }
    let artifact = artifact.into();
    Ok(verdict.map(|facts| Compiled { facts, artifact }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compiler::Toolchain;

    fn answer() -> Vec<u8> {
        let facts = Facts {
            core_module: true,
            toolchain: Toolchain::default(),
        };
        let artifact = vec![7; 1000].into();
        let mut written = Vec::new();
        write(&mut written, Ok(&Compiled { facts, artifact })).expect("memory can be written");
        written
    }

    #[tokio::test]
    async fn an_answer_is_read_as_it_was_written() {
        let compiled = read(&mut answer().as_slice(), 1000).await.unwrap().ok().unwrap();
        assert!(compiled.facts.core_module);
        assert_eq!(compiled.artifact, vec![7; 1000]);
        let (mut written, refusal) = (Vec::new(), Refusal::Invalid("because".to_owned()));
        write(&mut written, Err(&refusal)).unwrap();
        let refused = read(&mut written.as_slice(), 0).await.unwrap();
        assert_eq!(refused.err(), Some(refusal));
    }

    #[tokio::test]
    async fn an_answer_that_is_too_long_or_too_short_is_none() {
        let whole = answer();
        for end in 0..whole.len() {
            assert!(read(&mut &whole[..end], 1000).await.is_err(), "{end}");
        }
        assert!(read(&mut whole.as_slice(), 999).await.is_err());
        let longer = [whole.as_slice(), b"x"].concat();
        assert!(read(&mut longer.as_slice(), 1000).await.is_err());
        assert!(read(&mut [0xff; 100].as_slice(), 1000).await.is_err());
    }
}
